"""What is wrong with settings, in words: which key, what is given, what is expected, and the nearest that exists."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel

from phasewire.adapters.errors import ConfigError, PhasewireError, did_you_mean
from phasewire.app.config_file import parse_yaml

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from phasewire.app.config_file import Locate

__all__ = ["Problem", "as_error", "given", "problems_of"]

#: What pydantic's complaints ask for, in the words of a YAML file.
_EXPECTED: Final[Mapping[str, str]] = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "is_instance_of": "a path",
    "is_type": "a class",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
}
_LIMITS: Final[Mapping[str, str]] = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "text that is not empty",
    "too_short": "not empty",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration."""

    keys: tuple[str | int, ...]
    """The keys and list indexes that lead to it."""
    text: str
    """What is wrong, as whole sentences."""
    remedy: str | None = None
    """What to do about it."""
    is_absence: bool = False
    """Whether something is missing, which another configuration file may still give."""


def as_error(problems: Sequence[Problem], locate: Locate) -> ConfigError:
    """Make one error of all that is wrong.

    Args:
        problems: What is wrong; at least one.
        locate: Tells the place of a value.

    Returns:
        The error: the problem itself, or a list when there are several.
    """
    if len(problems) == 1:
        (problem,) = problems
        return ConfigError(problem.text, where=locate(problem.keys) or None, remedy=problem.remedy)
    lines = [
        f"  - {locate(problem.keys)}: {' '.join(filter(None, (problem.text, problem.remedy)))}" for problem in problems
    ]
    return ConfigError("\n".join([f"{len(problems)} settings cannot be used:", *lines]))


# Any: settings hold whatever YAML can.
def problems_of(error: ValidationError, model: type[BaseModel], values: Mapping[Any, Any]) -> list[Problem]:
    """Put a failed validation into words.

    Args:
        error: What pydantic found.
        model: The class that was validated.
        values: What was validated.

    Returns:
        One problem for each setting, however many of its possible types pydantic complains about.
    """
    by_keys: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_keys.setdefault(_existing_keys(detail, values), []).append(detail)
    return [_problem(keys, details, model) for keys, details in by_keys.items()]


def given(value: object) -> str:
    """Show a value as YAML has it, with its kind.

    Args:
        value: A value of a configuration.

    Returns:
        Such as ``"'3' is text"``.
    """
    if value is None:
        return "nothing (null) is given"
    if isinstance(value, bool):
        return f"{str(value).lower()} is a truth value"
    kinds = {str: "text", int: "a whole number", float: "a number", list: "a list"}
    kind = "a mapping" if isinstance(value, Mapping) else kinds.get(type(value), f"a {type(value).__name__}")
    return f"{reprlib.repr(value)} is {kind}"


def _existing_keys(detail: ErrorDetails, values: Mapping[Any, Any]) -> tuple[str | int, ...]:
    """Cut what pydantic appends about the alternatives of a type off a location."""
    location = detail["loc"]
    if detail["type"] in ("missing", "extra_forbidden", "invalid_key"):
        return location
    value: object = values
    for depth, key in enumerate(location):
        if not isinstance(value, Mapping | list):
            return location[:depth]
        try:
            value = value[key]  # type: ignore[index]  # an index into a list, a key of a mapping, or a LookupError
        except (LookupError, TypeError):
            return location[:depth]
    return location


def _problem(keys: tuple[str | int, ...], details: Sequence[ErrorDetails], model: type[BaseModel]) -> Problem:
    first = details[0]
    value, kind = first["input"], first["type"]
    if kind in ("extra_forbidden", "invalid_key"):
        return _unknown_key(keys, model)
    if kind == "missing":
        return Problem(keys, "It is not given, and there is no default.", "Give it.", is_absence=True)
    if kind == "value_error":
        return Problem(keys, str(first["ctx"]["error"]))
    if kind in _LIMITS:
        limit = _LIMITS[kind].format(**first["ctx"])
        return Problem(keys, f"{reprlib.repr(value)} is given, and it must be {limit}.")
    expected = list(dict.fromkeys(_EXPECTED[each["type"]] for each in details if each["type"] in _EXPECTED))
    if not expected:
        return Problem(keys, f"{first['msg']}, and {given(value)}.")
    wanted = " or ".join(expected)
    text = f"{wanted[0].upper()}{wanted[1:]} is expected, and {given(value)}."
    return Problem(keys, text, _quotes_remedy(value, kind))


def _quotes_remedy(value: object, kind: str) -> str | None:
    """People quote numbers; tell them apart from those who wrote something else."""
    if not isinstance(value, str) or kind not in ("int_type", "float_type", "bool_type"):
        return None
    try:
        unquoted = parse_yaml(value).values
    except PhasewireError:
        return None
    return f"Write {value} without quotes." if isinstance(unquoted, int | float) else None


def _unknown_key(keys: tuple[str | int, ...], model: type[BaseModel]) -> Problem:
    *above, key = keys
    section = _model_at(model, above)
    choices = list(section.model_fields) if section else []
    near = did_you_mean(str(key), choices)
    text = f"There is no setting {key!r} here."
    if not near and (homes := [".".join((*path, str(key))) for path in _homes_of(str(key), model)]):
        return Problem(keys, text, f"Write it as {' or '.join(homes)}.")
    return Problem(keys, f"{text} {near or f'The settings here are {_listed(choices)}.'}", "Correct or remove it.")


def _model_at(model: type[BaseModel], keys: Sequence[str | int]) -> type[BaseModel] | None:
    at: type[BaseModel] | None = model
    for key in keys:
        field = at.model_fields.get(str(key)) if at else None
        at = _model_in(field.annotation) if field else None
    return at


# Any: a type annotation may be anything.
def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401  # as the comment says
    candidates = (annotation, *get_args(annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _homes_of(key: str, model: type[BaseModel]) -> list[tuple[str, ...]]:
    """The sections that have a setting of that name."""
    sections = ((name, _model_in(field.annotation)) for name, field in model.model_fields.items())
    inner: list[tuple[str, ...]] = [(name,) for name, section in sections if section and key in section.model_fields]
    return [(), *inner] if key in model.model_fields else inner


def _listed(choices: Sequence[str]) -> str:
    return ", ".join(sorted(choices))
