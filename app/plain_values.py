"""Whether a plain value, as YAML has it, fits the type annotation of the parameter it is for."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

__all__ = ["fits", "is_plain", "misfits", "type_text"]

#: Complaints of pydantic that leave no doubt. Others concern classes of which nobody knows what they may be made from.
_CERTAIN: Final = frozenset(
    {
        "bool_type",
        "dict_type",
        "float_type",
        "int_from_float",
        "int_type",
        "list_type",
        "literal_error",
        "none_required",
        "string_type",
        "tuple_type",
    }
)


def is_plain(value: object) -> bool:
    """Tell whether a value is null, a truth value, a number, text, or a list of such.

    Args:
        value: A value of a configuration.

    Returns:
        Whether it is; mappings are not.
    """
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


# Any, here and below: a type annotation may be anything.
def fits(value: object, annotation: Any) -> bool:  # noqa: ANN401  # as the comment says
    """Tell whether a value is of an annotated type, where the annotation can be relied on.

    Args:
        value: A plain value.
        annotation: The type.

    Returns:
        Whether it is; nothing is converted but whole numbers to floats.
    """
    try:
        _adapter(annotation).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def misfits(parameters: Mapping[str, inspect.Parameter], given: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    """Find the plain arguments that are certainly of another type than a signature says.

    Text for a path or an enum, a list for a tuple, 2.0 for a whole number, and the default itself are let pass, and so
    is everything whose annotation is still text.

    Args:
        parameters: Those that are given by name, their annotations evaluated.
        given: The arguments by name.

    Yields:
        The name of the argument and the annotation that it does not fit.
    """
    for name, value in given.items():
        parameter = parameters.get(name)
        if parameter is None or isinstance(parameter.annotation, str):
            continue
        is_default = type(value) is type(parameter.default) and value == parameter.default
        if is_plain(value) and not is_default and _certainly_misfits(value, parameter.annotation):
            yield name, parameter.annotation


def type_text(annotation: Any) -> str:  # noqa: ANN401  # as the comment above says
    """Show an annotation for a message.

    Args:
        annotation: The type.

    Returns:
        Such as ``"Optional[int]"``.
    """
    return inspect.formatannotation(annotation).replace("typing.", "")


def _certainly_misfits(value: object, annotation: Any) -> bool:  # noqa: ANN401  # as the comment above says
    # Most values are simply of the type, and validators are slow to build.
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if annotation in (inspect.Parameter.empty, Any) or type(value) in choices:
        return False
    try:
        # JSON, too, has no paths, enums and tuples, so that pydantic takes what stands for them, however strict.
        _adapter(annotation).validate_json(json.dumps(_whole_where_possible(value)), strict=True)
    except ValidationError as error:
        return all(detail["type"] in _CERTAIN for detail in error.errors(include_url=False, include_context=False))
    except Exception:  # noqa: BLE001  # pydantic can make nothing of the annotation, which thus tells nothing
        return False
    return False


def _adapter(annotation: Any) -> TypeAdapter[object]:  # noqa: ANN401  # as the comment above says
    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def _whole_where_possible(value: object) -> object:
    """Make 2.0 a whole number, which fits floats as well."""
    if isinstance(value, list):
        return [_whole_where_possible(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
