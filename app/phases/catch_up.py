"""What a resumed fit catches up on, because Lightning leaves it out.

A checkpoint is saved in the middle of something: after a batch but before the validation that follows it, or at the end
of an epoch but before a ``ReduceLROnPlateau`` has seen the metric. Lightning resumes after the whole of it, without
doing the rest, and with no metric logged. Early stopping and the best checkpoint would then decide otherwise than in a
run that was not interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from phasewire.app.lightning_seams import (
    begin_epoch_anew,
    resume_after_epoch,
    resume_before_validation,
    validation_follows,
)

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = ["CatchUp"]


class CatchUp:
    """Records what is left to do when a checkpoint is saved, and does it when a fit resumes."""

    def __init__(self) -> None:
        # Any: metrics are what the module logged.
        self._metrics: dict[str, Any] = {}
        self._owed_epoch: int | None = None

    @staticmethod
    def record(trainer: pl.Trainer) -> dict[str, Any]:
        """Tell what a run that resumes from the checkpoint being saved needs to know.

        Args:
            trainer: The running Trainer.

        Returns:
            Plain values, and the logged metrics as tensors. What a callback has put beside them is left out if it is
            neither a tensor nor a number.
        """
        present: Mapping[str, object] = trainer.callback_metrics
        tensors = {name: value.detach().cpu() for name, value in present.items() if isinstance(value, Tensor)}
        numbers = {name: float(value) for name, value in present.items() if isinstance(value, Real)}
        return {"metrics": {**tensors, **numbers}, "validation_follows": validation_follows(trainer)}

    def resume(self, saved: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
        """Take what :meth:`record` told, before Lightning restores its loops.

        Args:
            saved: What was told.
            checkpoint: The checkpoint; changed so that the validation is done which it was saved before.
        """
        self._metrics = dict(saved["metrics"])
        if saved["validation_follows"]:
            resume_before_validation(checkpoint)
        if resume_after_epoch(checkpoint):
            self._owed_epoch = checkpoint["epoch"]

    def begin(self, trainer: pl.Trainer) -> None:
        """Act when training begins, its progress restored.

        Args:
            trainer: The running Trainer.
        """
        trainer.callback_metrics.update(self._metrics)
        self._metrics = {}
        if self._owed_epoch is not None or trainer.fit_loop.restarted_on_epoch_start:
            # Else Lightning takes the batches of the epoch before for those of the one that begins.
            begin_epoch_anew(trainer)
        _count_epoch_that_begins(trainer)
        # A validation that was begun counts one batch more than there are, and the next resume would begin it again.
        validation = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
        validation.load_state_dict(dict.fromkeys(validation.state_dict(), validation.completed))
        self.settle(trainer)

    def note_epoch_end(self, trainer: pl.Trainer) -> None:
        """Note an epoch after whose end Lightning steps no ``ReduceLROnPlateau``: the one that a fit resumed in.

        Args:
            trainer: The running Trainer.
        """
        if trainer.fit_loop.restarting:
            self._owed_epoch = trainer.current_epoch

    def settle(self, trainer: pl.Trainer) -> None:
        """Step every ``ReduceLROnPlateau`` that Lightning left out, before anything else happens to the rates.

        Args:
            trainer: The running Trainer.
        """
        epoch, self._owed_epoch = self._owed_epoch, None
        module = trainer.lightning_module
        if epoch is None or not module.automatic_optimization:
            return
        for config in trainer.lr_scheduler_configs:
            if not config.reduce_on_plateau or config.interval != "epoch" or (epoch + 1) % config.frequency:
                continue
            # A fit whose last epoch is over already never begins to train.
            metric = {**self._metrics, **trainer.callback_metrics}.get(config.monitor or "")
            if metric is None:
                rank_zero_warn(
                    f"The lr scheduler that monitors {config.monitor!r} misses one step: epoch {epoch} was "
                    "interrupted, and the checkpoint holds no metric of that name. Its rate may change an epoch later "
                    "than it would have."
                )
                continue
            module.lr_scheduler_step(config.scheduler, metric)


def _count_epoch_that_begins(trainer: pl.Trainer) -> None:
    """Count an epoch that Lightning begins without counting it, lest the next resume takes it for finished.

    It does so after a checkpoint of the last batch of an epoch that no validation follows.
    """
    loop = trainer.fit_loop
    counts = [progress.state_dict() for progress in (loop.epoch_progress.total, loop.epoch_progress.current)]
    if loop.restarted_mid_epoch and counts[1]["ready"] == counts[1]["processed"]:
        for progress, count in zip((loop.epoch_progress.total, loop.epoch_progress.current), counts, strict=True):
            progress.load_state_dict({**count, "ready": count["processed"] + 1, "started": count["processed"] + 1})
