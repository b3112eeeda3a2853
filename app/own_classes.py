"""The classes of what a run puts into its checkpoints, so that it can read them back without trusting the files.

``torch.load(weights_only=True)`` reads tensors and plain values. Modules also keep objects in checkpoints, such as a
``Path`` or a loss among the hyperparameters. A run goes back to files that it has written, but anybody who may write to
its folder may have replaced them since: so of other classes it reads those only that it has stored itself.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pkgutil import resolve_name
from typing import Any, Final, cast

import torch

__all__ = ["OwnClasses"]

_PLAIN: Final = frozenset({bool, int, float, str, bytes, type(None), torch.dtype, torch.device, torch.Size})
#: The protocol that torch.save writes, in which a class is one operand that names it.
_PROTOCOL: Final = 2
#: What is in these could be made to run anything, or to find what can.
_NEVER: Final = frozenset(
    {"_operator", "_posixsubprocess", "code", "importlib", "nt", "operator", "os", "pickle", "posix", "pty", "runpy"}
    | {"shutil", "subprocess", "sys", "types", "webbrowser"}
)


class OwnClasses:
    """Remembers the classes of the objects in checkpoints that one run has written."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}  # Any: classes, and functions that make objects

    # Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
    def note(self, checkpoint: Mapping[str, Any]) -> None:
        """Remember the classes of what is in a checkpoint beside tensors and plain values.

        Args:
            checkpoint: A checkpoint that is about to be written.
        """
        objects = list(_objects_in(checkpoint, set()))
        if objects:
            self._found.update((path, found) for path, found in _named_in(objects) if _may_be_read(found))

    def allowed(self) -> AbstractContextManager[None]:
        """Let ``torch.load`` read them with ``weights_only=True``, too.

        Returns:
            The context in which it does.
        """
        return torch.serialization.safe_globals([(found, path) for path, found in self._found.items()])


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

    def persistent_id(self, value: object) -> object:
        is_data = isinstance(value, torch.Tensor | torch.UntypedStorage | torch.storage.TypedStorage)
        return "tensor" if is_data else None

    def reducer_override(self, value: object) -> Any:  # noqa: ANN401  # what the protocol of pickle allows
        self.classes.add(type(value))
        return NotImplemented


def _named_in(objects: list[object]) -> Iterator[tuple[str, object]]:
    """Give the classes of objects, and the functions that make them, each with the name that a file has for it."""
    stream = io.BytesIO()
    finder = _ClassFinder(stream)
    try:
        finder.dump(objects)
    except Exception:  # noqa: BLE001  # what cannot be pickled is torch.save's to refuse, in its own words
        return
    for found in finder.classes:
        yield f"{found.__module__}.{found.__qualname__}", found
    for operation, argument, _ in pickletools.genops(stream.getvalue()):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield f"{module}.{name}", resolve_name(f"{module}:{name}")


def _may_be_read(found: object) -> bool:
    module = str(getattr(found, "__module__", ""))
    if module == "builtins":
        return isinstance(found, type) and found is not type
    return callable(found) and module.partition(".")[0] not in _NEVER
