"""Whether a schedule that is written out in a configuration has the form of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from phasewire.adapters.errors import ScheduleError
from phasewire.app.schedule.model import Schedule
from phasewire.app.schedule.problems import ScheduleFormError
from phasewire.app.schedule.values import phase_number
from phasewire.app.settings_problems import Problem

__all__ = ["schedule_problems"]


def schedule_problems(section: object) -> Iterator[Problem]:
    """Check the form of the schedule in the ``scheduler`` section.

    Args:
        section: The section. A schedule in a file of its own is left to whoever reads it.

    Yields:
        What is wrong, each at its own keys where they are known.
    """
    schedule = section.get("ft_schedule") if isinstance(section, Mapping) else None
    if not isinstance(schedule, Mapping):
        return
    heading = ("scheduler", "ft_schedule")
    try:
        Schedule.from_mapping(schedule)
    except ScheduleFormError as error:
        # Locations count the phases in the order of their numbers.
        as_given = [key for _, key in sorted((phase_number(key), key) for key in schedule)]
        for (_, index, *keys), text in error.mistakes:
            yield Problem((*heading, as_given[int(index)], *keys), text)
        if left_out := error.count - len(error.mistakes):
            yield Problem(heading, f"The schedule has {left_out:,} more mistakes.")
    except ScheduleError as error:
        text = f"{error.where}: {error.problem}" if error.where else error.problem
        yield Problem(heading, text, error.remedy)
