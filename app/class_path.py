"""From ``{class_path, init_args}`` to the object.

The notation is Lightning's: ``class_path`` names a class, ``init_args`` its arguments, and an argument may be such a
mapping again.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from phasewire.adapters.errors import ConfigError, PhasewireError, did_you_mean
from phasewire.app.config_file import Locate, key_path
from phasewire.app.import_path import import_attribute
from phasewire.app.plain_values import misfits, type_text
from phasewire.app.settings_problems import given as shown

__all__ = [
    "BuildError",
    "OnlyClasses",
    "check_arguments",
    "construct",
    "import_attribute",
    "instantiate",
    "is_class_spec",
    "resolve",
    "with_classes",
]

_SPEC_KEYS: Final = ("class_path", "init_args")
_MOST_LISTED_ARGUMENTS: Final = 12


class BuildError(ConfigError):
    """A class was found, took the arguments, and its constructor failed; the cause is chained."""


@dataclass(frozen=True, slots=True)
class OnlyClasses:
    """The classes that a file may name that is trusted with no others."""

    bases: tuple[type, ...]
    """What a class must be a subclass of."""
    called: str
    """What they are, for messages, as the first half of a sentence."""
    remedy: str
    """What to do about another one."""

    def require(self, found: object, path: str, where: str | None) -> None:
        """Refuse what is none of them.

        Args:
            found: What a path leads to.
            path: The path, for the message.
            where: Its place, for the message.

        Raises:
            ConfigError: It is none of these classes.
        """
        if not isinstance(found, type) or not issubclass(found, self.bases):
            raise ConfigError(f"{self.called}, and {path!r} is {reprlib.repr(found)}.", where=where, remedy=self.remedy)


@dataclass(frozen=True, slots=True)
class _Resolved:
    """A class that was found to take its arguments, which :func:`construct` calls."""

    class_path: str
    factory: Callable[..., object]
    arguments: Mapping[str, object]
    where: str


# Any: a specification holds whatever YAML can.
def instantiate(spec: object, *, keys: Sequence[str | int] = (), locate: Locate = key_path) -> object:
    """Build what a class specification describes.

    Everything it names is imported and its arguments are checked before the first constructor is called.

    Args:
        spec: A :class:`~phasewire.app.settings.ClassSpec`, or a mapping with ``class_path`` and perhaps ``init_args``.
        keys: The keys that lead to the specification, for messages.
        locate: Tells the place of a value, for messages.

    Returns:
        The object.

    Raises:
        ConfigError: The specification has other keys, a class cannot be imported, or does not take the arguments.
        BuildError: A constructor failed; the cause is chained.
    """
    path, arguments = getattr(spec, "class_path", None), getattr(spec, "init_args", None)
    plain = spec if path is None else {"class_path": path, "init_args": arguments}
    if not is_class_spec(plain):
        raise ConfigError(
            f"A class is expected, as a mapping with class_path and perhaps init_args, and {spec!r} is given.",
            where=locate(keys) or None,
            remedy="Write class_path: package.module.Class and, under init_args, its arguments.",
        )
    return construct(resolve(plain, keys=keys, locate=locate))


def is_class_spec(value: object) -> bool:
    """Whether a value of a configuration describes an object to build."""
    return isinstance(value, Mapping) and "class_path" in value


def resolve(
    value: object, *, keys: Sequence[str | int] = (), locate: Locate = key_path, only: OnlyClasses | None = None
) -> object:
    """Find the classes that a value names at any depth, and check their arguments. Nothing is built.

    Args:
        value: A value of a configuration; mappings with ``class_path`` in it become what :func:`construct` builds.
        keys: The keys that lead to the value, for messages.
        locate: Tells the place of a value, for messages.
        only: What may be named; ``None`` for anything that can be called.

    Returns:
        The value, to give to :func:`construct`.

    Raises:
        ConfigError: As :func:`instantiate` raises it.
    """
    if isinstance(value, Mapping):
        if "class_path" in value:
            return _resolve_spec(value, keys, locate, only)
        return {name: resolve(item, keys=(*keys, name), locate=locate, only=only) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(item, keys=(*keys, index), locate=locate, only=only) for index, item in enumerate(value)]
    return value


def construct(resolved: object) -> object:
    """Build what :func:`resolve` found, arguments before the objects that take them.

    Args:
        resolved: What :func:`resolve` returned.

    Returns:
        The value, with objects in place of their descriptions.

    Raises:
        BuildError: A constructor failed; the cause is chained.
        PhasewireError: A constructor of ours refused what it was given.
    """
    if isinstance(resolved, dict):
        return {name: construct(item) for name, item in resolved.items()}
    if isinstance(resolved, list):
        return [construct(item) for item in resolved]
    if not isinstance(resolved, _Resolved):
        return resolved
    arguments = {name: construct(item) for name, item in resolved.arguments.items()}
    try:
        return resolved.factory(**arguments)
    except PhasewireError:
        raise
    except (Exception, SystemExit) as cause:
        raise BuildError(
            f"{resolved.class_path} could not be built: {type(cause).__name__}: {str(cause).rstrip('.')}.",
            where=resolved.where or None,
            remedy="Check its init_args.",
        ) from cause


def check_arguments(
    factory: Callable[..., object],
    name: str,
    given: Mapping[str, object],
    *,
    keys: Sequence[str | int] = (),
    locate: Locate = key_path,
    section: str | None = "init_args",
) -> None:
    """Check arguments against a signature: their names, and plain values by the annotations.

    Args:
        factory: What would be called; one that has no signature that Python can tell takes anything.
        name: What to call it in messages.
        given: The arguments by name. Objects, objects to build and mappings are left to whoever takes them.
        keys: The keys that lead to the arguments, for messages.
        locate: Tells the place of a value, for messages.
        section: The key that arguments stand under, for messages, where there is one.

    Raises:
        ConfigError: It takes no argument of a name, needs one that is not given, or takes one of another type.
    """
    try:
        parameters = _signature(factory).parameters
    except (TypeError, ValueError):
        return
    nameable = {
        parameter.name: parameter
        for parameter in parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = [] if takes_any else [argument for argument in given if argument not in nameable]
    if unknown:
        near = " ".join(filter(None, (did_you_mean(str(argument), nameable) for argument in unknown)))
        listed = f"It takes {', '.join(nameable) or 'none'}." if len(nameable) <= _MOST_LISTED_ARGUMENTS else ""
        raise ConfigError(
            f"{name} takes no {_arguments(unknown)}. {near or listed}".strip(),
            where=locate((*keys, unknown[0])) or None,
            remedy="Remove what it does not take, or correct the name.",
        )
    missing = [
        argument
        for argument, parameter in nameable.items()
        if parameter.default is parameter.empty and argument not in given
    ]
    if missing:
        problem = (
            f"{name} needs the {_arguments(missing)}, and {'it is' if len(missing) == 1 else 'they are'} not given."
        )
        below = f" under {section}" if section else ""
        raise ConfigError(
            problem, where=locate(keys) or None, remedy=f"Give {'it' if len(missing) == 1 else 'them'}{below}."
        )
    for argument, annotation in misfits(nameable, given):
        raise ConfigError(
            f"{name} takes {type_text(annotation)} as {argument!r}, and {shown(given[argument])}.",
            where=locate((*keys, argument)) or None,
            remedy="Give a value of that type; numbers stand without quotes.",
        )


def with_classes(
    factory: Callable[..., object],
    given: Mapping[str, object],
    *,
    keys: Sequence[str | int] = (),
    locate: Locate = key_path,
    only: OnlyClasses | None = None,
) -> dict[str, object]:
    """Put the class in place of its path, where a signature takes a class and no text: YAML can name one only so.

    Args:
        factory: What would be called; one that has no signature that Python can tell keeps its arguments.
        given: The arguments by name.
        keys: The keys that lead to the arguments, for messages.
        locate: Tells the place of a value, for messages.
        only: What may be named; ``None`` for any class.

    Returns:
        The arguments.

    Raises:
        ConfigError: A path does not import, or names no class.
    """
    try:
        parameters = _signature(factory).parameters
    except (TypeError, ValueError):
        return dict(given)
    return {
        name: _named_class(value, locate((*keys, name)) or None, only)
        if isinstance(value, str) and name in parameters and _takes_class(parameters[name].annotation)
        else value
        for name, value in given.items()
    }


def _takes_class(annotation: Any) -> bool:  # noqa: ANN401  # an annotation is whatever its author wrote
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return str not in choices and any(type in (choice, get_origin(choice)) for choice in choices)


def _named_class(path: str, where: str | None, only: OnlyClasses | None) -> object:
    found = import_attribute(path, where=where)
    if only is not None:
        only.require(found, path, where)
    if not isinstance(found, type):
        raise ConfigError(
            f"{path} is a {type(found).__name__}, and a class is expected.", where=where, remedy="Name a class."
        )
    return found


def _signature(factory: Callable[..., object]) -> inspect.Signature:
    try:
        return inspect.signature(factory, eval_str=True)
    except Exception:  # noqa: BLE001  # others' annotations may raise anything; those of one that does stay text
        return inspect.signature(factory)


# Any: keys of YAML may be anything, and so may values.
def _resolve_spec(
    spec: Mapping[Any, Any], keys: Sequence[str | int], locate: Locate, only: OnlyClasses | None
) -> _Resolved:
    for key in spec:
        if key not in _SPEC_KEYS:
            raise ConfigError(
                f"A class is given by class_path and init_args; there is no {key!r}. "
                f"{did_you_mean(str(key), _SPEC_KEYS)}".strip(),
                where=locate((*keys, key)) or None,
                remedy="Put the arguments of the class under init_args.",
            )
    class_path, arguments = spec["class_path"], spec.get("init_args") or {}
    if not isinstance(class_path, str) or not isinstance(arguments, Mapping):
        raise ConfigError(
            "class_path is text and init_args is a mapping of arguments.",
            where=locate(keys) or None,
            remedy="Write class_path: package.module.Class and, under init_args, its arguments.",
        )
    at_class, at_arguments = (*keys, "class_path"), (*keys, "init_args")
    factory = import_attribute(class_path, where=locate(at_class) or None)
    if only is not None:
        only.require(factory, class_path, locate(at_class) or None)
    if not callable(factory):
        raise ConfigError(
            f"{class_path} is a {type(factory).__name__}, which cannot be called to build something.",
            where=locate(at_class) or None,
            remedy="Name a class.",
        )
    arguments = with_classes(factory, arguments, keys=at_arguments, locate=locate, only=only)
    check_arguments(factory, class_path, arguments, keys=at_arguments, locate=locate)
    inner = {
        name: resolve(item, keys=(*at_arguments, name), locate=locate, only=only) for name, item in arguments.items()
    }
    return _Resolved(class_path, factory, inner, locate(keys))


def _arguments(names: Sequence[str]) -> str:
    return f"argument{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
