"""The default schedule: two parameters a phase, last layers first."""

from __future__ import annotations

from collections.abc import Sequence

from phasewire.adapters.errors import ScheduleError
from phasewire.app.schedule.model import Phase, Schedule

__all__ = ["generate_default"]

_PARAMS_PER_PHASE = 2


def generate_default(names: Sequence[str]) -> Schedule:
    """Make the schedule that is used when none is given.

    Args:
        names: The names of the parameters, in registration order.

    Returns:
        Two names a phase, from the last name to the first; one that is left over is alone in the last phase.

    Raises:
        ScheduleError: There are no names.
    """
    if not names:
        raise ScheduleError(
            "There is no parameter to make a schedule for.",
            remedy="Build the module's layers in its constructor, in setup, or in configure_model.",
        )
    backwards = tuple(reversed(names))
    return Schedule(
        phases=tuple(
            Phase(params=backwards[start : start + _PARAMS_PER_PHASE])
            for start in range(0, len(backwards), _PARAMS_PER_PHASE)
        )
    )
