"""From what pydantic finds wrong with a schedule to one error for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from phasewire.adapters.errors import ScheduleError, did_you_mean
from phasewire.app.schedule.values import kind_of, shortened

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["KnownKeys", "Location", "ScheduleFormError", "joined", "nothing_to_schedule", "schedule_error"]

#: The keys that may stand under each key that holds keys; those at the top under the empty text.
KnownKeys = Mapping[str, Sequence[str]]
#: The keys and indexes that lead to a value.
Location = tuple[str | int, ...]

_MOST_PROBLEMS_SHOWN = 5
_MOST_NAMED = 8
_UNKNOWN_KEY: Final = frozenset({"unexpected_keyword_argument", "invalid_key"})
_MISSING_KEY: Final = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})
_EXPECTED: Final = {
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping (lines of the form 'key: value')",
    "dataclass_type": "a mapping (lines of the form 'key: value')",
    "tuple_type": "a list",
    "list_type": "a list",
}


class ScheduleFormError(ScheduleError):
    """Keys or values of a schedule are not such as a schedule has.

    Args:
        problem: As for every error of Phasewire.
        mistakes: What is wrong at which location, the first few of many.
        count: How many mistakes there are.
        where: As for every error of Phasewire.
    """

    def __init__(
        self, problem: str, *, mistakes: Sequence[tuple[Location, str]], count: int, where: str | None = None
    ) -> None:
        super().__init__(problem, where=where)
        self.mistakes = tuple(mistakes)
        self.count = count


def schedule_error(
    error: ValidationError, known_keys: KnownKeys, where: Callable[[Location], str | None]
) -> ScheduleFormError:
    """Describe everything that is wrong in one error.

    Args:
        error: What pydantic raised.
        known_keys: Key to the keys that may stand under it; those at the top under the empty text.
        where: Describes the place of a location.

    Returns:
        The error to raise ``from`` the given one.
    """
    details = _without_consequences(error.errors(include_url=False))
    count = len(details)
    mistakes = [(each["loc"], _problem(each, known_keys)) for each in details[:_MOST_PROBLEMS_SHOWN]]
    shown = [(where(location), problem) for location, problem in mistakes]
    if count == 1:
        place, problem = shown[0]
        return ScheduleFormError(problem, mistakes=mistakes, count=count, where=place)
    lines = [f"  {place}: {problem}" if place else f"  {problem}" for place, problem in shown]
    if count > len(shown):
        lines.append(f"  and {count - len(shown):,} more")
    text = "\n".join([f"The schedule has {count:,} mistakes:", *lines])
    return ScheduleFormError(text, mistakes=mistakes, count=count)


def nothing_to_schedule() -> ScheduleError:
    """Make the error for a module that no parameter is known of.

    Returns:
        The error to raise.
    """
    return ScheduleError(
        "No parameter is known, so there is nothing to schedule.",
        remedy="Build the module's layers in its constructor, in setup, or in configure_model. An adapter that gives "
        "names of its own must give at least one.",
    )


def joined(items: Iterable[object]) -> str:
    """List things in a sentence.

    Args:
        items: What to list.

    Returns:
        Such as ``"1, 2 and 3"``; only the first few of many, and how many more there are.
    """
    shown = [str(item) for item in items]
    if len(shown) > _MOST_NAMED:
        shown[_MOST_NAMED - 1 :] = [f"{len(shown) - _MOST_NAMED + 1:,} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else ""


def _without_consequences(mistakes: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out keys that are missing where another key is unknown: most likely that one is misspelt."""
    misspelt = {mistake["loc"][:-1] for mistake in mistakes if mistake["type"] in _UNKNOWN_KEY}
    return [m for m in mistakes if m["type"] not in _MISSING_KEY or m["loc"][:-1] not in misspelt]


def _problem(details: ErrorDetails, known_keys: KnownKeys) -> str:
    kind, location, given = details["type"], details["loc"], details["input"]
    if kind in _UNKNOWN_KEY:
        return _unknown_key(location, known_keys)
    if kind in _MISSING_KEY:
        return f"The key {str(location[-1])!r} is missing."
    if kind in _EXPECTED:
        return f"{shortened(given)} is {kind_of(given)}, and {_EXPECTED[kind]} is expected."
    if kind == "value_error":
        return str(details["ctx"]["error"])
    return f"{shortened(given)} cannot be used: {details['msg']}."


def _unknown_key(location: Location, known_keys: KnownKeys) -> str:
    key = location[-1]
    holder = next((part for part in reversed(location[:-1]) if isinstance(part, str) and part in known_keys), "")
    known = known_keys[holder]
    guess = did_you_mean(str(key), known)
    return " ".join(filter(None, [f"There is no key {key!r} here.", guess, f"The keys are {joined(known)}."]))
