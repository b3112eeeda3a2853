"""From the text of a class path to the class, and which part of it is wrong when there is none."""

from __future__ import annotations

import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from phasewire.adapters.errors import ConfigError, did_you_mean

__all__ = ["import_attribute"]

_CLASS_PATH: Final = re.compile(r"(?P<path>[^\W\d]\w*(\.[^\W\d]\w*)*)(:(?P<attributes>[^\W\d]\w*(\.[^\W\d]\w*)*))?")


def import_attribute(path: str, *, where: str | None = None) -> object:
    """Import what a class path names.

    Args:
        path: ``pkg.mod.Class`` or ``pkg.mod:Class``; ``pkg.mod.Class.method`` and ``pkg.mod:Class.method`` work too.
        where: The place it was given, for messages.

    Returns:
        What the path names.

    Raises:
        ConfigError: The path has another form, a part of it does not exist (with the nearest that does), or a module
            fails while it is imported (the cause is chained).
    """
    match = _CLASS_PATH.fullmatch(path)
    if match is None or (not match["attributes"] and "." not in path):
        raise ConfigError(
            f"{path!r} is not the path of a class.",
            where=where,
            remedy="Write 'package.module.Class' or 'package.module:Class'.",
        )
    if match["attributes"]:
        named: object = _import_whole(match["path"], path, where)
        parts = match["attributes"].split(".")
    else:
        named, parts = _import_longest(path, where)
    for part in parts:
        named = _attribute(named, part, path, where)
    return named


def _import_whole(module_name: str, path: str, where: str | None) -> ModuleType:
    """Import the module before a colon, naming the first part that does not exist."""
    try:
        return import_module(module_name)
    except ModuleNotFoundError as cause:
        if not _is_part_of(cause.name, module_name):
            raise _import_failure(module_name, cause, where) from cause
        above, _, missing = str(cause.name).rpartition(".")
        raise _no_such_part(missing, import_module(above) if above else None, path, where) from cause
    except (Exception, SystemExit) as cause:
        raise _import_failure(module_name, cause, where) from cause


def _import_longest(path: str, where: str | None) -> tuple[ModuleType, list[str]]:
    """Import the longest beginning of a dotted path that is a module; the last part is always an attribute."""
    parts = path.split(".")
    module = _import_whole(parts[0], path, where)
    for end in range(2, len(parts)):
        name = ".".join(parts[:end])
        try:
            module = import_module(name)
        except ModuleNotFoundError as cause:
            if not _is_part_of(cause.name, name):
                raise _import_failure(name, cause, where) from cause
            return module, parts[end - 1 :]
        except (Exception, SystemExit) as cause:
            raise _import_failure(name, cause, where) from cause
    return module, parts[-1:]


def _attribute(owner: object, name: str, path: str, where: str | None) -> object:
    try:
        return getattr(owner, name)
    except AttributeError as cause:
        raise _no_such_part(name, owner, path, where) from cause
    except (Exception, SystemExit) as cause:
        # A module may import on first use (PEP 562), and that may fail like any import.
        raise _import_failure(f"{getattr(owner, '__name__', owner)}.{name}", cause, where) from cause


def _no_such_part(name: str, owner: object | None, path: str, where: str | None) -> ConfigError:
    if owner is None:
        choices = {module.name for module in pkgutil.iter_modules()} | {each for each in sys.modules if "." not in each}
        problem, remedy = f"There is no module {name!r}", _where_modules_are()
    else:
        inside = getattr(owner, "__path__", None)
        choices = {
            *dir(owner),
            *getattr(owner, "__all__", ()),
            *(module.name for module in pkgutil.iter_modules(inside) if inside),
        }
        kind = "module" if isinstance(owner, ModuleType) else "class"
        problem = f"The {kind} {getattr(owner, '__name__', owner)} has no {name!r}"
        remedy = "Correct the path."
    public = sorted(choice for choice in choices if not choice.startswith("_"))
    return ConfigError(
        f"{problem} (in {path!r}). {did_you_mean(name, public)}".strip(),
        where=where,
        remedy=remedy,
    )


def _where_modules_are() -> str:
    remedy, folder = "Correct the path, or install the package it is in.", str(Path.cwd())
    if {"", folder}.isdisjoint(sys.path):
        return remedy
    return f"{remedy} Modules are also looked up in the working directory, {folder}."


def _import_failure(module_name: str, cause: BaseException, where: str | None) -> ConfigError:
    remedy = f"Mend {module_name}, or name another class."
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        remedy = f"Install what provides the module {cause.name.partition('.')[0]!r}."
    return ConfigError(
        f"{module_name} cannot be imported: {type(cause).__name__}: {str(cause).rstrip('.')}.",
        where=where,
        remedy=remedy,
    )


def _is_part_of(missing: str | None, module_name: str) -> bool:
    return missing is not None and f"{module_name}.".startswith(f"{missing}.")
