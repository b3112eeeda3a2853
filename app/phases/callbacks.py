"""The two callbacks the scheduler works with: early stopping that ends a phase, and checkpoints that know theirs.

Both are plain Lightning callbacks in every other respect, and take the same arguments.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from phasewire.adapters import rank_zero
from phasewire.adapters.errors import CheckpointError, ConfigError, PhasewireError
from phasewire.adapters.logged_metrics import not_logged
from phasewire.app.atomic_save import replace_link
from phasewire.app.lightning_seams import linking_with, restore_save_progress, save_progress
from phasewire.app.phases.checkpoint_files import FileNames, may_be_replaced, newest_link, relocated
from phasewire.app.trainer_attributes import callbacks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning.pytorch as pl
    from lightning.pytorch.utilities.types import STEP_OUTPUT

__all__ = ["FTSCheckpoint", "FTSEarlyStopping", "Phases"]


class Phases(Protocol):
    """What the two callbacks ask of the scheduler."""

    @property
    def curr_depth(self) -> int:
        """The phase being trained, from 0."""

    @property
    def depth_remaining(self) -> int:
        """How many phases are still to come."""

    def has_saved(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether this run has saved a checkpoint at a place."""


class FTSEarlyStopping(EarlyStopping):
    """Early stopping whose patience ends the phase, and in the last phase the training.

    Only patience moves on to the next phase. A reached ``stopping_threshold`` or ``divergence_threshold``, or a metric
    that is not finite, stops the training in any phase, as it does with Lightning's own callback.

    Attributes:
        es_phase_complete: The patience of the current phase is used up.
        ended_run: It has ended the training, by the patience of the last phase or by a threshold.
        converted: It was Lightning's own callback until a scheduler took it over.
    """

    es_phase_complete: bool = False
    converted: bool = False
    _phases: Phases | None = None
    ended_run: bool = False

    @property
    def final_phase(self) -> bool:
        """Whether the phase being trained is the last one."""
        return self._phases is None or self._phases.depth_remaining <= 0

    def connect(self, phases: Phases) -> None:
        """Take the scheduler whose phases this callback ends.

        Args:
            phases: The :class:`~phasewire.app.FinetuningScheduler`.
        """
        self._phases = phases

    def begin_run(self) -> None:
        """Forget what an earlier fit, perhaps of another module, left behind."""
        self.begin_phase()
        self.ended_run = False
        self.stopped_epoch = 0
        self.best_score = EarlyStopping(self.monitor, mode=self.mode).best_score

    def begin_phase(self) -> None:
        """Start counting anew. The best score stays: a phase must improve on what came before."""
        self.es_phase_complete = False
        self.wait_count = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to train without a scheduler.

        Raises:
            ConfigError: The Trainer has no :class:`~phasewire.app.FinetuningScheduler`.
        """
        super().on_fit_start(trainer, pl_module)
        self._phases = _scheduler_in(trainer, self._phases, self)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again a training that was stopped already when the checkpoint it resumes was saved."""
        super().on_train_start(trainer, pl_module)
        if self.ended_run:
            trainer.should_stop = True
            rank_zero.info(
                f"Nothing is trained: early stopping had ended the training in epoch {self.stopped_epoch}, before the "
                "checkpoint was saved. To go on, resume with a greater patience."
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the metric where Lightning's callback checks it."""
        self._check(trainer, lambda: super(FTSEarlyStopping, self).on_train_epoch_end(trainer, pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the metric where Lightning's callback checks it."""
        self._check(trainer, lambda: super(FTSEarlyStopping, self).on_validation_end(trainer, pl_module))

    def _check(self, trainer: pl.Trainer, check: Callable[[], None]) -> None:
        stopping_before = trainer.should_stop
        if not stopping_before:
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        try:
            check()
        except RuntimeError as error:
            if self.monitor in trainer.callback_metrics:
                raise
            raise not_logged(type(self).__name__, self.monitor, trainer) from error
        if stopping_before or not trainer.should_stop:
            return
        if self.stopping_reason == EarlyStoppingReason.NON_FINITE_METRIC:
            rank_zero_warn(
                f"Training stops: {self.monitor!r} is {float(trainer.callback_metrics[self.monitor])}. Once the cause "
                "is mended (a learning rate that is too high, or a division by zero), resume from a checkpoint of an "
                "earlier epoch: one that is saved from here on tells that the training has ended."
            )
        # Lightning lets any process stop all of them, but only the process that decided knows its reason.
        patient = self.stopping_reason in (EarlyStoppingReason.NOT_STOPPED, EarlyStoppingReason.PATIENCE_EXHAUSTED)
        if self.final_phase or not trainer.strategy.reduce_boolean_decision(patient, all=True):
            self.ended_run = True
        else:
            trainer.should_stop = False
            self.stopped_epoch = 0
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
            self.stopping_reason_message = None
            self.es_phase_complete = True

    # Any: the type Lightning gives the state of a callback.
    def state_dict(self) -> dict[str, Any]:
        """Add the end of the phase, or of the run, to Lightning's state, for a resume before what follows it."""
        own = {"es_phase_complete": self.es_phase_complete, "ended_run": self.ended_run}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved, except for the patience: that of the callback holds.

        A run that ended because its patience was used up goes on with more of it.
        """
        patience = self.patience
        with _restoring(self):
            super().load_state_dict(state_dict)
            _require_score(self.best_score)
            self.wait_count, self.stopped_epoch = int(self.wait_count), int(self.stopped_epoch)
            self.es_phase_complete = bool(state_dict.get("es_phase_complete", False))
            ended_run = bool(state_dict.get("ended_run", False))
        self.patience = patience
        was_patience = self.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED
        has_more = was_patience and self.wait_count < patience
        self.ended_run = ended_run and not has_more


@linking_with(replace_link)
class FTSCheckpoint(ModelCheckpoint):
    """A model checkpoint that records the phase it was taken in; ``restore_best`` reads the best one between phases.

    Attributes:
        current_ckpt_depth: The phase of the newest checkpoint.
        best_ckpt_depth: The phase of the best checkpoint, which may be an earlier one.
        converted: It was Lightning's own callback until a scheduler took it over.
    """

    current_ckpt_depth: int = 0
    best_ckpt_depth: int = 0
    converted: bool = False
    _phases: Phases | None = None
    _best_seen: tuple[str, float | None] = ("", None)
    _saving_in: pl.Trainer | None = None
    _resumed: bool = False
    _names: FileNames | None = None
    _claims_names: bool = False
    _keeps_best: bool = False

    def connect(self, phases: Phases) -> None:
        """Take the scheduler whose phases are recorded.

        Args:
            phases: The :class:`~phasewire.app.FinetuningScheduler`.
        """
        self._phases = phases

    def begin_run(self) -> None:
        """Forget the best checkpoints of an earlier fit, perhaps of another module; their files stay."""
        self.best_k_models = {}
        self.best_model_path = self.kth_best_model_path = ""
        self.best_model_score = self.current_score = None
        self._resumed = False
        self._best_seen = ("", None)
        self.current_ckpt_depth = self.best_ckpt_depth = 0
        self.kth_value = ModelCheckpoint(monitor=self.monitor, mode=self.mode).kth_value

    def watch(self, monitor: str, mode: str) -> None:
        """Monitor a metric, where none was monitored before.

        Args:
            monitor: The name of the metric.
            mode: ``"min"`` or ``"max"``: which values are better.
        """
        self.monitor = monitor
        self.mode = mode
        self.kth_value = ModelCheckpoint(monitor=monitor, mode=mode).kth_value

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to train without a scheduler.

        Raises:
            ConfigError: The Trainer has no :class:`~phasewire.app.FinetuningScheduler`.
        """
        super().on_fit_start(trainer, pl_module)
        self._phases = _scheduler_in(trainer, self._phases, self)
        self._file_names().begin(self.dirpath)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save where Lightning's callback saves."""
        # As _save does, but with no function made and nothing called in a step that saves nothing.
        self._saving_in = trainer
        try:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        except MisconfigurationException as error:
            self._explain(error, trainer)
            raise
        finally:
            self._saving_in = None
            if self._claims_names:
                self._release_names(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save where Lightning's callback saves."""
        self._save(trainer, lambda: super(FTSCheckpoint, self).on_train_epoch_end(trainer, pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save where Lightning's callback saves."""
        self._save(trainer, lambda: super(FTSCheckpoint, self).on_validation_end(trainer, pl_module))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save where Lightning's callback saves, but over none of the best checkpoints."""
        self._keeps_best = True
        try:
            super().on_exception(trainer, pl_module, exception)
        finally:
            self._keeps_best = False
            self._file_names().end(trainer.strategy.checkpoint_io)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let other runs have the names whose files are still being written, when they are there."""
        super().teardown(trainer, pl_module, stage)
        self._file_names().end(trainer.strategy.checkpoint_io)

    # Any: metrics are what the module logged.
    def format_checkpoint_name(
        self, metrics: dict[str, Any], filename: str | None = None, ver: int | None = None, prefix: str | None = None
    ) -> str:
        """Give the name of a checkpoint; one that is saved on an exception does not get that of a best one."""
        name, number = super().format_checkpoint_name(metrics, filename, ver, prefix), self.STARTING_VERSION
        while self._keeps_best and name in self.best_k_models:
            name, number = super().format_checkpoint_name(metrics, filename, number, prefix), number + 1
        return name

    def _save(self, trainer: pl.Trainer, save: Callable[[], None]) -> None:
        self._saving_in = trainer
        try:
            save()
        except MisconfigurationException as error:
            self._explain(error, trainer)
            raise
        finally:
            self._saving_in = None
            self._release_names(trainer)

    def _explain(self, error: MisconfigurationException, trainer: pl.Trainer) -> None:
        if isinstance(error, PhasewireError):
            return  # says itself what is wrong
        if self.monitor is not None and self.monitor not in trainer.callback_metrics:
            raise not_logged(type(self).__name__, self.monitor, trainer) from error

    def file_exists(self, filepath: str | os.PathLike[str], trainer: pl.Trainer) -> bool:
        """Tell whether a file must not be written over, which gives the new one a number.

        A run that was cut off may have saved files after the checkpoint it resumes from, and a resumed run saves the
        same again: those it may replace. A name that another run is about to save is taken, too.
        """
        there = super().file_exists

        def must_stay() -> bool:
            if not there(os.fspath(filepath), trainer):
                return False
            return not (self._resumed and may_be_replaced(filepath, self.best_k_models, trainer))

        self._claims_names = True
        phases = self._phases
        return not self._file_names().is_free(
            filepath, trainer, must_stay, is_saved=lambda: phases is not None and phases.has_saved(filepath)
        )

    def _release_names(self, trainer: pl.Trainer) -> None:
        self._claims_names = False
        self._file_names().release(trainer.strategy.checkpoint_io)

    def _file_names(self) -> FileNames:
        if self._names is None:
            self._names = FileNames()
        return self._names

    # Any: the type Lightning gives the state of a callback.
    def state_dict(self) -> dict[str, Any]:
        """Add the phases of the newest and the best checkpoint to Lightning's state."""
        if self._phases is not None:
            self.current_ckpt_depth = self._phases.curr_depth
        if self._best_now() != self._best_seen:
            self._best_seen = self._best_now()
            self.best_ckpt_depth = self.current_ckpt_depth
        saving_in = self._saving_in
        return {
            **super().state_dict(),
            "current_ckpt_depth": self.current_ckpt_depth,
            "best_ckpt_depth": self.best_ckpt_depth,
            "save_progress": save_progress(self, saving_at=None if saving_in is None else saving_in.global_step),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` saved.

        Lightning gives up the best checkpoints when the folder is another one, as it is in every run with a default
        logger. Their files count wherever they are.
        """
        with _restoring(self):
            self._restore(state_dict)

    def _restore(self, state_dict: dict[str, Any]) -> None:  # Any: as above
        state = relocated(state_dict, self.dirpath)
        super().load_state_dict({**state, "dirpath": self.dirpath})
        for score in (self.best_model_score, *self.best_k_models.values()):
            _require_score(score)
        if 0 < self.save_top_k <= len(self.best_k_models) and self.kth_best_model_path not in self.best_k_models:
            raise ValueError(f"{self.kth_best_model_path!r} is none of the best files")
        if self.save_last == "link" and self.dirpath is not None:
            # The link is made after the file it points to was saved, and is not mentioned there.
            self.last_model_path = newest_link(self.dirpath, self.best_k_models) or self.last_model_path
        self.current_score = state.get("current_score")
        if "save_progress" in state:
            restore_save_progress(self, state["save_progress"])
        self._resumed = True
        self.current_ckpt_depth = int(state_dict.get("current_ckpt_depth", 0))
        self.best_ckpt_depth = int(state_dict.get("best_ckpt_depth", 0))
        self._best_seen = self._best_now()

    def _best_now(self) -> tuple[str, float | None]:
        # The score tells apart two files that were written under one name.
        return self.best_model_path, None if self.best_model_score is None else float(self.best_model_score)


@contextmanager
def _restoring(callback: FTSEarlyStopping | FTSCheckpoint) -> Iterator[None]:
    """Say of a state that cannot be restored whose it is."""
    try:
        yield
    except PhasewireError:
        raise  # says itself what is wrong
    except Exception as error:  # a file that was changed may hold anything
        raise CheckpointError(
            f"The state of {type(callback).__name__} cannot be read ({type(error).__name__}: {error}).",
            remedy="The file was written by another release, or changed since. Use that release, or another file.",
        ) from error


def _require_score(score: object) -> None:
    if score is not None and not (isinstance(score, Tensor) and score.numel() == 1):
        raise TypeError(f"{score!r} is no score")


def _scheduler_in(
    trainer: pl.Trainer, connected: Phases | None, callback: FTSEarlyStopping | FTSCheckpoint
) -> Phases | None:
    if id(connected) in map(id, callbacks_of(trainer)):
        return connected
    if not callback.converted:
        name = type(callback).__name__
        raise ConfigError(
            f"{name} is in a Trainer that has no FinetuningScheduler.",
            remedy=f"Add a FinetuningScheduler to the callbacks, or use Lightning's own callback instead of {name}.",
        )
    return None
