"""The optimizer and the lr scheduler that settings ask every phase after the first to start with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from phasewire.adapters.errors import ScheduleError
from phasewire.app.config_file import key_path
from phasewire.app.schedule.model import LRSchedulerReinit, OptimizerReinit
from phasewire.app.schedule.problems import ScheduleFormError
from phasewire.app.schedule.reinit import check_lr_scheduler, check_optimizer
from phasewire.app.settings_problems import Problem

if TYPE_CHECKING:
    from phasewire.app.schedule.resolved import ResolvedSchedule
    from phasewire.app.settings import SchedulerSettings

__all__ = ["reinit_problems", "with_reinit_settings"]


def reinit_problems(section: object) -> Iterator[Problem]:
    """Check the form of ``reinit_optim_cfg`` and ``reinit_lr_cfg``.

    Args:
        section: The settings of the scheduler, as they were given.

    Yields:
        What is wrong, each with the keys that lead to it in the section.
    """
    for setting, read in _READERS.items():
        given = section.get(setting) if isinstance(section, Mapping) else None
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            continue
        try:
            read(given)
        except ScheduleFormError as error:
            for keys, text in error.mistakes:
                yield Problem((setting, *keys), text)
        except ScheduleError as error:
            yield Problem((setting,), error.problem, error.remedy)


def with_reinit_settings(schedule: ResolvedSchedule, settings: SchedulerSettings) -> ResolvedSchedule:
    """Let every phase after the first start with what the settings ask for, whatever the phase itself asks for.

    That the settings come before the keys of a phase is the behaviour of FTS.

    Args:
        schedule: The resolved schedule.
        settings: The settings of the scheduler.

    Returns:
        The schedule; with a warning for each key of a phase that a setting takes the place of.

    Raises:
        ScheduleError: A class cannot be imported, is of the wrong kind, or does not take the arguments.
    """
    optimizer = None if settings.reinit_optim_cfg is None else OptimizerReinit(**settings.reinit_optim_cfg)
    lr_scheduler = None if settings.reinit_lr_cfg is None else _lr_scheduler(settings.reinit_lr_cfg)
    if optimizer is not None:
        check_optimizer(optimizer, partial(_where, "reinit_optim_cfg"))
    if lr_scheduler is not None:
        check_lr_scheduler(lr_scheduler, partial(_where, "reinit_lr_cfg"))
    return schedule.starting_anew(optimizer=optimizer, lr_scheduler=lr_scheduler)


# Any: a configuration holds whatever YAML can.
def _lr_scheduler(given: Mapping[str, Any]) -> LRSchedulerReinit:
    reinit = LRSchedulerReinit(**given)
    if reinit.init_pg_lrs is not None:
        raise ScheduleError(
            "init_pg_lrs gives a learning rate for every parameter group there is, and each phase has more groups than "
            "the one before, so it cannot be set for all phases at once.",
            remedy="Put new_lr_scheduler with init_pg_lrs into the phases of the schedule.",
        )
    return reinit


# Any: as above.
_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], object]]] = {
    "reinit_optim_cfg": lambda given: OptimizerReinit(**given),
    "reinit_lr_cfg": _lr_scheduler,
}


def _where(setting: str, keys: Sequence[str | int]) -> str:
    return f"FinetuningScheduler, {key_path((setting, *keys))}"
