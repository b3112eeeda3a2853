"""The types of the fields of a phase: what a file, or code, may give for each. ``None`` stands for nothing given."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, StrictStr

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


#: Names and patterns: a list, and not one text, whose characters would be taken for patterns.
Patterns = Annotated[tuple[StrictStr, ...], BeforeValidator(_patterns)]
#: A whole number from -1 on, also as text or an integral float.
TransitionEpoch = Annotated[int, BeforeValidator(_transition_epoch)]
#: A whole number from 1 on, also as text or an integral float.
Frequency = Annotated[int | None, BeforeValidator(_frequency)]
#: A finite number from 0 on, also as text.
LearningRate = Annotated[float | None, BeforeValidator(_rate)]
#: A list of learning rates.
LearningRates = Annotated[tuple[float, ...] | None, BeforeValidator(_rates)]
#: Keyword arguments. Any: they are whatever the class takes.
InitArgs = Annotated[dict[StrictStr, Any], BeforeValidator(_init_args)]
