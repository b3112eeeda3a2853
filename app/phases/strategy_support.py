"""What a strategy needs when parameters are thawed, whatever adapter is mapped to it.

The callback chooses the support by the class of the running strategy, so that a plug-in cannot forget it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from torch.nn.parallel import DistributedDataParallel

from phasewire.adapters.sharding import reshard
from phasewire.app.lightning_seams import begin_static_graph_anew, communication_hooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch.strategies import Strategy
    from torch.nn import Module

    from phasewire.app.lightning_seams import CommunicationHook

__all__ = ["DDPSupport", "FSDPSupport", "ModelParallelSupport", "StrategySupport", "support_for"]


class StrategySupport:
    """Support for a strategy that needs nothing when parameters are thawed.

    Args:
        strategy: The running strategy.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy

    def before_thaw(self) -> None:
        """Act before the module's parameters are frozen, thawed, or given to an optimizer."""

    def after_thaw(self) -> None:
        """Act after parameters were thawed while the strategy holds the module."""

    def agree(self, decision: bool) -> bool:
        """Take a decision for all processes: it is taken as soon as one process takes it.

        Args:
            decision: What this process decided.

        Returns:
            What all processes do.
        """
        return self._strategy.reduce_boolean_decision(decision, all=False)

    def as_first_process(self, value: str) -> str:
        """Give the value that the first process has.

        Processes that log different values of a metric name files after them, and only the first one writes.

        Args:
            value: What this process has.

        Returns:
            What the first one has.
        """
        return self._strategy.broadcast(value)


class DDPSupport(StrategySupport):
    """Registers thawed parameters for reduction.

    ``DistributedDataParallel`` registers the parameters that require a gradient when it wraps the module
    (torch/nn/parallel/distributed.py). What is thawed later would never be reduced, and the processes would drift
    apart; so the module is wrapped anew, with the strategy's own options and communication hooks.

    Args:
        strategy: The running strategy.
    """

    def __init__(self, strategy: DDPStrategy) -> None:
        super().__init__(strategy)
        self._ddp = strategy

    def after_thaw(self) -> None:
        """Wrap the module anew, where it is wrapped: a subclass of the strategy may hold it in another way.

        A communication hook goes on with its state, whether the strategy registered it or the user did.
        """
        wrapped = self._ddp.model
        if not isinstance(wrapped, DistributedDataParallel):
            return
        hooks = communication_hooks(wrapped)
        for _, state in hooks:
            _forget_buckets(state)
        self._ddp.model = self._ddp.lightning_module
        del wrapped  # with it go its reducer and the reducer's hooks on the parameters
        self._ddp.configure_ddp()
        _register_missing(hooks, self._ddp.model)
        begin_static_graph_anew(self._ddp)


def _register_missing(hooks: Sequence[CommunicationHook], model: Module | None) -> None:
    """Register the hooks that the user registered on the wrapped module, not through the strategy."""
    if isinstance(model, DistributedDataParallel) and not communication_hooks(model):
        for hook, state in hooks:
            model.register_comm_hook(state, hook)


def _forget_buckets(state: object) -> None:
    """Let PowerSGD begin anew with other buckets of gradients: what it keeps has the shapes of the old ones.

    Two steps are reduced uncompressed, as it needs while buckets are still being built.
    """
    from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState

    if isinstance(state, PowerSGDState):
        for kept in (state.error_dict, state.p_memory_dict, state.q_memory_dict):
            kept.clear()
        state.iter = min(state.iter, state.start_powerSGD_iter - 2)


class FSDPSupport(StrategySupport):
    """Lets units that were frozen register the hooks of units that train.

    Args:
        strategy: The running strategy.
    """

    def after_thaw(self) -> None:
        """Forget the hooks that frozen units have kept since a forward pass without a backward pass."""
        # Imports torch.distributed.fsdp, which only this strategy needs.
        from phasewire.adapters.lightning_seams import forget_post_backward_hooks

        if self._strategy.model is not None:
            forget_post_backward_hooks(self._strategy.model)


class ModelParallelSupport(StrategySupport):
    """Lets phases find the sharded parameters of a module, which are those that are trained.

    Args:
        strategy: The running strategy.
    """

    def before_thaw(self) -> None:
        """Shard what a forward pass without a backward pass, as in validation, left whole."""
        module = self._strategy.lightning_module
        if module is not None:
            reshard(module)


def support_for(strategy: Strategy) -> StrategySupport:
    """Choose the support for a strategy.

    Args:
        strategy: The running strategy.

    Returns:
        The support for its class or the nearest base.
    """
    if isinstance(strategy, DDPStrategy):
        return DDPSupport(strategy)
    if isinstance(strategy, ModelParallelStrategy):
        return ModelParallelSupport(strategy)
    if isinstance(strategy, FSDPStrategy):
        return FSDPSupport(strategy)
    return StrategySupport(strategy)
