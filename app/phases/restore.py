"""Going back to the best checkpoint when a phase ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from phasewire.adapters import rank_zero
from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.sharded_checkpoints import ShardedCheckpoints
from phasewire.app.checkpoint import SCHEDULER_STATE_KEY
from phasewire.app.lightning_seams import (
    loading_checkpoint,
    restore_model_state,
    restore_optimizer_state,
)
from phasewire.app.phases.adapter_calls import calling
from phasewire.app.phases.other_callbacks import restore_averages
from phasewire.app.phases.pending_saves import finish_saves
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
        already: The epoch and the phase in which it was written, if module, precision and optimizer are what it holds
            and no code of others is to be given it: it is then not read.

    Returns:
        The epoch and the phase in which it was written.

    Raises:
        CheckpointError: The checkpoint does not belong to this run, or cannot be restored.
    """
    if already is not None:
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
        restore_model_state(trainer)
        restore_averages(trainer, checkpoint, path)
        if optimization is not None:
            with calling(adapter, "on_before_restore_optimizers_and_lrs"):
                adapter.on_before_restore_optimizers_and_lrs()
            optimization.take_over(state.optimization, lambda: _load_optimizer(trainer, adapter, checkpoint))
        return int(checkpoint["epoch"]), state.depth


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def _load_optimizer(trainer: pl.Trainer, adapter: StrategyAdapter, checkpoint: dict[str, Any]) -> None:
    if isinstance(adapter, ShardedCheckpoints):
        # Its strategy would load the state itself, and so Lightning leaves it out.
        trainer.strategy.load_optimizer_state_dict(checkpoint)
    else:
        restore_optimizer_state(trainer)
