"""Reads and writes the checkpoints of ``ModelParallelStrategy`` in the steps that a restore within a fit needs.

Lightning loads weights and optimizers while it reads a file, before anybody knows which groups the optimizer had when
it was written. Here, reading loads no more than the weights of a folder of shards; the optimizer follows when its
groups are rebuilt. The files are Lightning's: a Trainer without our callback reads them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.tensor import DTensor, distribute_tensor

from phasewire.adapters.errors import CheckpointError, did_you_mean
from phasewire.adapters.lightning_seams import nested, saves_model_parallel_shards, unwrapped_name
from phasewire.adapters.shard_reader import ShardReader, reading_shards
from phasewire.adapters.sharding import reshard

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule
    from lightning.pytorch.strategies import ModelParallelStrategy
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.nn import Parameter
    from torch.optim import Optimizer

__all__ = ["ParallelCheckpoints"]

#: The file of a folder of shards in which Lightning keeps all but tensors; it is written last.
_METADATA_FILE: Final = "meta.pt"

#: What is copied part by part, when it is loaded.
_COPIED_IN_PARTS: Final = frozenset({"state_dict", "optimizer_states"})

# Any, here and below: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
Checkpoint = dict[str, Any]


class ParallelCheckpoints:
    """The checkpoints of one running ``ModelParallelStrategy``.

    Args:
        strategy: The strategy.
    """

    def __init__(self, strategy: ModelParallelStrategy) -> None:
        self._strategy = strategy
        self._folder: Path | None = None
        self._unsafe = False

    @property
    def has_read_shards(self) -> bool:
        """Whether what was read last is a folder of shards."""
        return self._folder is not None

    # -- reading -------------------------------------------------------------------------------------------------

    def load_checkpoint(self, checkpoint_path: str | os.PathLike[str], weights_only: bool | None = None) -> Checkpoint:
        """Read a file, or a folder of shards; the weights of a folder are loaded into the module as they are read.

        Args:
            checkpoint_path: The file or folder.
            weights_only: As for ``torch.load``.

        Returns:
            The checkpoint; its ``state_dict`` has the names of the file, or those of the module for a folder.

        Raises:
            CheckpointError: A folder does not hold the parameters of the module.
            FileNotFoundError: There is no checkpoint.
        """
        path = Path(self._strategy.broadcast(checkpoint_path))
        self._unsafe = weights_only is False
        self._folder = path if (path / _METADATA_FILE).is_file() else None
        if self._folder is None:
            if path.is_dir():
                raise FileNotFoundError(f"the folder has no {_METADATA_FILE}: it was not written to its end")
            # Mapped into memory: every process reads the part that it holds. The file may be replaced later.
            mapped: Checkpoint = torch.load(path, mmap=True, map_location="cpu", weights_only=weights_only)
            return {key: value if key in _COPIED_IN_PARTS else deepcopy(value) for key, value in mapped.items()}
        checkpoint: Checkpoint = torch.load(path / _METADATA_FILE, map_location="cpu", weights_only=weights_only)
        checkpoint["state_dict"] = self._load_shards_of_weights(path)
        return checkpoint

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load the weights of a checkpoint that was read.

        Args:
            checkpoint: The checkpoint.
            strict: Refuse missing and unexpected keys.

        Raises:
            CheckpointError: A tensor has another shape than the module's.
        """
        module = self._module
        present = get_model_state_dict(module)
        state: dict[str, Any] = {
            name: _placed_like(present[name], value, name) if name in present else value
            for name, value in checkpoint["state_dict"].items()
        }
        set_model_state_dict(module, state, options=StateDictOptions(strict=strict))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the optimizers' states from a checkpoint that was read.

        Args:
            checkpoint: The checkpoint; the optimizers have the groups that it was written with.

        Raises:
            CheckpointError: It holds no state of an optimizer, or one that cannot be given to its parameters.
        """
        reshard(self._module)
        for index, optimizer in enumerate(self._strategy.optimizers):
            states = checkpoint.get("optimizer_states")
            if self._folder is not None:
                state = self._shards_of_optimizer(self._folder, f"optimizer_{index}", optimizer)
            elif states and index < len(states):
                state = states[index]
            else:
                raise _no_optimizer_state()
            optimizer.load_state_dict(self._for_optimizer(state, optimizer))

    # -- writing -------------------------------------------------------------------------------------------------

    def optimizer_state(self, optimizer: Optimizer) -> Checkpoint:
        """Collect the state of an optimizer, as it is: torch's own way first steps an optimizer that has none.

        Args:
            optimizer: The optimizer, or what Lightning wraps around it.

        Returns:
            By the names of parameters for shards; for a file, by their numbers in the module, on rank 0 alone.
        """
        optimizer = getattr(optimizer, "optimizer", optimizer)
        reshard(self._module)
        whole = not saves_model_parallel_shards(self._strategy)
        keys: dict[int, Any] = {
            id(parameter): number if whole else unwrapped_name(name)
            for number, (name, parameter) in enumerate(self._module.named_parameters())
        }
        own = optimizer.state_dict()
        key_of = dict(enumerate(keys[id(parameter)] for parameter in _parameters_of(optimizer)))
        states = {key_of[number]: dict(state) for number, state in own["state"].items()}
        groups = [{**group, "params": [key_of[number] for number in group["params"]]} for group in own["param_groups"]]
        if whole:
            # Every process takes part in gathering every tensor.
            states = {key: {name: _gathered(value) for name, value in state.items()} for key, state in states.items()}
            if not self._strategy.is_global_zero:
                return {}
        return {"state": states, "param_groups": groups}

    # -- steps ---------------------------------------------------------------------------------------------------

    @property
    def _module(self) -> LightningModule:
        module = self._strategy.lightning_module
        if module is None:
            raise CheckpointError("The strategy has no module.", remedy="Read checkpoints while a Trainer runs.")
        return module

    def _load_shards_of_weights(self, folder: Path) -> dict[str, Any]:
        present, metadata = get_model_state_dict(self._module), _metadata(folder)
        saved = {path[1] for path in _paths(metadata).values() if path[0] == "state_dict"}
        missing, unexpected = sorted(present.keys() - saved), sorted(saved - present.keys())
        if self._module.strict_loading and (missing or unexpected):
            names = [f"it lacks {missing[0]!r}"] if missing else []
            names += [f"it holds {unexpected[0]!r}"] if unexpected else []
            near = did_you_mean(missing[0], unexpected) if missing else ""
            difference = ", and ".join(names)
            raise CheckpointError(
                f"The folder does not hold the parameters and buffers of the module: {difference}. {near}".rstrip(),
                where=str(folder),
                remedy="Load it with the module that it was saved with, or set strict_loading=False in the module.",
            )
        state = {name: value for name, value in present.items() if name in saved}
        for name, value in state.items():
            stored = metadata.state_dict_metadata[f"state_dict.{name}"]
            if isinstance(stored, TensorStorageMetadata) and isinstance(value, torch.Tensor):
                _require_shape(name, stored.size, value.shape)
        self._load({"state_dict": state}, folder)
        return state

    def _shards_of_optimizer(self, folder: Path, key: str, optimizer: Optimizer) -> Checkpoint:
        """Read the state of an optimizer: what the folder holds, whatever the optimizer has now."""
        metadata = _metadata(folder)
        paths = {flat: path for flat, path in _paths(metadata).items() if path[0] == key}
        if not paths:
            raise _no_optimizer_state()
        named = {unwrapped_name(name): parameter for name, parameter in self._module.named_parameters()}
        flat: dict[str, Any] = {}
        for flat_key, path in paths.items():
            stored = metadata.state_dict_metadata[flat_key]
            like = named.get(path[2]) if path[1] == "state" else None
            flat[flat_key] = _room_for(stored, like, flat_key) if isinstance(stored, TensorStorageMetadata) else None
        self._load(flat, folder)
        # A state without tensors, as plain SGD has, leaves no trace in the folder.
        return {"state": {}, **nested(flat, paths)[key]}

    # Any: tensors are loaded in place, other values are put in.
    def _load(self, state: dict[str, Any], folder: Path) -> None:
        with reading_shards(folder):
            load(state, storage_reader=ShardReader(folder, unsafe=self._unsafe))

    def _for_optimizer(self, state: Mapping[str, Any], optimizer: Optimizer) -> Checkpoint:
        """Number the parameters of a state as the optimizer does, and shard its tensors as they are sharded."""
        groups = state["param_groups"]
        sizes = [len(group["params"]) for group in groups], [len(group["params"]) for group in optimizer.param_groups]
        if sizes[0] != sizes[1]:
            raise CheckpointError(
                f"The optimizer in the checkpoint has groups of {sizes[0]} parameters, and that of the run has "
                f"{sizes[1]}.",
                remedy="Resume with the schedule and the module that the checkpoint was written with.",
            )
        names = {id(parameter): unwrapped_name(name) for name, parameter in self._module.named_parameters()}
        saved = list(chain.from_iterable(group["params"] for group in groups))
        states: dict[int, dict[str, Any]] = {}
        for number, (key, parameter) in enumerate(zip(saved, _parameters_of(optimizer), strict=True)):
            if key in state["state"]:
                name = names[id(parameter)]
                states[number] = {
                    part: _placed_like(parameter, value, f"{part} of {name}") if _is_of_size(value) else deepcopy(value)
                    for part, value in state["state"][key].items()
                }
        numbers = iter(range(len(saved)))
        numbered = [{**group, "params": [next(numbers) for _ in group["params"]]} for group in deepcopy(groups)]
        return {"state": states, "param_groups": numbered}


def _parameters_of(optimizer: Optimizer) -> Iterator[Parameter]:
    yield from chain.from_iterable(group["params"] for group in optimizer.param_groups)


def _metadata(folder: Path) -> Metadata:
    return ShardReader(folder).read_metadata()


def _paths(metadata: Metadata) -> dict[str, tuple[Any, ...]]:
    """Tell where in the saved state everything stood: torch stores nested state under flat keys."""
    return dict(metadata.planner_data)


def _is_of_size(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0


def _placed_like(target: object, value: object, name: str) -> object:
    """Give a copy of the part of a tensor that this process holds, where the target is sharded."""
    if not isinstance(target, torch.Tensor) or not isinstance(value, torch.Tensor):
        return value
    _require_shape(name, value.shape, target.shape)
    if isinstance(value, DTensor):
        return value
    part = value.detach()
    if isinstance(target, DTensor):
        part = distribute_tensor(part, target.device_mesh, target.placements, src_data_rank=None)
    # What was read may only be mapped into memory.
    return part.clone()


def _room_for(stored: TensorStorageMetadata, like: Parameter | None, key: str) -> torch.Tensor:
    dtype = stored.properties.dtype
    if like is None or not stored.size:
        return torch.empty(stored.size, dtype=dtype)
    _require_shape(key, stored.size, like.shape)
    return torch.empty_like(like.detach(), dtype=dtype)


def _require_shape(name: str, saved: torch.Size, wanted: torch.Size) -> None:
    if saved != wanted:
        raise CheckpointError(
            f"{name} has the shape {tuple(saved)} in the checkpoint, and {tuple(wanted)} is wanted.",
            remedy="Load it with the module and the optimizer that it was saved with; of an optimizer that keeps "
            "tensors of other shapes than its parameters', a state cannot be restored.",
        )


def _gathered(value: object) -> object:
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.cpu() if isinstance(value, torch.Tensor) else value


def _no_optimizer_state() -> CheckpointError:
    return CheckpointError(
        "The checkpoint holds no state of an optimizer: it was saved with save_weights_only=True.",
        remedy="Give a checkpoint that was saved with everything.",
    )
