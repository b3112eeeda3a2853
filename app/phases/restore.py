"""Going back to the best checkpoint when a phase ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from phasewire.adapters import rank_zero
from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.sharded_checkpoints import ShardedCheckpoints
from phasewire.app.checkpoint import SCHEDULER_STATE_KEY
from phasewire.app.lightning_seams import (
    callbacks_of,
    loading_checkpoint,
    restore_model_state,
    restore_optimizer_state,
)
from phasewire.app.phases.adapter_calls import calling
from phasewire.app.phases.other_callbacks import restore_averages
from phasewire.app.phases.pending_saves import finish_saves
from phasewire.app.phases.rollback import is_defined_elsewhere
from phasewire.app.phases.state import PhaseState

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.phases.optimization import PhaseOptimization

__all__ = ["restore_best"]


def restore_best(
    trainer: pl.Trainer,
    adapter: StrategyAdapter,
    path: str,
    optimization: PhaseOptimization | None,
    *,
    already: tuple[int, int] | None,
) -> tuple[int, int]:
    """Restore weights and the states of precision and optimizer from the best checkpoint.

    Learning rates, lr schedulers, callbacks and loops keep their progress: early stopping, checkpoint bookkeeping and
    the epoch count go on. Averaged weights go back with the weights that they are the average of.

    Args:
        trainer: The running Trainer.
        adapter: The connected adapter.
        path: The best checkpoint.
        optimization: The optimizer of this run; ``None`` leaves it, where the phase that begins starts a new one.
        already: The epoch and the phase in which it was written, if module and optimizer are what it holds. It is then
            read only for the hooks that are given it, and tensors are not copied.

    Returns:
        The epoch and the phase in which it was written.

    Raises:
        CheckpointError: The checkpoint does not belong to this run, or cannot be restored.
    """
    if already is not None and not _is_looked_at(trainer, adapter):
        rank_zero.info(f"The weights are those of the best checkpoint, {path}.")
        return already
    # One process writes, and all wait for it.
    finish_saves(trainer.strategy.checkpoint_io)
    trainer.strategy.barrier("phasewire.restore_best")
    with loading_checkpoint(trainer, path) as checkpoint:
        saved = checkpoint.get("callbacks", {}).get(SCHEDULER_STATE_KEY)
        if saved is None:
            raise CheckpointError(
                "The best checkpoint holds no state of the scheduler, so it was not written by this run.",
                where=path,
                remedy="Set restore_best=False, or do not change FTSCheckpoint.best_model_path during the run.",
            )
        state = PhaseState.from_dict(saved, where=path)
        if already is not None:
            _put_present_tensors(trainer, checkpoint)
        restore_model_state(trainer)
        restore_averages(trainer, checkpoint, path)
        if optimization is not None:
            with calling(adapter, "on_before_restore_optimizers_and_lrs"):
                adapter.on_before_restore_optimizers_and_lrs()
            optimization.take_over(state.optimization, lambda: _load_optimizer(trainer, adapter, checkpoint))
        return int(checkpoint["epoch"]), state.depth


def _is_looked_at(trainer: pl.Trainer, adapter: StrategyAdapter) -> bool:
    """Tell whether anybody's hook is called with the checkpoint that is restored."""
    hooks = ("before_restore_model", "load_model_state_dict", "on_before_restore_optimizers_and_lrs")
    module, precision = trainer.lightning_module, trainer.precision_plugin
    return (
        is_overridden("on_load_checkpoint", module)
        or is_overridden("load_state_dict", module)
        or is_overridden("state_dict", module)  # what is left out there may be refused when it is loaded
        or is_overridden("on_load_checkpoint", precision, Precision)
        or any(is_defined_elsewhere(getattr(adapter, hook)) for hook in hooks)
        or any(isinstance(callback, WeightAveraging) for callback in callbacks_of(trainer))
    )


# Any, here and below: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def _put_present_tensors(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Let a checkpoint hold the tensors that are equal to its own: loading one into itself copies nothing."""
    present = trainer.lightning_module.state_dict()
    stored = checkpoint["state_dict"]
    stored.update((name, present[name]) for name in stored if isinstance(present.get(name), Tensor))
    strategy = trainer.strategy
    checkpoint["optimizer_states"] = [strategy.optimizer_state(optimizer) for optimizer in strategy.optimizers]


def _load_optimizer(trainer: pl.Trainer, adapter: StrategyAdapter, checkpoint: dict[str, Any]) -> None:
    if isinstance(adapter, ShardedCheckpoints):
        # Its strategy would load the state itself, and so Lightning leaves it out.
        trainer.strategy.load_optimizer_state_dict(checkpoint)
    else:
        restore_optimizer_state(trainer)
