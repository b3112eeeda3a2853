"""Files of tensors, read without loading them: Lightning checkpoints, plain state dicts, and safetensors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from phasewire.adapters.checkpoint_names import RECORD_KEY
from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.tensor_pieces import CHANGED
from phasewire.adapters.unpickling import refused_by_torch

__all__ = ["ALIASES_KEY", "STATE_KEY", "TensorFile", "open_tensors", "safetensors_module"]

#: The key of the module's state in a Lightning checkpoint.
STATE_KEY: Final = "state_dict"
#: The key, in the record of a safetensors file, of the names whose tensor is stored under another name.
ALIASES_KEY: Final = "aliases"

_MOST_SHOWN: Final = 10
_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
_USE_ANOTHER: Final = "Give a Lightning checkpoint, a state dict saved by torch.save, or a .safetensors file."


@dataclass(frozen=True, slots=True)
class TensorFile:
    """What a file holds; tensors are mapped, and read from the disk when they are used."""

    path: Path
    """Where it is."""
    # Any: modules may keep extra state of every type in a state dict.
    state: Mapping[str, Any]
    """The state dict."""
    record: Mapping[str, Any] | None
    """What Phasewire has recorded in it."""
    rest: Mapping[str, Any] = field(default_factory=dict)
    """What a Lightning checkpoint holds beside the state dict."""
    is_checkpoint: bool = False
    """Whether it is a Lightning checkpoint."""


def open_tensors(path: str | os.PathLike[str], *, unsafe: bool = False) -> TensorFile:
    """Open a file. What kind it is, its first bytes tell.

    Args:
        path: The file.
        unsafe: Let a checkpoint hold any object, which may run code while it is read.

    Returns:
        What it holds.

    Raises:
        CheckpointError: It is not there, is a folder, is cut off, or is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            "This is a folder.",
            where=str(path),
            remedy="Give a file. Folders of shards are turned into one by "
            "'python -m lightning.pytorch.utilities.consolidate_checkpoint FOLDER'.",
        )
    try:
        with path.open("rb") as file:
            begins = file.read(len(_ZIP))
    except OSError as error:
        raise CheckpointError(
            f"The file cannot be read: {error.strerror or error}.", where=str(path), remedy="Give one that is there."
        ) from error
    if begins == _ZIP:
        return _open_saved_by_torch(path, unsafe=unsafe)
    if begins.startswith(_PICKLE):
        raise CheckpointError(
            "The file is of the format that torch wrote before version 1.6, which Phasewire does not read.",
            where=str(path),
            remedy="Load it with torch.load and save it again with torch.save.",
        )
    return _open_safetensors(path)


def safetensors_module(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401  # a module has no type of its own
    """Import the safetensors library, which is optional.

    Args:
        path: The file that it is needed for.

    Returns:
        The module.

    Raises:
        CheckpointError: It is not installed.
    """
    try:
        import safetensors
    except ImportError as error:
        raise CheckpointError(
            "Files in the safetensors format need the safetensors library, which is not installed.",
            where=str(path),
            remedy="Install the extra: pip install 'phasewire[safetensors]'",
        ) from error
    return safetensors


def _open_saved_by_torch(path: Path, *, unsafe: bool) -> TensorFile:
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=not unsafe)
    except Exception as error:
        if refused := refused_by_torch(error):
            raise CheckpointError(
                f"The file holds more than tensors and plain values: {refused}",
                where=str(path),
                remedy="If you trust it, allow that with --unsafe: reading it may run code.",
            ) from error
        raise CheckpointError(
            f"The file is cut off, or none that torch.save has written ({type(error).__name__}: {error}).",
            where=str(path),
            remedy=_USE_ANOTHER,
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"The file holds an object of type {type(content).__name__}, and names with their tensors are expected.",
            where=str(path),
            remedy=_USE_ANOTHER,
        )
    if isinstance(content.get(STATE_KEY), Mapping):
        record = content.get(RECORD_KEY)
        rest = {key: value for key, value in content.items() if key not in {STATE_KEY, RECORD_KEY}}
        return TensorFile(path, content[STATE_KEY], record if isinstance(record, Mapping) else None, rest, True)
    other = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if other or not content:
        raise CheckpointError(
            f"The file is no state dict, and has no {STATE_KEY!r}. It holds: "
            f"{', '.join(map(repr, list(content)[:_MOST_SHOWN])) or 'nothing'}.",
            where=str(path),
            remedy=_USE_ANOTHER,
        )
    return TensorFile(path, content, None)


def _open_safetensors(path: Path) -> TensorFile:
    library = safetensors_module(path)
    try:
        with library.safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except (library.SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"The file is cut off, or of no format that is known ({error}).", where=str(path), remedy=_USE_ANOTHER
        ) from error
    record = _record_in(metadata, path)
    for alias, name in (record or {}).get(ALIASES_KEY, {}).items():
        if name in state:
            state.setdefault(alias, state[name])
    return TensorFile(path, state, record)


def _record_in(metadata: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    text = metadata.get(RECORD_KEY)
    if text is None:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not _are_names(record.get(ALIASES_KEY, {})):
        raise CheckpointError(
            f"What the file records under {RECORD_KEY!r} is not what Phasewire writes.",
            where=str(path),
            remedy=CHANGED,
        )
    return record


def _are_names(aliases: object) -> bool:
    return isinstance(aliases, dict) and all(isinstance(name, str) for name in aliases.values())
