"""Which parameters a pattern of a schedule takes."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Final, NamedTuple

from phasewire.adapters.errors import ScheduleError, did_you_mean
from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.adapters.name_patterns import NamePattern, name_pattern
from phasewire.app.schedule.name_index import NameIndex
from phasewire.app.schedule.problems import joined

__all__ = ["Match", "PatternMatcher"]

#: Characters that stand for something else in a regular expression; without them a pattern can be compared with names.
_SYNTAX: Final = re.compile(r"[\\^$*+?()\[\]{}|]")

_NONE_REFUSED: Final[Mapping[str, str]] = MappingProxyType({})

#: A name is compared in full with no more names than this: comparing with 100,000 takes seconds.
_MOST_COMPARED = 200


class Match(NamedTuple):
    """What a pattern takes. A tuple, because it is made for every name of a schedule and costs a fraction then."""

    names: Sequence[str]
    """Names of parameters, in registration order."""
    aliases: Sequence[str] = ()
    """Second names of tied parameters."""


class PatternMatcher:
    """Finds the parameters that patterns take.

    A full name costs one look-up, a regular expression one match with every name that has its literal beginning.

    The names of a part that ``torch.compile`` wrapped can be given as they are and as they were before, so that one
    schedule fits the module compiled and not compiled.

    Args:
        names: The names of the parameters, in registration order.
        shared_names: Second name of a tied parameter to the name it is registered under.
        refused: Names that cannot be asked for, to the reason.
    """

    # object: only the names matter.
    def __init__(
        self,
        names: Mapping[str, object],
        shared_names: Mapping[str, str],
        refused: Mapping[str, str] = _NONE_REFUSED,
    ) -> None:
        self._names = names
        self._refused = refused
        # An adapter may know a tied parameter by its second name alone; that is then its name.
        self.aliases = {
            alias: registered for alias, registered in shared_names.items() if alias not in names or registered in names
        }

    def match(self, pattern: str, where: Callable[[], str]) -> Match:
        """Find what a pattern takes.

        Args:
            pattern: A full name, which takes that parameter alone; or else a regular expression, matched from the start
                of every name.
            where: Describes the pattern's place, for an error.

        Returns:
            Names and second names; at least one.

        Raises:
            ScheduleError: The pattern is no regular expression, takes too long or nothing, or nothing but what cannot
                be asked for.
        """
        if pattern in self.aliases:
            return Match((), (pattern,))
        if pattern in self._names:
            return Match((pattern,))
        if pattern in self._uncompiled:
            return self.match(self._uncompiled[pattern], where)
        if pattern in self._refused:
            raise self._cannot(pattern, pattern, where)
        expression = name_pattern(pattern, error=ScheduleError, where=where)
        found = self._found(expression)
        if not found.names and not found.aliases and self._uncompiled:
            found = Match([name for name in self._registered if expression.match(name)])
        if not found.names and not found.aliases:
            refused = next((name for name in self._refused if expression.match(name)), None)
            if refused is not None:
                raise self._cannot(pattern, refused, where)
            raise ScheduleError(
                f"{pattern!r} matches no parameter. {self._nearest(pattern)}",
                where=where(),
                remedy="Give a full name, or a regular expression that matches from the start of a name.",
            )
        return found

    def _cannot(self, pattern: str, name: str, where: Callable[[], str]) -> ScheduleError:
        takes = "" if name == pattern else f"{pattern!r} takes nothing that can be thawed. "
        return ScheduleError(
            f"{takes}{name!r} cannot be thawed: {self._refused[name]}.",
            where=where(),
            remedy="Take it out of the schedule.",
        )

    def _found(self, expression: NamePattern) -> Match:
        registered, aliases = self._registered, tuple(self.aliases)
        return Match(
            [registered[index] for index in self._index.matches(expression)],
            [aliases[index] for index in self._alias_index.matches(expression)],
        )

    @cached_property
    def _index(self) -> NameIndex:
        return NameIndex([shown for _, shown in self._shown])

    @cached_property
    def _alias_index(self) -> NameIndex:
        return NameIndex(list(map(unwrapped_name, self.aliases)))

    @cached_property
    def _shown(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, unwrapped_name(name)) for name in self._registered)

    @cached_property
    def _uncompiled(self) -> dict[str, str]:
        second = ((alias, unwrapped_name(alias)) for alias in self.aliases)
        return {shown: name for name, shown in (*self._shown, *second) if shown != name}

    @cached_property
    def _registered(self) -> tuple[str, ...]:
        return tuple(name for name in self._names if name not in self.aliases)

    def _nearest(self, pattern: str) -> str:
        given = _SYNTAX.sub("", pattern)
        names = [*self._registered, *self.aliases]
        # A pattern need only match the beginning, so what is near may be the path of a module.
        parts = given.count(".") + 1
        paths = list(dict.fromkeys(".".join(name.split(".")[:parts]) for name in names))
        near = dict.fromkeys([*_neighbours(given, paths), *_neighbours(given, names)])
        return did_you_mean(given, near) or f"There are parameters such as {joined(map(repr, self._registered[:3]))}."


def _neighbours(given: str, names: Sequence[str]) -> Sequence[str]:
    """The names among which the nearest is looked for: of many, those next to the given one by beginning or by end."""
    if len(names) <= _MOST_COMPARED:
        return names
    near: list[str] = []
    for direction in (1, -1):
        in_order = sorted((name.lower()[::direction], name) for name in names)
        at = bisect_left(in_order, (given.lower()[::direction], ""))
        near += [name for _, name in in_order[max(0, at - _MOST_COMPARED // 4) : at + _MOST_COMPARED // 4]]
    return near
