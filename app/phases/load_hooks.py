"""Tells whether code of others is given a checkpoint when it is restored, so that it must be read for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities.model_helpers import is_overridden

from phasewire.app.checkpoint import CheckpointTranslator
from phasewire.app.lightning_seams import state_dict_code
from phasewire.app.phases.rollback import is_defined_elsewhere, package_of
from phasewire.app.trainer_attributes import callbacks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning.pytorch as pl
    from lightning.pytorch.strategies import Strategy
    from torch.nn import Module
    from torch.optim import Optimizer

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.strategy_seam import StrategySeam

__all__ = ["is_given_checkpoints", "may_change_checkpoints"]

#: The packages whose modules, optimizers and strategies load an equal state without a change.
_KNOWN: Final = frozenset({"lightning", "phasewire", "torch", "torchmetrics"})
#: The hooks of an adapter that make, or are given, what is restored between phases.
_ADAPTER_HOOKS: Final = (
    "before_restore_model",
    "lightning_module_state_dict",
    "load_model_state_dict",
    "on_before_restore_optimizers_and_lrs",
)


def is_given_checkpoints(trainer: pl.Trainer, adapter: StrategyAdapter) -> bool:
    """Tell whether code of others takes part when the best checkpoint is restored between phases.

    That is the ``on_load_checkpoint`` of module and precision plugin; the hooks of the adapter; what the module, one of
    its parts, or an optimizer overrides or registers for its state dict, in either direction: what is left out of one
    may be refused when it is loaded; and what averages the weights. Hooks of all other callbacks, and of the data, are
    not called between phases.

    Args:
        trainer: The running Trainer.
        adapter: The connected adapter.

    Returns:
        Whether the checkpoint must be read for it.
    """
    module, precision = trainer.lightning_module, trainer.precision_plugin
    owners: list[Module | Optimizer] = [*module.modules(), *trainer.strategy.optimizers]
    return (
        is_overridden("on_load_checkpoint", module)
        or is_overridden("on_load_checkpoint", precision, Precision)
        or any(is_defined_elsewhere(getattr(adapter, hook)) for hook in _ADAPTER_HOOKS)
        or any(map(_is_of_others, (module.load_state_dict, precision.load_state_dict)))
        or any(map(_is_of_others, _strategy_code(trainer.strategy)))
        or any(isinstance(callback, WeightAveraging) for callback in callbacks_of(trainer))
        or any(_is_of_others(code) for owner in owners for code in state_dict_code(owner))
    )


def may_change_checkpoints(translator: CheckpointTranslator, seam: StrategySeam) -> bool:
    """Tell whether others may change a checkpoint while it is read, before any hook is given it.

    Args:
        translator: What passes checkpoints through the adapter.
        seam: The seam, with the methods that the strategy had before.

    Returns:
        Whether it is not known that the run restores what its file holds.
    """
    return type(translator) is not CheckpointTranslator or any(map(_is_of_others, _strategy_code(seam)))


def _strategy_code(strategy: Strategy | StrategySeam) -> tuple[Callable[..., object], ...]:
    return (
        strategy.lightning_module_state_dict,
        strategy.load_checkpoint,
        strategy.load_model_state_dict,
        strategy.load_optimizer_state_dict,
    )


def _is_of_others(code: Callable[..., object]) -> bool:
    return package_of(code) not in _KNOWN
