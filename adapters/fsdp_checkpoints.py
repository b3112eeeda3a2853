"""Checkpoints under FSDP1: weights and optimizer state loaded apart, full and sharded, by the names of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.optimizer import load_sharded_optimizer_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    ShardedOptimStateDictConfig,
    ShardedStateDictConfig,
    StateDictType,
)

from phasewire.adapters import lightning_seams as seams
from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.shard_reader import ShardReader, reading_shards
from phasewire.adapters.sharded_checkpoints import ShardedCheckpoints

if TYPE_CHECKING:
    from lightning.pytorch.strategies import FSDPStrategy
    from torch.nn import Module
    from torch.optim import Optimizer

__all__ = ["FSDPCheckpoints"]


class FSDPCheckpoints(ShardedCheckpoints):
    """The part of :class:`~phasewire.adapters.FSDPStrategyAdapter` that reads, saves and loads checkpoints."""

    _fsdp: FSDPStrategy
    _shards: Path | None = None
    _unsafe = False

    @property
    def saves_shards(self) -> bool:
        """Whether checkpoints are written as folders of shards."""
        return seams.saves_shards(self._fsdp)

    # Any, here and below: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
    def read_checkpoint(self, path: Path, *, weights_only: bool | None) -> dict[str, Any]:
        """Read a checkpoint, and load nothing from it.

        Args:
            path: A file, or a folder of shards; that of rank 0 holds for all.
            weights_only: What the Trainer was told of ``torch.load``.

        Returns:
            All of it, or all but weights and optimizer state, which are in shards.

        Raises:
            CheckpointError: There is no checkpoint.
        """
        path = Path(self._fsdp.broadcast(path))
        self._unsafe = weights_only is False
        metadata = path / seams.SHARDS_METADATA
        self._shards = path if metadata.is_file() else None
        if self._shards is None and not path.is_file():
            raise CheckpointError(
                "There is no checkpoint here.",
                where=str(path),
                remedy=f"Give a file, or a folder of shards, which holds {seams.SHARDS_METADATA}.",
            )
        source = path if self._shards is None else metadata
        checkpoint: dict[str, Any] = torch.load(
            source, map_location="cpu", mmap=self._shards is None, weights_only=weights_only
        )
        return checkpoint

    def load_model_state_dict(self, checkpoint: dict[str, Any], strict: bool = True) -> None:
        """Load the module's state from the checkpoint that was read last.

        Args:
            checkpoint: The whole checkpoint.
            strict: Refuse missing and unexpected keys.
        """
        model = self._wrapped
        if self._shards is None:
            with self._full(on_all_ranks=True):
                model.load_state_dict(checkpoint["state_dict"], strict=strict)
            return
        with self._sharded():
            state = {"model": model.state_dict()}
            with reading_shards(self._shards):
                load(state, storage_reader=ShardReader(self._shards, unsafe=self._unsafe))
            model.load_state_dict(state["model"], strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Collect the state of an optimizer: whole on rank 0, or a shard on every rank.

        Args:
            optimizer: The optimizer.

        Returns:
            Its state by the names of parameters; empty on other ranks, where it is whole.
        """
        kind = self._sharded() if self.saves_shards else self._full(on_all_ranks=False)
        with kind, self._without_a_state_yet(optimizer):
            state: dict[str, Any] = FullyShardedDataParallel.optim_state_dict(self._wrapped, optimizer)
        # The parameters of a flat one share its step count, which an optimizer that keeps them whole would advance
        # once for each.
        of_parameters = {name: _unshared(values) for name, values in state.get("state", {}).items()}
        return {**state, "state": of_parameters} if state else state

    def load_optimizer_states(self, checkpoint: dict[str, Any], names_of_groups: Sequence[Sequence[str]]) -> None:
        """Load the state of the optimizer from the checkpoint that was read last.

        Args:
            checkpoint: The checkpoint.
            names_of_groups: The names of the parameters of each group, as the checkpoint records them.

        Raises:
            CheckpointError: It holds no optimizer state.
        """
        optimizer = self._fsdp.optimizers[0]
        if self._shards is not None:
            with self._sharded():
                key = "optimizer_0"
                with reading_shards(self._shards):
                    state = load_sharded_optimizer_state_dict(
                        model_state_dict=self._wrapped.state_dict(),
                        optimizer_key=key,
                        storage_reader=ShardReader(self._shards, unsafe=self._unsafe),
                    )[key]
                self._load_into(optimizer, state)
            return
        states = checkpoint.get("optimizer_states")
        if not states:
            raise CheckpointError(
                "The checkpoint holds no optimizer state, so the training cannot go on from it.",
                remedy="Use one that was saved with save_weights_only=False, or load its weights alone.",
            )
        with self._full(on_all_ranks=True):
            self._load_into(optimizer, _by_name(states[0], names_of_groups))

    def _load_into(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        state.setdefault("state", {})  # an optimizer without any leaves nothing in shards
        optimizer.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(self._wrapped, optimizer, state))

    @contextmanager
    def _without_a_state_yet(self, optimizer: Optimizer) -> Iterator[None]:
        """Let parameters that have not been stepped pass as frozen: they are, as far as the state goes.

        torch 2.13 demands a state of every trainable parameter that stands in a unit with one that has a state
        (_optim_utils.py, _convert_state_with_orig_params). What was just thawed has none, on whatever rank it is.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        has_state = torch.tensor([parameter in optimizer.state for parameter in parameters], dtype=torch.int32)
        has_state = self._fsdp.reduce(has_state.to(self._fsdp.root_device), reduce_op="sum")
        stateless = [
            parameter
            for parameter, ranks in zip(parameters, has_state.tolist(), strict=True)
            if not ranks and parameter.requires_grad
        ]
        for parameter in stateless:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in stateless:
                parameter.requires_grad = True

    @property
    def _wrapped(self) -> Module:
        model = self._fsdp.model
        if model is None:
            raise CheckpointError(
                "A checkpoint is asked for before FSDP has wrapped the module.",
                remedy="Save and load checkpoints while a Trainer runs.",
            )
        return model

    def _full(self, *, on_all_ranks: bool) -> AbstractContextManager[Any]:
        # torch 2.13 fails to offload to the CPU what is there already.
        offload = self._fsdp.root_device.type != "cpu"
        return FullyShardedDataParallel.state_dict_type(
            self._wrapped,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=offload, rank0_only=not on_all_ranks),
            FullOptimStateDictConfig(offload_to_cpu=offload, rank0_only=not on_all_ranks),
        )

    def _sharded(self) -> AbstractContextManager[Any]:
        return FullyShardedDataParallel.state_dict_type(
            self._wrapped,
            StateDictType.SHARDED_STATE_DICT,
            ShardedStateDictConfig(offload_to_cpu=True),
            ShardedOptimStateDictConfig(offload_to_cpu=True),
        )


def _unshared(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.clone() if isinstance(value, torch.Tensor) and value.dim() == 0 else value
        for key, value in values.items()
    }


def _by_name(state: dict[str, Any], names_of_groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Key a state by names, where a strategy that keeps parameters whole has saved it by numbers."""
    groups = state["param_groups"]
    if all(isinstance(key, str) for group in groups for key in group["params"]):
        return state
    names = {
        key: name
        for group, recorded in zip(groups, names_of_groups, strict=True)
        for key, name in zip(group["params"], recorded, strict=True)
    }
    return {
        "state": {names.get(key, key): value for key, value in state["state"].items()},
        "param_groups": [{**group, "params": [names[key] for key in group["params"]]} for group in groups],
    }
