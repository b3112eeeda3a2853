"""Phases trained by a plain loop of torch, to compare a run of the scheduler with."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tuning import Batches, TunedModule, state_of

LATER_LR = 1e-5


def train_by_hand(
    module: TunedModule,
    schedule: Mapping[int, Mapping[str, Any]],
    starts: Mapping[int, int],
    *,
    epochs: int,
    best: Mapping[int, int] | None = None,
    accumulate: int = 1,
    forward: AbstractContextManager[Any] | None = None,
) -> dict[str, Tensor]:
    """Train the phases of a schedule on ``Batches()``.

    Args:
        module: The module; it is changed.
        schedule: Depth to the ``params`` (regular expressions) and ``lr`` of the phase.
        starts: Epoch at which a phase begins, to its depth; phase 0 begins at 0.
        epochs: How many to train.
        best: Depth of a phase, to the epoch whose end it goes back to; without, none does.
        accumulate: After how many batches the optimizer steps.
        forward: The context of forward passes.

    Returns:
        The state of the module.
    """
    named = dict(module.named_parameters())

    def thaw(depth: int) -> list[nn.Parameter]:
        patterns = schedule[depth]["params"]
        taken = [p for name, p in named.items() if any(re.match(pattern, name) for pattern in patterns)]
        for parameter in taken:
            parameter.requires_grad = True
        return taken

    for parameter in named.values():
        parameter.requires_grad = False
    optimizer = module._make_optimizer(thaw(0))
    ends: list[tuple[Any, Any]] = []
    for epoch in range(epochs):
        if epoch in starts:
            depth = starts[epoch]
            if best is not None:
                _go_back(module, optimizer, ends[best[depth]])
            # What an earlier phase added after the best epoch is added anew.
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for phase in range(1, depth + 1):
                new = [parameter for parameter in thaw(phase) if id(parameter) not in held]
                if new:
                    optimizer.add_param_group({"params": new, "lr": schedule[phase].get("lr", LATER_LR)})
        _train_epoch(module, optimizer, accumulate, forward or nullcontext())
        ends.append((state_of(module), (len(optimizer.param_groups), copy.deepcopy(optimizer.state_dict()))))
    return state_of(module)


def _go_back(module: nn.Module, optimizer: torch.optim.Optimizer, end: tuple[Any, Any]) -> None:
    weights, (groups, state) = end
    module.load_state_dict(weights)
    del optimizer.param_groups[groups:]
    optimizer.load_state_dict(copy.deepcopy(state))


def _train_epoch(
    module: nn.Module, optimizer: torch.optim.Optimizer, accumulate: int, forward: AbstractContextManager[Any]
) -> None:
    module.train()
    batches = list(Batches())
    for index, (x, y) in enumerate(batches, 1):
        with forward:
            loss = nn.functional.mse_loss(module(x), y)
        (loss / accumulate).backward()
        if index % accumulate == 0 or index == len(batches):
            optimizer.step()
            optimizer.zero_grad()


class EpochStates(Callback):
    """Keeps the weights that every epoch began and ended with."""

    def __init__(self) -> None:
        self.beginnings: list[dict[str, Tensor]] = []
        self.ends: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int):
        if batch_idx == 0:
            self.beginnings.append(state_of(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ends.append(state_of(pl_module))


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Whether two states have the same names and bits."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
