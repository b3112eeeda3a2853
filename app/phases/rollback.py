"""Takes back a transition that failed, so that a checkpoint saved on the exception tells of the phase before it.

A run that resumes from such a checkpoint begins the phase once more, from where the first attempt began: the same best
checkpoint, and the same learning rates. What the transition thawed is frozen again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from phasewire.app.lightning_seams import maintain_partition

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.phases.thaw import BatchNorm

__all__ = ["ThawedState", "is_defined_elsewhere", "optimizers_kept_on_failure", "package_of", "runs_code_of_others"]

#: The hooks that an adapter is asked during a transition.
_HOOKS: Final = (
    "exec_ft_phase",
    "fts_optim_transform",
    "logical_param_translation",
    "on_before_restore_optimizers_and_lrs",
    "on_phase_thawed",
)
_OUR_PACKAGE: Final = __name__.partition(".")[0]


def runs_code_of_others(adapter: StrategyAdapter) -> bool:
    """Tell whether a transition calls hooks that Phasewire does not bring along, which may change anything.

    Args:
        adapter: The connected adapter.

    Returns:
        Whether one of its hooks is defined elsewhere.
    """
    return any(is_defined_elsewhere(getattr(adapter, name)) for name in _HOOKS)


def is_defined_elsewhere(hook: Callable[..., object]) -> bool:
    """Tell whether a hook of an adapter is not one that Phasewire brings along.

    Args:
        hook: The hook, bound or partially applied.

    Returns:
        Whether it is defined in another package.
    """
    return package_of(hook) != _OUR_PACKAGE


def package_of(hook: Callable[..., object]) -> str:
    """Tell in which package something is defined that can be called.

    Args:
        hook: A function or method, bound or partially applied, or an object of a class.

    Returns:
        The name of the package, the first of a dotted one.
    """
    function = hook.func if isinstance(hook, partial) else hook
    return (getattr(function, "__module__", None) or "").partition(".")[0]


class ThawedState:
    """What parameters and batch norm layers were before they were thawed."""

    def __init__(self) -> None:
        self._parameters: list[tuple[Parameter, bool]] = []
        self._layers: list[tuple[BatchNorm, bool]] = []

    def note(self, parameters: Iterable[Parameter], layers: Iterable[BatchNorm]) -> None:
        """Note what may be changed next; what was noted before counts.

        Args:
            parameters: Parameters that may be thawed.
            layers: Layers that may begin to track their running statistics.
        """
        self._parameters += [(parameter, parameter.requires_grad) for parameter in parameters]
        self._layers += [(layer, layer.track_running_stats) for layer in layers]

    def put_back(self) -> None:
        """Make parameters and layers what they were."""
        for parameter, required in reversed(self._parameters):
            if parameter.requires_grad != required:
                parameter.requires_grad = required
        for layer, tracked in reversed(self._layers):
            layer.track_running_stats = tracked


@contextmanager
def optimizers_kept_on_failure(trainer: pl.Trainer, *, only_adds_groups: bool) -> Iterator[None]:
    """Put optimizers and lr schedulers back to what they were if the block fails, except for what they learned.

    Weights and the optimizers' states are not kept twice: beginning the phase once more restores them.

    Args:
        trainer: The running Trainer.
        only_adds_groups: The block leaves the groups as they are that there are now, so they need no copy: copying all
            of them in every phase would make a run of many phases quadratic.
    """
    strategy = trainer.strategy
    optimizers, configs = list(strategy.optimizers), list(strategy.lr_scheduler_configs)
    driven = [config.scheduler.optimizer for config in configs]
    keep = _same_groups if only_adds_groups else _groups_of
    groups = [keep(optimizer) for optimizer in optimizers]
    states = [{key: _copied(value) for key, value in config.scheduler.state_dict().items()} for config in configs]
    # The state of a scheduler tells what its lambdas hold, and loading it leaves those that were added.
    lambdas = [getattr(config.scheduler, "lr_lambdas", []) for config in configs]
    counts = list(map(len, lambdas))
    try:
        yield
    except BaseException:
        strategy.optimizers, strategy.lr_scheduler_configs = optimizers, configs
        for optimizer, kept in zip(optimizers, groups, strict=True):
            optimizer.param_groups = kept
            maintain_partition(optimizer)
        for added_to, count in zip(lambdas, counts, strict=True):
            del added_to[count:]
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
