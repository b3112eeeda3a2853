"""Checks of the optimizers and lr schedulers that a schedule asks for, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phasewire.adapters.errors import ConfigError, ScheduleError
from phasewire.app.class_path import check_arguments, import_attribute
from phasewire.app.schedule.values import shortened

if TYPE_CHECKING:
    from phasewire.app.schedule.model import ClassInit, Schedule
    from phasewire.app.schedule.places import Places

__all__ = ["check_reinit"]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A class that a phase asks for."""

    init: ClassInit
    base: type
    depth: int
    keys: tuple[str, str]


def check_reinit(schedule: Schedule, places: Places) -> None:
    """Check the classes and arguments of all new optimizers and lr schedulers. None is constructed.

    Args:
        schedule: The schedule.
        places: Where things stand.

    Raises:
        ScheduleError: A class path does not import, names no optimizer or lr scheduler, or the class does not take the
            arguments.
    """
    for wanted in _wanted(schedule):
        _check_arguments(wanted, _imported(wanted, places), places)


def _wanted(schedule: Schedule) -> Iterator[_Wanted]:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    for depth, phase in enumerate(schedule.phases):
        if phase.new_optimizer is not None:
            init = phase.new_optimizer.optimizer_init
            yield _Wanted(init, Optimizer, depth, ("new_optimizer", "optimizer_init"))
        if phase.new_lr_scheduler is not None:
            init = phase.new_lr_scheduler.lr_scheduler_init
            yield _Wanted(init, LRScheduler, depth, ("new_lr_scheduler", "lr_scheduler_init"))


def _imported(wanted: _Wanted, places: Places) -> type:
    path, keys = wanted.init.class_path, (*wanted.keys, "class_path")
    try:
        named = import_attribute(path)
    except ConfigError as error:
        place = places.phase(wanted.depth, *keys)
        raise ScheduleError(error.problem, where=place, remedy=error.remedy) from error
    if not isinstance(named, type) or not issubclass(named, wanted.base):
        base = f"{wanted.base.__module__}.{wanted.base.__qualname__}"
        raise ScheduleError(
            f"{path!r} is {shortened(named)}, and a subclass of {base} is expected.",
            where=places.phase(wanted.depth, *keys),
            remedy="Name such a class.",
        )
    return named


def _check_arguments(wanted: _Wanted, named: type, places: Places) -> None:
    # The first argument, parameters or optimizer, is given when the phase begins: the partial's signature lacks it.
    rest = partial(named, None)
    try:
        check_arguments(
            rest,
            named.__name__,
            wanted.init.init_args,
            keys=(*wanted.keys, "init_args"),
            locate=lambda keys: places.phase(wanted.depth, *keys),
        )
    except ConfigError as error:
        raise ScheduleError(error.problem, where=error.where, remedy=error.remedy) from error
