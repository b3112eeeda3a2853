"""The types of the fields of a phase: what a file, or code, may give for each. ``None`` stands for nothing given."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, StrictStr, WithJsonSchema

from phasewire.app.schedule.values import at_least, learning_rate, plain_copy, unexpected

__all__ = ["Frequency", "InitArgs", "LearningRate", "LearningRates", "Patterns", "TransitionEpoch", "plain_data"]


def plain_data(value: object) -> object:
    """Copy plain data; see :func:`~phasewire.app.schedule.values.plain_copy`.

    Args:
        value: The data.

    Returns:
        The copy.

    Raises:
        ValueError: It contains itself.
    """
    try:
        return plain_copy(value)
    except RecursionError as error:
        raise ValueError("A value contains itself, which a schedule cannot.") from error


def _patterns(value: object) -> tuple[object, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        example = f", such as [{value}]," if isinstance(value, str) else ""
        raise unexpected(value, f"a list of names or patterns{example}")
    if "" in value:
        raise ValueError(f"The pattern at index {value.index('')} is empty; write '.*' if every parameter is meant.")
    return tuple(value)


def _transition_epoch(value: object) -> int:
    return -1 if value is None else at_least(-1, value)


def _frequency(value: object) -> int | None:
    return None if value is None else at_least(1, value)


def _rate(value: object) -> float | None:
    return None if value is None else learning_rate(value)


def _rates(value: object) -> list[float] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise unexpected(value, "a list of numbers")
    return [learning_rate(rate) for rate in value]


def _init_args(value: object) -> object:
    return {} if value is None else plain_data(value)


#: Digits as Python reads them in text.
_DIGITS: Final = "[0-9](_?[0-9])*"
#: A number of 0 or more as text.
_RATE_TEXT: Final = rf"^\s*(\+?({_DIGITS}(\.({_DIGITS})?)?|\.{_DIGITS})([eE][+-]?{_DIGITS})?|-(0+\.?0*|\.0+))\s*$"
# Any, here and below: JSON.
_RATE_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _RATE_TEXT}]
}


def _or_null(schema: dict[str, Any]) -> WithJsonSchema:
    """What an editor is told of a field that may be left empty."""
    choices = schema.get("anyOf", [schema])
    return WithJsonSchema({"anyOf": [*choices, {"type": "null"}]})


def _whole_number(lowest: int, text: str) -> WithJsonSchema:
    return _or_null({"anyOf": [{"type": "integer", "minimum": lowest}, {"type": "string", "pattern": text}]})


#: Names and patterns: a list, and not one text, whose characters would be taken for patterns.
Patterns = Annotated[
    tuple[StrictStr, ...],
    BeforeValidator(_patterns),
    _or_null({"type": "array", "items": {"type": "string", "minLength": 1}}),
]
#: A whole number from -1 on, also as text or an integral float.
TransitionEpoch = Annotated[
    int, BeforeValidator(_transition_epoch), _whole_number(-1, r"^(\+?[0-9]{1,1000}|-0{0,999}[01])$")
]
#: A whole number from 1 on, also as text or an integral float.
Frequency = Annotated[int | None, BeforeValidator(_frequency), _whole_number(1, r"^\+?0{0,999}[1-9][0-9]{0,999}$")]
#: A finite number from 0 on, also as text.
LearningRate = Annotated[float | None, BeforeValidator(_rate), _or_null(_RATE_SCHEMA)]
#: A list of learning rates.
LearningRates = Annotated[
    tuple[float, ...] | None, BeforeValidator(_rates), _or_null({"type": "array", "items": _RATE_SCHEMA})
]
#: Keyword arguments. Any: they are whatever the class takes.
InitArgs = Annotated[dict[StrictStr, Any], BeforeValidator(_init_args), _or_null({"type": "object"})]
