"""Reads a checkpoint by mapping its file, so that its tensors are copied once: from the file to where they belong."""

from __future__ import annotations

import copy
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy

from phasewire.app.nested_tensors import tensors_in

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

__all__ = ["can_be_mapped", "loaded_into_memory", "loading_into_memory", "read_mapped"]

_EXTRA_STATE: Final = "_extra_state"
_WEIGHTS: Final = "state_dict"
_OPTIMIZERS: Final = "optimizer_states"


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
        The checkpoint. The tensors of the module and of optimizers are in the file: a module copies what it loads, or
        :func:`loaded_into_memory` does, and for optimizers :func:`loading_into_memory`. All others, which may be kept
        as they are, are in memory.
    """
    torch.cuda.empty_cache()  # as the strategy itself does
    read: dict[str, Any] = torch.load(
        os.fspath(path), map_location=lambda storage, _: storage, weights_only=weights_only, mmap=True
    )
    memo: dict[int, Any] = {}
    return {
        key: _weights(value) if key == _WEIGHTS else value if key == _OPTIMIZERS else _in_memory(value, memo)
        for key, value in read.items()
    }


def loading_into_memory(
    optimizers: Sequence[Optimizer], load: Callable[[Mapping[str, Any]], None], checkpoint: Mapping[str, Any]
) -> None:
    """Let optimizers load their states, and copy what they took from a mapped file.

    It is copied into the tensors that it replaces, where those fit: memory for a second state is not needed.

    Args:
        optimizers: The optimizers.
        load: Loads their states from a checkpoint.
        checkpoint: What :func:`read_mapped` gave, or any other.
    """
    stored = filter(_has_one_storage, tensors_in(checkpoint.get(_OPTIMIZERS)))
    storages = Counter(tensor.untyped_storage().data_ptr() for tensor in stored)
    before = [dict(optimizer.state) for optimizer in optimizers]
    load(checkpoint)
    owner = _Owner(storages)
    with torch.no_grad():
        for optimizer, replaced in zip(optimizers, before, strict=True):
            for parameter, state in list(optimizer.state.items()):
                optimizer.state[parameter] = _changed(state, replaced.get(parameter), owner.owned)


def loaded_into_memory(module: Module, state: object) -> None:
    """Copy what a module keeps of a mapped file, by ``load_state_dict(assign=True)`` or as metrics load their states.

    Whoever writes that file anew would change the weights, or end the process.

    Args:
        module: The module, which has loaded the state.
        state: The state dict of a checkpoint that :func:`read_mapped` gave.
    """
    mapped = {tensor.untyped_storage().data_ptr() for tensor in filter(_has_one_storage, tensors_in(state))}
    copies: dict[int, Any] = {}
    for part in module.modules():
        for tensor in _kept_by(part):
            if _is_plain(tensor) and tensor.numel() and tensor.untyped_storage().data_ptr() in mapped:
                tensor.data = copy.deepcopy(tensor.detach(), copies)


def _kept_by(part: Module) -> Iterator[torch.Tensor]:
    yield from part.parameters(recurse=False)
    yield from part.buffers(recurse=False)
    for value in vars(part).values():
        # Of a metric. Other collections may be large, and hold all sorts of things.
        if isinstance(value, torch.Tensor) or (
            isinstance(value, list) and value and isinstance(value[0], torch.Tensor)
        ):
            yield from tensors_in(value)


def _is_plain(tensor: torch.Tensor) -> bool:
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and _has_one_storage(tensor) and not tensor.is_meta


def _weights(state: object) -> object:
    if isinstance(state, dict):
        for name in [name for name in state if str(name).endswith(_EXTRA_STATE)]:
            state[name] = _in_memory(state[name], {})
    return state


def _in_memory(value: object, memo: dict[int, Any]) -> object:
    """Copy the tensors in plain collections, in place; what was one tensor, or shared its storage, still does."""
    return _changed(value, None, lambda tensor, _: copy.deepcopy(tensor, memo))


class _Owner:
    """Gives for tensors of a mapped file what is not in it.

    Args:
        storages: How many tensors of the file there are in each storage.
    """

    def __init__(self, storages: Mapping[int, int]) -> None:
        self._storages = storages
        self._copies: dict[int, Any] = {}
        self._taken: set[int] = set()

    def owned(self, tensor: torch.Tensor, old: object) -> torch.Tensor:
        """Copy a tensor if it is in the file: into the one that it replaces if that is like it."""
        if not _has_one_storage(tensor):
            whole: torch.Tensor = copy.deepcopy(tensor, self._copies)
            return whole
        storage = tensor.untyped_storage()
        sharing = self._storages.get(storage.data_ptr(), 0)
        is_alone = sharing == 1 and storage.nbytes() == tensor.nbytes
        if (
            is_alone
            and isinstance(old, torch.Tensor)
            and _layout(old) == _layout(tensor)
            and id(old) not in self._taken
        ):
            self._taken.add(id(old))
            return old.copy_(tensor)
        copied: torch.Tensor = copy.deepcopy(tensor, self._copies) if sharing else tensor
        return copied


def _has_one_storage(tensor: torch.Tensor) -> bool:
    # A sparse one has several, as the momentum of an embedding with sparse gradients is.
    return tensor.layout is torch.strided


def _layout(tensor: torch.Tensor) -> tuple[object, ...]:
    return type(tensor), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _changed(value: object, old: object, change: Callable[[torch.Tensor, object], object]) -> object:
    """Replace the tensors in plain collections, in place; ``old`` holds, in the same places, what they replace."""
    if isinstance(value, torch.Tensor):
        return change(value, old)
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _changed(item, old.get(key) if isinstance(old, Mapping) else None, change)
    elif isinstance(value, list):
        value[:] = [_changed(item, None, change) for item in value]
    elif type(value) is tuple:
        return tuple(_changed(item, None, change) for item in value)
    return value
