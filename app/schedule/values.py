"""Numbers and plain data as schedule files give them: text of digits is a number, a truth value never is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Final

__all__ = ["at_least", "kind_of", "learning_rate", "phase_number", "plain_copy", "shortened", "unexpected"]

# Python converts no more than a few thousand digits.
_DECIMAL_DIGITS: Final = re.compile(r"[0-9]{1,1000}")
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,1000}")
_LONGEST_SHOWN: Final = 80


def phase_number(key: object) -> int | None:
    """Read the key of a phase.

    Args:
        key: A key of a schedule.

    Returns:
        The number: that of an integer, an integral float, or text of decimal digits. ``None`` for everything else,
        truth values included.
    """
    return _whole(key, _DECIMAL_DIGITS)


def at_least(lowest: int, value: object) -> int:
    """Read a whole number that has a lower bound.

    Args:
        lowest: The lowest number allowed.
        value: An integer, an integral float, or text of decimal digits with or without a sign.

    Returns:
        The integer.

    Raises:
        ValueError: It is no whole number, or below the bound; truth values are refused although Python counts them as
            integers.
    """
    number = _whole(value, _WHOLE_NUMBER)
    if number is None:
        raise unexpected(value, "a whole number")
    if number < lowest:
        raise ValueError(f"{shortened(number)} is too low; the lowest number allowed is {lowest}.")
    return number


def learning_rate(value: object) -> float:
    """Read a learning rate.

    Args:
        value: A number, or text of one such as ``"1e-5"``.

    Returns:
        The rate, 0 or greater.

    Raises:
        ValueError: It is no number, negative, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (Real, str)):
        raise unexpected(value, "a number")
    try:
        rate = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{shortened(value)} cannot be read as a number.") from error
    if not math.isfinite(rate) or rate < 0:
        raise ValueError(f"{shortened(value)} is no learning rate; a finite number of 0 or more is expected.")
    return rate


def plain_copy(value: object) -> object:
    """Copy a value so that it shares nothing that can be changed, in the types that YAML has.

    Args:
        value: Mappings become dicts, lists and tuples become lists, and numbers of other libraries Python's own.

    Returns:
        The copy; what is no data, such as a function, stands in it as it is.
    """
    if isinstance(value, Mapping):
        return {plain_copy(key): plain_copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_copy(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def unexpected(value: object, expected: str) -> ValueError:
    """Make the error for a value of the wrong kind.

    Args:
        value: What was given.
        expected: What it should have been, such as ``"a number"``.

    Returns:
        The error to raise; pydantic collects errors of this type.
    """
    return ValueError(f"{shortened(value)} is {kind_of(value)}, and {expected} is expected.")


def kind_of(value: object) -> str:
    """Name what kind of value something is, in the words of a YAML file.

    Args:
        value: Any value.

    Returns:
        Such as ``"a truth value"``.
    """
    if isinstance(value, bool):
        return "a truth value"
    if value is None:
        return "empty"
    for kind, name in ((str, "text"), (Real, "a number"), (Mapping, "a mapping"), ((list, tuple), "a list")):
        if isinstance(value, kind):
            return name
    return f"of type {type(value).__name__}"


def shortened(value: object) -> str:
    """Show a value in a message.

    Args:
        value: Any value.

    Returns:
        Its ``repr``, cut where it is long.
    """
    try:
        text = repr(value)
    except ValueError:
        text = f"a {type(value).__name__} with too many digits to show"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def _whole(value: object, text_form: re.Pattern[str]) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and text_form.fullmatch(value) else None
