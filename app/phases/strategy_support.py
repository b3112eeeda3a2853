"""What a strategy needs when parameters are thawed, whatever adapter is mapped to it.

The callback chooses the support by the class of the running strategy, so that a plug-in cannot forget it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.nn.parallel import DistributedDataParallel

from phasewire.adapters.sharding import reshard

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

__all__ = ["DDPSupport", "ModelParallelSupport", "StrategySupport", "support_for"]


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
        """Wrap the module anew, where it is wrapped: a subclass of the strategy may hold it in another way."""
        if not isinstance(self._ddp.model, DistributedDataParallel):
            return
        self._ddp.model = self._ddp.lightning_module
        self._ddp.configure_ddp()


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
    return StrategySupport(strategy)
