"""The classes of what a run puts into its checkpoints, so that it can read them back without trusting the files.

``torch.load(weights_only=True)`` reads tensors and plain values. Modules also keep objects in checkpoints, such as a
``Path`` or a loss among the hyperparameters. A run goes back to files that it has written, but anybody who may write to
its folder may have replaced them since: so of other classes it reads those only that it has stored itself.

A file that may name a function may call it with what it likes. So no function becomes readable, but two of numpy's that
build arrays and numbers; and of the standard library, where classes too run commands and open files, a short list.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import sys
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from pkgutil import resolve_name
from types import FunctionType, SimpleNamespace
from typing import Any, Final, TypeGuard, cast
from uuid import UUID

import torch

__all__ = ["OwnClasses"]

_PLAIN: Final = frozenset({bool, int, float, str, bytes, type(None), torch.dtype, torch.device, torch.Size})
#: The protocol that torch.save writes, in which a class is one operand that names it.
_PROTOCOL: Final = 2
#: By which that protocol names what is nested in a class.
_GETATTR: Final = "builtins.getattr"
#: Of builtins and the standard library these are read: they hold values, and do nothing when they are made. A partial
#: calls what it holds only when the program calls it, and holds nothing but what may be read.
_HARMLESS: Final[frozenset[object]] = frozenset(
    {bool, bytearray, bytes, complex, dict, float, frozenset, int, list, object, range, set, slice, str, tuple}
    | {Counter, OrderedDict, defaultdict, date, datetime, time, timedelta, timezone, Decimal, Fraction, UUID}
    | {Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath, Namespace, SimpleNamespace, partial}
    | {Any}  # as OmegaConf notes it for a value of any type
)
#: By which numpy's arrays and numbers are made, in its versions 1 and 2.
_NUMPY_MAKERS: Final = frozenset(
    f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")
)


class OwnClasses:
    """Remembers the classes of the objects in checkpoints that one run has written."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}  # Any: classes, and functions that make objects
        self._nested: dict[tuple[str, str], Any] = {}  # Any: as above; by what it is nested in, and its name there

    # Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
    def note(self, checkpoint: Mapping[str, Any]) -> bool:
        """Remember the classes of what is in a checkpoint beside tensors and plain values.

        Args:
            checkpoint: A checkpoint that is about to be written.

        Returns:
            Whether there is anything beside those.
        """
        objects = list(_objects_in(checkpoint, set()))
        if objects:
            found = [(path, each) for path, each in _named_in(objects) if _may_be_read(path, each)]
            self._found.update(found)
            for _, each in found:
                if _is_nested(each):
                    self._nested.update(_steps_to(each))
        return bool(objects)

    def allowed(self) -> AbstractContextManager[None]:
        """Let ``torch.load`` read them with ``weights_only=True``, too.

        Returns:
            The context in which it does.
        """
        # Any, here and below: classes, functions, and what stands for them.
        readable: list[Callable[..., Any] | tuple[Callable[..., Any], str]]
        readable = [(found, path) for path, found in self._found.items()]
        if self._nested:
            # What a class is nested in is needed only to find it: unless it was stored itself, it cannot be called.
            outer: dict[str, Any] = {path: self._found.get(path, _Outer(path)) for path, _ in self._nested}
            steps = {
                (id(outer[path]), name): outer.get(f"{path}.{name}", found)
                for (path, name), found in self._nested.items()
            }
            readable += [(found, path) for path, found in outer.items() if path not in self._found]
            readable.append((_NestedOnly(steps), _GETATTR))
        return torch.serialization.safe_globals(readable)


@dataclass(frozen=True, slots=True, eq=False)
class _Outer:
    """Stands for a class that was not stored, but holds one that was."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class _NestedOnly:
    """Stands for ``getattr``, by which a file names a nested class; it gives those that were stored, and nothing else.

    Attributes:
        steps: What is found in an object (its ``id``) under a name.
    """

    steps: Mapping[tuple[int, str], Any]  # Any: classes, and functions that make objects

    def __call__(self, outer: object, name: str) -> Any:  # noqa: ANN401  # as above
        found = self.steps.get((id(outer), name))
        if found is None:
            raise pickle.UnpicklingError(f"{name!r} of {outer!r} was not stored by this run")
        return found


def _steps_to(found: type | FunctionType) -> Iterator[tuple[tuple[str, str], object]]:
    """Give the steps that lead to what is nested in a class: where from, by which name, and what is there."""
    module, names = found.__module__, found.__qualname__.split(".")
    for depth in range(1, len(names)):
        owner = ".".join(names[:depth])
        yield (f"{module}.{owner}", names[depth]), resolve_name(f"{module}:{owner}.{names[depth]}")


def _objects_in(value: object, seen: set[int]) -> Iterator[object]:
    if type(value) in _PLAIN or isinstance(value, torch.Tensor):
        return
    if type(value) not in {dict, list, tuple, OrderedDict}:
        yield value
    elif id(value) not in seen:
        seen.add(id(value))
        for item in [*value, *value.values()] if isinstance(value, dict) else cast("Iterable[object]", value):
            yield from _objects_in(item, seen)


class _ClassFinder(pickle.Pickler):
    """Writes objects without their tensors, and notes the class of each."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, _PROTOCOL, fix_imports=False)
        self.classes: set[type] = set()
        self.nested: list[Any] = []  # Any: classes and functions

    def persistent_id(self, value: object) -> object:
        is_data = isinstance(value, torch.Tensor | torch.UntypedStorage | torch.storage.TypedStorage)
        return "tensor" if is_data else None

    def reducer_override(self, value: object) -> Any:  # noqa: ANN401  # what the protocol of pickle allows
        self.classes.add(type(value))
        if not _is_nested(value):
            return NotImplemented
        self.nested.append(value)
        return OrderedDict, ()  # a reference to it would name what it is nested in, as if that were stored, too


def _named_in(objects: list[object]) -> Iterator[tuple[str, object]]:
    """Give the classes of objects, and the functions that make them, each with the name that a file has for it."""
    stream = io.BytesIO()
    finder = _ClassFinder(stream)
    try:
        finder.dump(objects)
    except Exception:  # noqa: BLE001  # what cannot be pickled is torch.save's to refuse, in its own words
        return
    for found in [*finder.classes, *finder.nested]:
        yield f"{found.__module__}.{found.__qualname__}", found
    for operation, argument, _ in pickletools.genops(stream.getvalue()):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield f"{module}.{name}", resolve_name(f"{module}:{name}")


def _is_nested(value: object) -> TypeGuard[type | FunctionType]:
    """Tell a class or function that stands in another class, where its name says."""
    if not isinstance(value, type | FunctionType) or "." not in value.__qualname__:
        return False
    try:
        return resolve_name(f"{value.__module__}:{value.__qualname__}") is value
    except (AttributeError, ImportError, ValueError):
        return False  # made in a function, or given another name


def _may_be_read(path: str, found: object) -> bool:
    if not isinstance(found, type):
        return path in _NUMPY_MAKERS
    if issubclass(found, type):
        return False  # whoever may build what a metaclass makes can change every class that it has made
    module = found.__module__.partition(".")[0]
    return found in _HARMLESS or module not in sys.stdlib_module_names
