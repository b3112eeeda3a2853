"""Regular expressions for the names of parameters and modules, which end even where they would back-track for ever.

Python's ``re`` decides what a pattern means and whether it is one. It cannot be stopped once it has begun to match, so
a pattern that may take long is matched by the ``regex`` package instead, which can.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Final

import regex

from phasewire.adapters.errors import PhasewireError

__all__ = ["LimitedPattern", "NamePattern", "name_pattern", "shared_syntax"]

#: Seconds for one name, of which what ends at all takes millionths.
_FOR_A_NAME: Final = 2.0
#: Seconds for one pattern and all names together; a million names take some of them.
_FOR_A_PATTERN: Final = 60.0
#: ``regex`` takes memory for what is counted, nested counts multiplied.
_MOST_COUNTED: Final = 100_000
#: ``regex`` takes no limit of 0.
_LEAST: Final = 1e-6

#: Of two repetitions that are not nested, the worst case is the square of the length of a name.
_MOST_REPETITIONS: Final = 2
_REPETITIONS: Final = re.compile(r"(?<!\()[*+?{]")
_REPEATED_GROUPS: Final = re.compile(r"\)[*+?{]|\(\?#")

_NAMED_CHARACTER: Final = re.compile(r"\\N\{[^}]*\}")
_COMMENT: Final = re.compile(r"\(\?#[^)]*\)")
_REST_OF_LINE: Final = re.compile(r"#[^\n]*")
_COUNT: Final = re.compile(r"\{(?P<least>[0-9]*)(?P<comma>,?)(?P<most>[0-9]*)\}")


class LimitedPattern:
    """A regular expression that is given up when matching has taken too long in all.

    Args:
        expression: The pattern as ``re`` has compiled it.
        stopped: Makes the error to raise, given the name that it was matched with.
        for_a_name: How many seconds matching one name may take.
        for_all: How many seconds matching may take in all.
    """

    def __init__(
        self,
        expression: re.Pattern[str],
        stopped: Callable[[str], PhasewireError],
        *,
        for_a_name: float = _FOR_A_NAME,
        for_all: float = _FOR_A_PATTERN,
    ) -> None:
        self.pattern = expression.pattern
        self.flags = expression.flags
        shared = shared_syntax(expression.pattern, verbose=bool(expression.flags & re.VERBOSE))
        self._expression = regex.compile(shared, flags=regex.VERSION0)
        self._stopped = stopped
        self._for_a_name = for_a_name
        self._left = for_all

    def match(self, name: str) -> bool:
        """Tell whether the pattern matches from the start of a name.

        Args:
            name: The name.

        Returns:
            Whether it does.

        Raises:
            PhasewireError: It takes too long.
        """
        return self._limited(self._expression.match, name)

    def fullmatch(self, name: str) -> bool:
        """Tell whether the pattern matches a whole name.

        Args:
            name: The name.

        Returns:
            Whether it does.

        Raises:
            PhasewireError: It takes too long.
        """
        return self._limited(self._expression.fullmatch, name)

    def _limited(self, matching: Callable[..., object], name: str) -> bool:
        begun = time.monotonic()
        try:
            seconds = min(self._for_a_name, max(self._left, _LEAST))
            return matching(name, timeout=seconds) is not None
        except TimeoutError as error:
            raise self._stopped(name) from error
        finally:
            self._left -= time.monotonic() - begun


#: A compiled pattern: ``match`` and ``fullmatch`` of a name, ``pattern`` and ``flags``.
NamePattern = re.Pattern[str] | LimitedPattern


def name_pattern(
    pattern: str,
    *,
    error: type[PhasewireError],
    where: Callable[[], str | None],
    for_a_name: float = _FOR_A_NAME,
) -> NamePattern:
    """Compile a pattern for names.

    Args:
        pattern: A regular expression, with the meaning that ``re`` gives it.
        error: The class of error to raise.
        where: Describes the pattern's place, for an error.
        for_a_name: How many seconds matching one name may take.

    Returns:
        What matches names, and raises an error of that class where it would not end.

    Raises:
        PhasewireError: It is no regular expression.
    """
    try:
        with warnings.catch_warnings():
            # "[[" may mean something else in a Python to come, which tells nobody anything about a schedule.
            warnings.simplefilter("ignore", FutureWarning)
            expression = re.compile(pattern)
        if _ends_soon(expression):
            return expression
        _refuse_high_counts(pattern)
        return LimitedPattern(expression, partial(_endless, pattern, error, where), for_a_name=for_a_name)
    except re.error as cause:
        at = "" if cause.pos is None else f" at position {cause.pos}"
        problem = f"{pattern!r} is no regular expression: {cause.msg}{at}."
        rest = "" if cause.pos is None else pattern[cause.pos :]
        remedy = (
            f"It stops making sense at {rest!r}. Correct it there, or give a full name."
            if rest and cause.pos
            else "Correct it, or give a full name."
        )
        raise error(problem, where=where(), remedy=remedy) from cause
    except (OverflowError, RecursionError, MemoryError, regex.error) as cause:
        raise error(
            f"{pattern!r} is no regular expression that can be used: {cause}.", where=where(), remedy="Simplify it."
        ) from cause


def _ends_soon(expression: re.Pattern[str]) -> bool:
    pattern = expression.pattern
    if expression.flags & re.VERBOSE or _REPEATED_GROUPS.search(pattern):
        return False
    return len(_REPETITIONS.findall(pattern)) <= _MOST_REPETITIONS


def _refuse_high_counts(pattern: str) -> None:
    counts = (max(int(count["least"] or 1), int(count["most"] or 1), 1) for count in _COUNT.finditer(pattern))
    if math.prod(counts) > _MOST_COUNTED:
        raise OverflowError("it counts too high")


def _endless(pattern: str, error: type[PhasewireError], where: Callable[[], str | None], name: str) -> PhasewireError:
    return error(
        f"The pattern {pattern!r} takes too long: it was given up before it was known whether it matches {name!r}.",
        where=where(),
        remedy="A repetition in a repetition, such as (a+)+, is tried in more ways than can be counted. Write it with "
        "one repetition, or give full names.",
    )


def shared_syntax(pattern: str, *, verbose: bool = False) -> str:
    """Write a pattern so that ``regex`` gives it the meaning that it has for ``re``.

    ``regex`` has more syntax: ``[[:alpha:]]`` is a class of characters for it, and ``a{e}`` an approximate match, where
    ``re`` takes the brackets and braces as they stand. Everything else that it adds, ``re`` refuses.

    Args:
        pattern: A pattern that ``re`` has compiled.
        verbose: Whether space and comments in it mean nothing.

    Returns:
        The pattern, with a backslash before what is to be taken as it stands.
    """
    written: list[str] = []
    at = 0
    while at < len(pattern):
        read, part = _next_part(pattern, at, verbose=verbose)
        written.append(part)
        at += read
    return "".join(written)


def _next_part(pattern: str, at: int, *, verbose: bool) -> tuple[int, str]:
    """Read a part: how many characters of the pattern it is, and how to write it."""
    character = pattern[at]
    comment = _COMMENT.match(pattern, at) or (_REST_OF_LINE.match(pattern, at) if verbose else None)
    if comment is not None:
        return len(comment[0]), ""
    if character == "\\":
        named = _NAMED_CHARACTER.match(pattern, at)
        part = named[0] if named else pattern[at : at + 2]
        return len(part), part
    if character == "[":
        end = _end_of_set(pattern, at)
        return end - at, f"[{_set_content(pattern[at + 1 : end - 1])}]"
    count = _COUNT.match(pattern, at)
    if count is not None and count[0] != "{}":
        most = f",{count['most']}" if count["comma"] else ""
        return len(count[0]), f"{{{count['least'] or '0'}{most}}}"
    return 1, r"\{" if character == "{" else character


def _end_of_set(pattern: str, at: int) -> int:
    at += 2 if pattern.startswith("[^", at) else 1
    first = at
    while pattern[at] != "]" or at == first:
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _set_content(content: str) -> str:
    negated, members = ("^", content[1:]) if content.startswith("^") else ("", content)
    written, at = [], 0
    while at < len(members):
        part = (
            (_NAMED_CHARACTER.match(members, at) or [members[at : at + 2]])[0] if members[at] == "\\" else members[at]
        )
        written.append(f"\\{part}" if part in {"[", "]"} else part)
        at += len(part)
    return negated + "".join(written)
