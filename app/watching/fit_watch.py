"""Tells people how one fit goes, wherever they look: progress bar, log, their own logger, and the record of the run."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from phasewire.adapters import rank_zero
from phasewire.adapters.sharding import class_name
from phasewire.app.atomic_save import is_local
from phasewire.app.lightning_seams import step_of_loggers
from phasewire.app.phases.state import installed_versions
from phasewire.app.trainer_attributes import callbacks_of, is_dry_run
from phasewire.app.watching.progress_bar import PhaseInBar
from phasewire.app.watching.run_record import RECORD_FORMAT, RunRecord
from phasewire.app.watching.standing import metrics_of
from phasewire.app.watching.words import phase_line, trained_words

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.phases.callbacks import FTSCheckpoint
    from phasewire.app.settings import SchedulerSettings
    from phasewire.app.watching.standing import PhaseBegun, Standing

__all__ = ["FitWatch"]


class FitWatch:
    """Shows one fit, on rank 0; its methods are called on all ranks.

    Args:
        trainer: The Trainer that fits.
        settings: The settings of the scheduler, which tell what is wanted.
    """

    def __init__(self, trainer: pl.Trainer, settings: SchedulerSettings) -> None:
        self._trainer = trainer
        self._settings = settings
        self._bar = PhaseInBar(trainer)
        self._wants_record = settings.run_record and not is_dry_run(trainer)  # the same on all ranks
        self._record: RunRecord | None = None
        self._checkpoint: FTSCheckpoint | None = None
        self._standing: Standing | None = None
        self._ended_epoch: tuple[int, int] | None = None
        self._seen: set[tuple[str, float]] = set()

    @property
    def wants_standing(self) -> bool:
        """Whether :meth:`epoch_begins` has anything to show; the same on all ranks."""
        return self._wants_record or self._settings.progress_bar or self._settings.log_phase_metrics

    # -- the fit -------------------------------------------------------------------------------------------------

    # Any: a schedule as it is recorded holds plain values of several types.
    def begin(
        self,
        begun: PhaseBegun,
        *,
        adapter: StrategyAdapter,
        schedule: Sequence[Mapping[str, Any]],
        checkpoint: FTSCheckpoint | None,
        folder: str,
        resumed: bool,
        remark: str = "",
    ) -> None:
        """Act when training begins, or goes on from a checkpoint.

        Args:
            begun: The phase it begins in.
            adapter: The connected adapter.
            schedule: The phases, as plain values.
            checkpoint: Knows the best checkpoint.
            folder: The log folder.
            resumed: Whether it goes on from a checkpoint.
            remark: What there is to say of that checkpoint.
        """
        self._checkpoint = checkpoint
        if self._wants_record and not is_local(folder):
            self._wants_record = False
            rank_zero.info(
                f"No record of the run is written, which `phasewire report` needs: the log folder {folder} is not on "
                "this machine. log_dir names another folder."
            )
        if self._wants_record and self._trainer.is_global_zero:
            self._record = RunRecord(folder)
        rank_zero.info(self._resume_line(begun.standing, remark) if resumed else phase_line(begun))
        self._write("fit_began", self._facts(begun, adapter, schedule, folder, resumed=resumed))
        self._write("phase_began", self._of_phase(begun, begins_fit=True))
        self._show(begun.standing)
        if resumed:
            self._seen = self._kept_checkpoints()
            self._log_metrics(begun.standing)  # in the middle of an epoch none begins

    def end(self, how: str, reason: str = "") -> None:
        """Act when training ends.

        Args:
            how: ``"finished"``, ``"stopped"`` or ``"failed"``.
            reason: Why, if that is known.
        """
        self._bar.remove()
        if self._standing is None:
            return
        # Where others may be elsewhere by now, metrics that all processes must reduce together are not asked for.
        self.note_epoch({} if how == "failed" and self._trainer.world_size > 1 else None)
        path = "" if self._checkpoint is None else self._checkpoint.best_model_path
        best = _absolute(path) if path else None
        self._write("fit_ended", {**self._now(), "how": how, "reason": reason, "best_checkpoint": best})
        self._standing = None

    # -- phases and epochs ---------------------------------------------------------------------------------------

    def phase_began(self, begun: PhaseBegun) -> None:
        """Act when a phase after the first has begun.

        Args:
            begun: What happened.
        """
        rank_zero.info(phase_line(begun))
        self._write("phase_began", self._of_phase(begun))

    def epoch_begins(self, standing: Standing) -> None:
        """Act when an epoch begins.

        Args:
            standing: Where the run stands.
        """
        self._show(standing)
        self._log_metrics(standing)

    def epoch_ended(self) -> None:
        """Note that an epoch has ended; what was logged in it is complete when the next one begins."""
        self._ended_epoch = self._trainer.current_epoch, step_of_loggers(self._trainer)

    def note_epoch(self, metrics: Mapping[str, float] | None = None) -> None:
        """Record the epoch that has ended, if one has since this was last called.

        Args:
            metrics: What was logged; by default what the Trainer has now.
        """
        if self._ended_epoch is None or self._standing is None:
            return
        metrics = self._metrics() if metrics is None else metrics  # on all ranks: some metrics are reduced by it
        epoch, step = self._ended_epoch
        self._ended_epoch = None
        standing = self._standing
        content = {
            "epoch": epoch,
            "step": step,
            "phase": standing.depth,
            "lrs": standing.rates,
            "lr_range": standing.rate_range,
            "metrics": metrics,
        }
        self._note_checkpoints(epoch)
        self._write("epoch_ended", content)

    # -- steps ---------------------------------------------------------------------------------------------------

    def _show(self, standing: Standing) -> None:
        self._standing = standing
        if self._settings.progress_bar and self._trainer.is_global_zero:
            self._bar.show(standing)

    def _log_metrics(self, standing: Standing) -> None:
        if not self._settings.log_phase_metrics or not self._trainer.is_global_zero:
            return
        metrics = {"epoch": self._trainer.current_epoch, **metrics_of(standing)}
        for logger in self._trainer.loggers:
            logger.log_metrics(metrics, step=step_of_loggers(self._trainer))

    def _resume_line(self, standing: Standing, remark: str) -> str:
        where = self._trainer.ckpt_path
        return (
            f"Training resumes in phase {standing.depth} of {standing.final_depth}, at epoch "
            f"{self._trainer.current_epoch}{f', from {where}' if where else ''}. {trained_words(standing)}{remark}"
        )

    def _metrics(self) -> dict[str, float]:
        if not self._wants_record:
            return {}
        # The Trainer's own are tensors; but callbacks of users put in what they like.
        metrics: Mapping[str, object] = self._trainer.callback_metrics
        numbers = {name: _number(value) for name, value in metrics.items()}
        return {name: number for name, number in numbers.items() if number is not None}

    def _note_checkpoints(self, epoch: int) -> None:
        kept = self._kept_checkpoints()
        if self._checkpoint is not None and self._standing is not None:
            for path, score in sorted(kept - self._seen):
                content = {"path": _absolute(path), "monitor": self._checkpoint.monitor, "score": score, "epoch": epoch}
                self._write("checkpoint_saved", {**content, "phase": self._standing.depth})
        self._seen = kept

    def _kept_checkpoints(self) -> set[tuple[str, float]]:
        best = {} if self._checkpoint is None else self._checkpoint.best_k_models
        return {(path, float(score)) for path, score in best.items()}

    def _write(self, event: str, fields: Mapping[str, object]) -> None:
        if self._record is None:
            return
        try:
            self._record.append(event, fields)
        except OSError as error:
            # A run is worth more than what tells of it.
            rank_zero_warn(
                f"The record of the run cannot be written ({self._record.path}: {error.strerror or error}). Training "
                "goes on, and `phasewire report` will show it up to here. Free the disk or choose another log_dir; "
                "run_record=False writes none."
            )
            self._record = None

    def _now(self) -> dict[str, object]:
        return {"epoch": self._trainer.current_epoch, "step": step_of_loggers(self._trainer)}

    def _of_phase(self, begun: PhaseBegun, *, begins_fit: bool = False) -> dict[str, object]:
        standing, restored = begun.standing, begun.restored
        return {
            "phase": standing.depth,
            "epoch": begun.epoch,
            "step": step_of_loggers(self._trainer),
            "ended_by": begun.ended_by,
            "tensors": len(begun.names),
            "parameters": begun.parameters,
            "trained": standing.trained,
            "groups": [
                {"group": group.number, "lr": group.lr, "phase": group.phase}
                for group in standing.groups
                if group.phase == standing.depth or begins_fit  # all of them each time would be many
            ],
            "ends": standing.ends,
            "restored": None
            if restored is None
            else {
                "path": _absolute(restored.path),
                "epoch": restored.epoch,
                "phase": restored.depth,
                "monitor": restored.monitor,
                "score": restored.score,
            },
        }

    def _facts(
        self,
        begun: PhaseBegun,
        adapter: StrategyAdapter,
        schedule: Sequence[Mapping[str, Any]],
        folder: str,
        *,
        resumed: bool,
    ) -> dict[str, object]:
        trainer, standing = self._trainer, begun.standing
        return {
            "format": RECORD_FORMAT,
            "epoch": begun.epoch,
            "step": step_of_loggers(trainer),
            "resumed_from": _absolute(trainer.ckpt_path) if resumed and trainer.ckpt_path else None,
            "module": class_name(trainer.lightning_module),
            "parameters": standing.total,
            "last_phase": standing.final_depth,
            "max_epochs": trainer.max_epochs,
            "strategy": type(trainer.strategy).__name__,
            "adapter": type(adapter).__name__,
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "precision": str(trainer.precision),
            "seed": os.environ.get("PL_GLOBAL_SEED"),
            "versions": {**installed_versions(), "python": platform.python_version()},
            "platform": platform.platform(terse=True),
            "folder": str(Path(folder).absolute()),
            "logger_folders": [_absolute(each) for each in _folders_of(trainer)],
            "checkpoint_folders": _checkpoint_folders_of(trainer),
            "schedule": list(schedule),
        }


def _number(value: object) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 and not value.is_complex() else None
    return float(value) if isinstance(value, Real) else None


def _folders_of(trainer: pl.Trainer) -> Sequence[str]:
    folders = (getattr(logger, "log_dir", None) for logger in trainer.loggers)
    return [folder for folder in folders if isinstance(folder, str)]


def _checkpoint_folders_of(trainer: pl.Trainer) -> Sequence[str]:
    callbacks = (callback for callback in callbacks_of(trainer) if isinstance(callback, ModelCheckpoint))
    return list(dict.fromkeys(_absolute(callback.dirpath) for callback in callbacks if callback.dirpath))


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(path).absolute()) if is_local(path) else str(path)
