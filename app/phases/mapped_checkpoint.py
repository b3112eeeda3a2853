"""Reads a checkpoint by mapping its file, so that weights are copied once: from the file into the module."""

from __future__ import annotations

import copy
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["can_be_mapped", "read_mapped"]

_EXTRA_STATE = "_extra_state"


# Any, here and below: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def can_be_mapped(strategy: Strategy, load: Callable[..., Any], path: str | os.PathLike[str]) -> bool:
    """Tell whether mapping a file gives what the strategy itself would read.

    Args:
        strategy: The running strategy.
        load: What the strategy loads checkpoints with.
        path: The checkpoint.

    Returns:
        Whether it reads files with nothing but ``torch.load``, and this is a local file in torch's present format.
    """
    if getattr(load, "__func__", None) is not Strategy.load_checkpoint:
        return False
    return type(strategy.checkpoint_io) is TorchCheckpointIO and Path(path).is_file() and zipfile.is_zipfile(path)


def read_mapped(path: str | os.PathLike[str], *, weights_only: bool | None) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: The file.
        weights_only: As for ``torch.load``.

    Returns:
        The checkpoint. The tensors of its state dict are in the file, and loading it copies them; all others, which
        may be kept as they are, are in memory.
    """
    torch.cuda.empty_cache()  # as the strategy itself does
    read: dict[str, Any] = torch.load(
        os.fspath(path), map_location=lambda storage, _: storage, weights_only=weights_only, mmap=True
    )
    memo: dict[int, Any] = {}
    return {key: _weights(value) if key == "state_dict" else _in_memory(value, memo) for key, value in read.items()}


def _weights(state: object) -> object:
    if isinstance(state, dict):
        for name in [name for name in state if str(name).endswith(_EXTRA_STATE)]:
            state[name] = _in_memory(state[name], {})
    return state


def _in_memory(value: object, memo: dict[int, Any]) -> object:
    """Copy the tensors in plain collections, in place; what was one tensor, or shared its storage, still does."""
    if isinstance(value, torch.Tensor):
        return copy.deepcopy(value, memo)
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _in_memory(item, memo)
    elif isinstance(value, list):
        value[:] = [_in_memory(item, memo) for item in value]
    elif type(value) is tuple:
        return tuple(_in_memory(item, memo) for item in value)
    return value
