"""How phases are numbered: from 0, without gaps, no number twice; and how wrong numbers are repaired."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from phasewire.adapters.errors import ScheduleError
from phasewire.app.config_file import dump_yaml
from phasewire.app.schedule.problems import joined
from phasewire.app.schedule.values import kind_of, phase_number, shortened

if TYPE_CHECKING:
    from phasewire.app.schedule.model import Schedule
    from phasewire.app.schedule.places import Places

__all__ = ["PhaseNumberError", "ordered_phases", "require_contiguous"]

_MOST_PHASES_PROPOSED = 6
_MOST_PARAMS_PROPOSED = 4


class PhaseNumberError(ScheduleError):
    """The phases are not numbered 0, 1, 2, ...; the schedule with right numbers is at hand.

    Args:
        problem: As for every error of Phasewire.
        repaired: The same phases in the same order, numbered from 0 without gaps.
        where: As for every error of Phasewire.
        remedy: As for every error of Phasewire.
    """

    def __init__(self, problem: str, *, repaired: Schedule, where: str | None, remedy: str) -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.repaired = repaired


def ordered_phases(mapping: Mapping[Hashable, object], places: Places) -> dict[int, object]:
    """Read the keys of a schedule.

    Args:
        mapping: Phase number to phase, the number as an integer, an integral float, or text of decimal digits.
        places: Where things stand.

    Returns:
        Number to phase in the order of the numbers, which may still have gaps.

    Raises:
        ScheduleError: There is no phase, a key is no number, or two keys are the same number.
    """
    keys: dict[int, Hashable] = {}
    for key in mapping:
        number = phase_number(key)
        if number is None:
            raise ScheduleError(
                f"The key {shortened(key)} is {kind_of(key)}, and the number of a phase is expected.",
                where=places.key(key),
                remedy="Number the phases 0, 1, 2, ..., and put everything else under one of them.",
            )
        if number in keys:
            first = places.key(keys[number])
            raise ScheduleError(
                f"The keys {keys[number]!r} and {key!r} are both the number of phase {number}"
                f"{f'; the first is in {first}' if first else ''}.",
                where=places.key(key),
                remedy="Give each phase a number of its own.",
            )
        keys[number] = key
    if not keys:
        raise ScheduleError(
            "The schedule has no phases.", where=places.whole(), remedy="Give at least '0: {params: [...]}'."
        )
    return {number: mapping[keys[number]] for number in sorted(keys)}


def require_contiguous(schedule: Schedule, places: Places) -> None:
    """Refuse phases that are not numbered from 0 without gaps.

    Args:
        schedule: The schedule.
        places: Where things stand.

    Raises:
        PhaseNumberError: They are not; the error carries and shows the repaired schedule.
    """
    if schedule.depths == tuple(range(len(schedule.depths))):
        return
    wrong = next(number for at, number in enumerate(schedule.depths) if at != number)
    raise PhaseNumberError(
        f"The phases have the numbers {joined(schedule.depths)}; they must begin with 0 and have no gaps.",
        repaired=schedule.renumbered(),
        where=places.phase(wrong),
        remedy=f"Number them in order:\n\n{_proposal(schedule)}",
    )


def _proposal(schedule: Schedule) -> str:
    """The repaired schedule as YAML, long ones only in part."""
    numbered = list(enumerate(zip(schedule.depths, schedule.phases, strict=True)))
    left_out = len(numbered) - _MOST_PHASES_PROPOSED
    if left_out > 0:
        del numbered[_MOST_PHASES_PROPOSED - 1 : -1]
    parts = []
    for number, (was, phase) in numbered:
        if left_out > 0 and number == len(schedule.phases) - 1:
            parts.append(f"# ... {left_out:,} more phases ...\n")
        content = phase.to_dict()
        params, content["params"] = content["params"], content["params"][:_MOST_PARAMS_PROPOSED]
        text = dump_yaml({number: content})
        if was != number:
            text = text.replace(":\n", f":  # was {was}\n", 1)
        if len(params) > _MOST_PARAMS_PROPOSED:
            text = text.replace("params:\n", f"params:  # the first {_MOST_PARAMS_PROPOSED} of {len(params):,}\n", 1)
        parts.append(text)
    return "".join(parts)
