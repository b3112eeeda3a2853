"""Takes back a transition that failed, so that a checkpoint saved on the exception tells of the phase before it.

A run that resumes from such a checkpoint begins the phase once more, from where the first attempt began: the same best
checkpoint, and the same learning rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from phasewire.app.lightning_seams import maintain_partition

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch.optim import Optimizer

__all__ = ["optimizers_kept_on_failure"]


@contextmanager
def optimizers_kept_on_failure(trainer: pl.Trainer, *, only_adds_groups: bool) -> Iterator[None]:
    """Put optimizers and lr schedulers back to what they were if the block fails, except for what they learned.

    Weights and the optimizers' states are not kept twice: beginning the phase once more restores them.

    Args:
        trainer: The running Trainer.
        only_adds_groups: The block leaves the groups as they are that there are now.
    """
    strategy = trainer.strategy
    optimizers, configs = list(strategy.optimizers), list(strategy.lr_scheduler_configs)
    driven = [config.scheduler.optimizer for config in configs]
    keep = _same_groups if only_adds_groups else _groups_of
    groups = [keep(optimizer) for optimizer in optimizers]
    states = [{key: _copied(value) for key, value in config.scheduler.state_dict().items()} for config in configs]
    try:
        yield
    except BaseException:
        strategy.optimizers, strategy.lr_scheduler_configs = optimizers, configs
        for optimizer, kept in zip(optimizers, groups, strict=True):
            optimizer.param_groups = kept
            maintain_partition(optimizer)
        for config, optimizer, state in zip(configs, driven, states, strict=True):
            config.scheduler.optimizer = optimizer
            config.scheduler.load_state_dict(state)
        raise


def _same_groups(optimizer: Optimizer) -> list[dict[str, Any]]:  # Any: as below
    return list(optimizer.param_groups)


# Any: the options of a group, and the state of a scheduler, hold values of every type.
def _groups_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [{key: _copied(value) for key, value in group.items()} for group in optimizer.param_groups]


def _copied(value: object) -> object:
    if isinstance(value, list):
        return list(value)
    return value.clone() if isinstance(value, torch.Tensor) else value
