"""Checks of the optimizers and lr schedulers that phases start with, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phasewire.adapters.errors import ConfigError, ScheduleError
from phasewire.app.class_path import OnlyClasses, check_arguments, import_attribute, resolve, with_classes
from phasewire.app.schedule.values import shortened

if TYPE_CHECKING:
    from phasewire.app.config_file import Locate
    from phasewire.app.schedule.model import ClassInit, LRSchedulerReinit, OptimizerReinit, Schedule
    from phasewire.app.schedule.places import Places

__all__ = ["check_lr_scheduler", "check_optimizer", "check_reinit", "named_in_arguments"]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A class that a phase starts with."""

    init: ClassInit
    base: type
    key: str
    locate: Locate

    def where(self, *keys: str | int) -> str | None:
        return self.locate((self.key, *keys)) or None


def check_reinit(schedule: Schedule, places: Places) -> None:
    """Check the classes and arguments of all new optimizers and lr schedulers. None is constructed.

    Args:
        schedule: The schedule.
        places: Where things stand.

    Raises:
        ScheduleError: A class path does not import, names no optimizer or lr scheduler, or the class does not take the
            arguments.
    """
    for depth, phase in enumerate(schedule.phases):
        if phase.new_optimizer is not None:
            check_optimizer(phase.new_optimizer, _below(places, depth, "new_optimizer"))
        if phase.new_lr_scheduler is not None:
            check_lr_scheduler(phase.new_lr_scheduler, _below(places, depth, "new_lr_scheduler"))


def check_optimizer(reinit: OptimizerReinit, locate: Locate) -> None:
    """Check the class and the arguments of a new optimizer. It is not constructed.

    Args:
        reinit: The optimizer.
        locate: Tells the place of a key in it.

    Raises:
        ScheduleError: As for :func:`check_reinit`.
    """
    from torch.optim import Optimizer

    _check(_Wanted(reinit.optimizer_init, Optimizer, "optimizer_init", locate))


def check_lr_scheduler(reinit: LRSchedulerReinit, locate: Locate) -> None:
    """Check the class and the arguments of a new lr scheduler. It is not constructed.

    Args:
        reinit: The lr scheduler.
        locate: Tells the place of a key in it.

    Raises:
        ScheduleError: As for :func:`check_reinit`.
    """
    from torch.optim.lr_scheduler import LRScheduler

    _check(_Wanted(reinit.lr_scheduler_init, LRScheduler, "lr_scheduler_init", locate))


def named_in_arguments() -> OnlyClasses:
    """Tell what the arguments of an optimizer or an lr scheduler may name.

    A schedule comes from anywhere, so that what it names must not be able to do more than a schedule can.

    Returns:
        Optimizers and lr schedulers.
    """
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    return OnlyClasses(
        (Optimizer, LRScheduler),
        "Of classes, the arguments of an optimizer or an lr scheduler name only optimizers and lr schedulers",
        "Give plain values. For another object, name a subclass of your own, which makes it from plain values.",
    )


def _below(places: Places, depth: int, key: str) -> Locate:
    def locate(keys: Sequence[str | int]) -> str:
        return places.phase(depth, key, *keys)

    return locate


def _check(wanted: _Wanted) -> None:
    named = _imported(wanted)
    # The first argument, parameters or optimizer, is given when the phase begins: the partial's signature lacks it.
    rest = partial(named, None)
    try:
        check_arguments(
            rest,
            named.__name__,
            wanted.init.init_args,
            keys=(wanted.key, "init_args"),
            locate=wanted.locate,
        )
        keys, only = (wanted.key, "init_args"), named_in_arguments()
        named_too = with_classes(rest, wanted.init.init_args, keys=keys, locate=wanted.locate, only=only)
        resolve(named_too, keys=keys, locate=wanted.locate, only=only)
    except ConfigError as error:
        raise ScheduleError(error.problem, where=error.where, remedy=error.remedy) from error


def _imported(wanted: _Wanted) -> type:
    path, where = wanted.init.class_path, wanted.where("class_path")
    try:
        named = import_attribute(path)
    except ConfigError as error:
        raise ScheduleError(error.problem, where=where, remedy=error.remedy) from error
    if not isinstance(named, type) or not issubclass(named, wanted.base):
        base = f"{wanted.base.__module__}.{wanted.base.__qualname__}"
        raise ScheduleError(
            f"{path!r} is {shortened(named)}, and a subclass of {base} is expected.",
            where=where,
            remedy="Name such a class.",
        )
    return named
