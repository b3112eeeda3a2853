"""What to say when a metric that something monitors is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewire.adapters.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

__all__ = ["not_logged"]


def not_logged(monitored_by: str, monitor: str, trainer: Trainer) -> ConfigError:
    """Make the error for a metric that is monitored and not logged.

    Args:
        monitored_by: What monitors it, as the beginning of a sentence.
        monitor: The name of the metric.
        trainer: The running Trainer.

    Returns:
        The error, with the names that are logged, the nearest of them, and the likely reason.
    """
    logged = sorted(trainer.callback_metrics)
    listed = ", ".join(map(repr, logged)) if logged else "none"
    remedy = f"Log it in the module (self.log({monitor!r}, ...)) or set monitor= to a metric that is logged."
    every = trainer.check_val_every_n_epoch or 1
    if not trainer.enable_validation:
        remedy = (
            "The Trainer runs no validation. Give it validation data, monitor a metric that training_step logs, or let "
            "epochs alone decide (epoch_transitions_only=True, restore_best=False)."
        )
    elif (trainer.current_epoch + 1) % every:
        remedy = f"No validation has run yet (check_val_every_n_epoch={every}): check the metric after validation."
    # With several dataloaders Lightning adds the loader to the name.
    of_loaders = [name for name in logged if name.startswith(f"{monitor}/dataloader_idx_")]
    near = did_you_mean(of_loaders[0], of_loaders) if of_loaders else did_you_mean(monitor, logged)
    return ConfigError(
        f"{monitored_by} monitors {monitor!r}, which is not logged. Logged metrics: {listed}. {near}".rstrip(),
        remedy=remedy,
    )
