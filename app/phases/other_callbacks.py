"""What becomes of callbacks that also freeze, thaw or average the weights, in the Trainer beside a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import BaseFinetuning, StochasticWeightAveraging, WeightAveraging

from phasewire.adapters.errors import CheckpointError, ConfigError
from phasewire.app.trainer_attributes import callbacks_of

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from phasewire.adapters.base import StrategyAdapter

__all__ = ["refuse_averaging_across_phases", "refuse_conflicting", "restore_averages"]

_CALLBACKS = "Trainer(callbacks=...)"


def refuse_conflicting(trainer: pl.Trainer, adapter: StrategyAdapter) -> None:
    """Refuse callbacks that cannot work beside a schedule, before training.

    Args:
        trainer: The Trainer.
        adapter: The connected adapter.

    Raises:
        ConfigError: One freezes and thaws by itself, or saves averaged weights under names that are not the adapter's.
    """
    for callback in callbacks_of(trainer):
        name = type(callback).__name__
        if isinstance(callback, BaseFinetuning):
            raise ConfigError(
                f"{name} freezes and thaws parameters too, so it and the schedule would undo each other's work.",
                where=_CALLBACKS,
                remedy=f"Remove {name}, and give what it should thaw a phase of its own in the schedule.",
            )
        if isinstance(callback, WeightAveraging) and adapter.names_on_disk != "module":
            raise ConfigError(
                f"{name} saves the averaged weights under the module's own names, and {type(adapter).__name__} saves "
                f"checkpoints under others ({adapter.names_on_disk!r}), so neither could be read again.",
                where=_CALLBACKS,
                remedy=f"Remove {name}, or use an adapter that saves under the module's own names.",
            )


def refuse_averaging_across_phases(trainer: pl.Trainer, final_phase: int, begins_by: int | None) -> None:
    """Refuse stochastic weight averaging that may begin before the last phase; call it when training starts.

    It replaces the lr scheduler by one that cannot take further groups, and averages weights that the restoring of the
    best checkpoint takes back.

    Args:
        trainer: The Trainer.
        final_phase: The last phase that will be trained.
        begins_by: The epoch at which the last phase begins at the latest; ``None`` when no epoch decides.

    Raises:
        ConfigError: Averaging may begin before that epoch is over.
    """
    for callback in callbacks_of(trainer):
        if not isinstance(callback, StochasticWeightAveraging):
            continue
        if begins_by is None or begins_by >= callback.swa_start:
            begins = (
                "when early stopping or another criterion ends the phase before"
                if begins_by is None
                else f"at epoch {begins_by}"
            )
            raise ConfigError(
                f"StochasticWeightAveraging begins at epoch {callback.swa_start} (counted from 0), and phase "
                f"{final_phase}, the last one, begins {begins}. It cannot average across phases: it replaces the lr "
                "scheduler by one that takes no further parameter groups.",
                where=_CALLBACKS,
                remedy="Give every phase but the last a max_transition_epoch, and let swa_epoch_start come later than "
                "those; or use WeightAveraging or EMAWeightAveraging, which average in any phase.",
            )


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def restore_averages(trainer: pl.Trainer, checkpoint: dict[str, Any], path: str) -> None:
    """Take averaged weights back to a checkpoint from which the module was just restored.

    In such a checkpoint the state dict holds the averages, and the weights that were trained stand beside it; the
    callback loads both into their places, as it does when a fit resumes.

    Args:
        trainer: The running Trainer.
        checkpoint: The checkpoint.
        path: Where it was read.

    Raises:
        CheckpointError: A callback cannot load them.
    """
    for callback in callbacks_of(trainer):
        if not isinstance(callback, WeightAveraging):
            continue
        try:
            callback.on_load_checkpoint(trainer, trainer.lightning_module, checkpoint)
        except Exception as error:
            raise CheckpointError(
                f"{type(callback).__name__} failed to load its averages with {type(error).__name__}: {error}",
                where=path,
                remedy="It needs the whole state of the module in a checkpoint, also with strict_loading=False.",
            ) from error
