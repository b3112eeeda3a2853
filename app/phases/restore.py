"""Going back to the best checkpoint when a phase ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewire.adapters.errors import CheckpointError
from phasewire.app.checkpoint import SCHEDULER_STATE_KEY
from phasewire.app.lightning_seams import loading_checkpoint, restore_model_state, restore_optimizer_state
from phasewire.app.phases.param_groups import rebuild_groups
from phasewire.app.phases.state import PhaseState

if TYPE_CHECKING:
    from collections.abc import Mapping

    import lightning.pytorch as pl
    from torch.nn import Parameter

    from phasewire.adapters.base import StrategyAdapter

__all__ = ["restore_best"]


def restore_best(
    trainer: pl.Trainer, adapter: StrategyAdapter, path: str, named_parameters: Mapping[str, Parameter]
) -> PhaseState:
    """Restore weights, precision, optimizer and lr-scheduler state from the best checkpoint.

    Callbacks and loops keep their progress: early stopping, checkpoint bookkeeping and the epoch count go on.

    Args:
        trainer: The running Trainer.
        adapter: The connected adapter.
        path: The best checkpoint.
        named_parameters: The module's parameters.

    Returns:
        The state that the checkpoint was written in. The optimizer has the groups of that phase.

    Raises:
        CheckpointError: The checkpoint does not belong to this run, or cannot be restored.
    """
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
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        rebuild_groups(trainer.optimizers[0], schedulers, named_parameters, state.groups)
        adapter.on_before_restore_optimizers_and_lrs()
        restore_optimizer_state(trainer)
    return state
