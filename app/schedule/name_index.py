"""Names in the order of the alphabet, so that a regular expression is tried only with those it could match."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from phasewire.adapters.name_patterns import NamePattern

__all__ = ["NameIndex", "beginning_of"]

#: Stands in a beginning for a dot of the pattern, which matches any character.
_ANY: Final = None
#: A part of a beginning: text that is matched as it stands, or any one character.
_Part = str | None
#: The positions of names in the alphabetical order, from the first on and before the second.
_Range = tuple[int, int]

_OPTIONAL: Final = frozenset("*?{")
_SPECIAL: Final = frozenset(r".^$*+?{}[]\|()")
_LAST_CHARACTER: Final = 0x10FFFF
#: Looking up the names at more beginnings than this costs more than trying the names.
_MOST_RANGES = 100


class NameIndex:
    """Finds the names that a regular expression matches from their start.

    Most patterns of schedules begin with the path of a module, and so concern few of many names: only those with the
    same beginning are tried. What is found is the same as with all of them.

    Args:
        names: The names; a name may stand there more than once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._order = sorted(range(len(names)), key=names.__getitem__)
        self._sorted = [names[index] for index in self._order]

    def matches(self, expression: NamePattern) -> list[int]:
        """Find names.

        Args:
            expression: The compiled pattern.

        Returns:
            The indexes of the names that it matches, ascending.
        """
        match, names, order = expression.match, self._sorted, self._order
        ranges = self._with_beginning(beginning_of(expression))
        return sorted(order[at] for first, end in ranges for at in range(first, end) if match(names[at]))

    def _with_beginning(self, beginning: Sequence[_Part]) -> list[_Range]:
        prefixes: list[tuple[str, _Range]] = [("", (0, len(self._sorted)))]
        for part in beginning:
            if part is _ANY:
                longer = [each for prefix, names in prefixes for each in self._one_longer(prefix, names)]
                if len(longer) > _MOST_RANGES:
                    break
                prefixes = longer
            else:
                prefixes = [(prefix + part, self._between(prefix + part, names)) for prefix, names in prefixes]
                prefixes = [(prefix, names) for prefix, names in prefixes if names[0] < names[1]]
        return [names for _, names in prefixes]

    def _one_longer(self, prefix: str, names: _Range) -> Iterator[tuple[str, _Range]]:
        """Part the names with a prefix by the character that follows it; those without one are left out."""
        at, end = names
        while at < end:
            following = self._sorted[at][: len(prefix) + 1]
            if len(following) == len(prefix):
                at += 1
                continue
            part = self._between(following, (at, end))
            yield following, part
            at = part[1]

    def _between(self, prefix: str, names: _Range) -> _Range:
        first = bisect_left(self._sorted, prefix, *names)
        # All that begins with the prefix sorts before the prefix with a last character that is the next one.
        if ord(prefix[-1]) == _LAST_CHARACTER:
            return first, names[1]
        return first, bisect_left(self._sorted, prefix[:-1] + chr(ord(prefix[-1]) + 1), first, names[1])


def beginning_of(expression: NamePattern) -> list[_Part]:
    """Tell what every text begins with that a pattern matches from the start.

    Args:
        expression: The compiled pattern.

    Returns:
        Text, and ``None`` for any one character; empty where nothing is certain.
    """
    pattern = expression.pattern
    if "|" in pattern or expression.flags & (re.IGNORECASE | re.VERBOSE):
        return []
    parts: list[_Part] = []
    at = 1 if pattern.startswith("^") else 0
    while at < len(pattern):
        character, length = _literal(pattern, at)
        if not length:
            break
        at += length
        following = pattern[at : at + 1]
        if following and following in _OPTIONAL:
            break
        if character is not _ANY and parts and parts[-1] is not _ANY:
            parts[-1] += character
        else:
            parts.append(character)
        if following == "+":
            break
    return parts


def _literal(pattern: str, at: int) -> tuple[_Part, int]:
    """Read one character to match and how long it is written; a length of 0 for everything else."""
    character = pattern[at]
    if character == ".":
        return _ANY, 1
    if character == "\\" and at + 1 < len(pattern) and not pattern[at + 1].isalnum():
        return pattern[at + 1], 2
    return (character, 0) if character in _SPECIAL else (character, 1)
