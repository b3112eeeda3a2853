"""The default schedule: two parameters a phase, last layers first."""

from __future__ import annotations

from collections.abc import Sequence

from phasewire.app.schedule.model import Phase, Schedule
from phasewire.app.schedule.problems import nothing_to_schedule

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
        raise nothing_to_schedule()
    backwards = tuple(reversed(names))
    return Schedule(
        phases=tuple(
            Phase(params=backwards[start : start + _PARAMS_PER_PHASE])
            for start in range(0, len(backwards), _PARAMS_PER_PHASE)
        )
    )
