"""Which pattern of a schedule matches which names: everything, also what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

from phasewire.adapters.errors import ScheduleError
from phasewire.app.schedule.name_groups import NameGroups
from phasewire.app.schedule.patterns import PatternMatcher
from phasewire.app.schedule.places import Places

if TYPE_CHECKING:
    from phasewire.adapters.name_rules import NameRules
    from phasewire.app.schedule.model import Schedule

__all__ = ["ExplainedPattern", "Explanation", "explain_schedule"]


@dataclass(frozen=True, slots=True)
class ExplainedPattern:
    """One pattern, and what it matches."""

    depth: int
    """The number of the phase."""
    index: int
    """Its place in the phase."""
    pattern: str
    """As it stands in the schedule."""
    is_name: bool
    """Whether it is the full name of a parameter, which takes that parameter alone."""
    names: tuple[str, ...]
    """The parameters that it matches, in the order of registration."""
    second_names: tuple[str, ...] = ()
    """Second names of tied parameters that it matches, which are left out."""
    problem: str | None = None
    """Why it matches nothing, where it does not."""


@dataclass(frozen=True)
class Explanation:
    """What the patterns of a schedule match."""

    patterns: tuple[ExplainedPattern, ...]
    """All patterns in order."""
    depths: tuple[int, ...]
    """The numbers of the phases."""
    names: tuple[str, ...]
    """All names that a schedule may use."""
    thawed_along: Mapping[str, int] = field(default_factory=dict)
    """Names that no pattern matches and that are thawed with others, to the phase."""
    places: Places = field(default_factory=Places, repr=False, compare=False)
    """Where the patterns stand."""

    @cached_property
    def takers(self) -> dict[str, list[ExplainedPattern]]:
        """Name to the patterns that match it."""
        found: dict[str, list[ExplainedPattern]] = {}
        for pattern in self.patterns:
            for name in pattern.names:
                found.setdefault(name, []).append(pattern)
        return found

    @property
    def never_thawed(self) -> list[str]:
        """The names that no phase thaws."""
        return [name for name in self.names if name not in self.takers and name not in self.thawed_along]

    @cached_property
    def groups(self) -> NameGroups:
        """Puts the names together."""
        return NameGroups(self.names)

    def of_phase(self, depth: int) -> Sequence[ExplainedPattern]:
        """Give the patterns of a phase.

        Args:
            depth: Its number.

        Returns:
            The patterns in order.
        """
        return self._of_phases.get(depth, ())

    def along_with(self, depth: int) -> Sequence[str]:
        """Give what is thawed with others in a phase.

        Args:
            depth: Its number.

        Returns:
            Names that no pattern matches.
        """
        return self._along_with.get(depth, ())

    @cached_property
    def _of_phases(self) -> dict[int, list[ExplainedPattern]]:
        found: dict[int, list[ExplainedPattern]] = {}
        for pattern in self.patterns:
            found.setdefault(pattern.depth, []).append(pattern)
        return found

    @cached_property
    def _along_with(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name, depth in self.thawed_along.items():
            found.setdefault(depth, []).append(name)
        return found


def explain_schedule(schedule: Schedule, names: Mapping[str, object], rules: NameRules) -> Explanation:
    """Match every pattern of a schedule, whatever is wrong with others.

    Args:
        schedule: The schedule.
        names: The names that a schedule may use, in the order of registration.
        rules: What else holds for the names.

    Returns:
        What each pattern matches.
    """
    matcher = PatternMatcher(names, rules.second_names, rules.refused)
    places = Places(schedule.file)
    patterns = tuple(
        _explained(matcher, depth, index, pattern, names)
        for depth, phase in zip(schedule.depths, schedule.phases, strict=True)
        for index, pattern in enumerate(phase.params)
    )
    explained = Explanation(patterns, schedule.depths, tuple(name for name in names if name not in matcher.aliases))
    along: dict[str, int] = {}
    for pattern in patterns:
        for name in pattern.names:
            for other in rules.thawed_along.get(name, ()):
                if other not in explained.takers:
                    along.setdefault(other, pattern.depth)
    return Explanation(patterns, schedule.depths, explained.names, along, places)


def _explained(
    matcher: PatternMatcher, depth: int, index: int, pattern: str, names: Mapping[str, object]
) -> ExplainedPattern:
    explained = partial(ExplainedPattern, depth, index, pattern, pattern in names or pattern in matcher.aliases)
    try:
        match = matcher.match(pattern, lambda: "")
    except ScheduleError as error:
        return explained((), problem=error.problem)
    return explained(tuple(match.names), tuple(match.aliases))
