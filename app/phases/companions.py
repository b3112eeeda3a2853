"""Finds, converts or adds the early-stopping and checkpoint callbacks that a schedule needs.

A plain callback of the user is converted in place: it stays the same object with every setting it had, so that
``checkpoint.best_model_path`` can be read from the variable it was assigned to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from phasewire.adapters import rank_zero
from phasewire.adapters.errors import ConfigError
from phasewire.app.lightning_seams import move_checkpoints_last
from phasewire.app.phases.callbacks import FTSCheckpoint, FTSEarlyStopping, Phases
from phasewire.app.trainer_attributes import callbacks_of, replace_callbacks

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = ["Companions", "find_companions", "refuse_a_second"]

_DEFAULT_MONITOR: Final = "val_loss"

#: What the callbacks of ours do that Lightning's do not.
_NEW_ABILITY: Final = MappingProxyType(
    {
        "FTSEarlyStopping": "ends the phase, and only in the last phase the training",
        "FTSCheckpoint": "also records the phase, so that the best checkpoint can be restored between phases",
    }
)

_C = TypeVar("_C", FTSEarlyStopping, FTSCheckpoint)


@dataclass(frozen=True, slots=True)
class Companions:
    """The callbacks a run works with."""

    early_stopping: FTSEarlyStopping | None
    """Ends phases; ``None`` when only epochs do."""
    checkpoint: FTSCheckpoint | None
    """Knows the best checkpoint; ``None`` when none is restored and the user has no checkpoint callback."""
    added: tuple[Callback, ...]
    """Those that were not in the Trainer before; nobody has called their ``setup`` yet."""

    @property
    def monitors(self) -> frozenset[str]:
        """The names of the metrics they monitor."""
        callbacks = (self.early_stopping, self.checkpoint)
        return frozenset(callback.monitor for callback in callbacks if callback is not None and callback.monitor)

    def begin_run(self, phases: Phases, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set up what was added, and connect all of them to the scheduler of a fit that begins.

        Args:
            phases: The :class:`~phasewire.app.FinetuningScheduler`.
            trainer: The running Trainer.
            pl_module: The module being tuned.
        """
        for callback in self.added:
            callback.setup(trainer, pl_module, TrainerFn.FITTING)
        if self.checkpoint is not None:
            self.checkpoint.connect(phases)
            self.checkpoint.begin_run()
        if self.early_stopping is not None:
            self.early_stopping.connect(phases)
            self.early_stopping.begin_run()


def find_companions(
    trainer: pl.Trainer,
    *,
    early_stopping: bool,
    watched: Mapping[str, str],
    epoch_transitions_only: bool,
    restore_best: bool,
) -> Companions:
    """Give the Trainer the callbacks that the schedule needs, keeping the user's own.

    Args:
        trainer: The Trainer whose ``callbacks`` are searched and extended.
        early_stopping: Early stopping ends phases.
        watched: The metrics that other transition criteria watch, each with its mode.
        epoch_transitions_only: Phases end by epochs alone, so that early stopping is taken out of the Trainer.
        restore_best: The best checkpoint is restored between phases, so there must be one.

    Returns:
        The callbacks to work with.

    Raises:
        ConfigError: There are several candidates, the checkpoint callback cannot give a best checkpoint, or an
            FTSEarlyStopping is there to end phases and is not to.
    """
    if early_stopping or watched:
        _refuse_without_logging(trainer)
    callbacks = _without_superseded(callbacks_of(trainer))
    if epoch_transitions_only:
        callbacks = _without_early_stopping(callbacks)
    elif not early_stopping:
        _refuse_unused(callbacks)
    checkpoint = _existing_checkpoint(callbacks)
    stopping = _existing_early_stopping(callbacks) if early_stopping else None
    added: list[Callback] = []
    if stopping is None and early_stopping:
        monitor, mode = _monitor_of(checkpoint, watched, "FTSEarlyStopping")
        stopping = FTSEarlyStopping(monitor=monitor, mode=mode)
        added.append(stopping)
    if restore_best:
        checkpoint = checkpoint or _new_checkpoint(trainer, stopping, watched, added)
        if checkpoint.monitor is None:
            checkpoint.watch(*_monitor_of(stopping, watched, "FTSCheckpoint"))
        _require_best_checkpoint(checkpoint)
    ordered = move_checkpoints_last([*callbacks, *added])
    if checkpoint is not None:
        ordered = _before_other_checkpoints(checkpoint, ordered)
    # A new list: Lightning is iterating over the old one, to call every callback's setup.
    replace_callbacks(trainer, ordered)
    return Companions(stopping, checkpoint, tuple(added))


def refuse_a_second(kind: type[Callback], trainer: pl.Trainer) -> None:
    """Refuse a Trainer with more than one scheduler.

    Args:
        kind: The class of the scheduler.
        trainer: The Trainer.

    Raises:
        ConfigError: There are several.
    """
    count = sum(isinstance(callback, kind) for callback in callbacks_of(trainer))
    if count > 1:
        raise ConfigError(
            f"The Trainer has {count} {kind.__name__} callbacks; they would thaw and freeze against each other.",
            where="Trainer(callbacks=...)",
            remedy="Keep one.",
        )


def _before_other_checkpoints(checkpoint: FTSCheckpoint, callbacks: list[Callback]) -> list[Callback]:
    """Let the best checkpoint be saved first, so that the others, which are resumed from, know of it."""
    others = [callback for callback in callbacks if callback is not checkpoint]
    first = next((index for index, callback in enumerate(others) if isinstance(callback, Checkpoint)), len(others))
    return [*others[:first], checkpoint, *others[first:]]


def _refuse_unused(callbacks: Sequence[Callback]) -> None:
    stopping = _only(list(callbacks), FTSEarlyStopping)
    if stopping is not None:
        raise ConfigError(
            f"The Trainer has {type(stopping).__name__}(monitor={stopping.monitor!r}), whose patience ends a phase, "
            "and transition_criteria does not name 'early_stopping'.",
            where="Trainer(callbacks=...)",
            remedy="Name it there, or use Lightning's own EarlyStopping, which then ends the training in any phase.",
        )


def _refuse_without_logging(trainer: pl.Trainer) -> None:
    if trainer.barebones:
        raise ConfigError(
            "A barebones Trainer logs nothing, so no metric can end a phase.",
            where="Trainer(barebones=True)",
            remedy="Let epochs alone decide (epoch_transitions_only=True, restore_best=False, and a "
            "max_transition_epoch in every phase), or leave barebones off.",
        )


def _only(callbacks: list[Callback], kind: type[_C]) -> _C | None:
    found = [callback for callback in callbacks if isinstance(callback, kind)]
    if len(found) > 1:
        raise ConfigError(
            f"The Trainer has {len(found)} {kind.__name__} callbacks, so it is not clear which one the schedule obeys.",
            where="Trainer(callbacks=...)",
            remedy=f"Keep one; the others can be {kind.__base__.__name__ if kind.__base__ else kind.__name__}.",
        )
    return found[0] if found else None


def _existing_early_stopping(callbacks: list[Callback]) -> FTSEarlyStopping | None:
    ready = _only(callbacks, FTSEarlyStopping)
    candidates = [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
    if ready or not candidates:
        return ready
    if len(candidates) > 1 or type(candidates[0]) is not EarlyStopping:
        names = ", ".join(f"{type(callback).__name__}(monitor={callback.monitor!r})" for callback in candidates)
        raise ConfigError(
            f"It is not clear which early stopping ends a phase: the Trainer has {names}.",
            where="Trainer(callbacks=...)",
            remedy="Make one of them an FTSEarlyStopping (or a subclass of it); the others then end the training.",
        )
    return _converted(candidates[0], FTSEarlyStopping)


def _existing_checkpoint(callbacks: list[Callback]) -> FTSCheckpoint | None:
    ready = _only(callbacks, FTSCheckpoint)
    if ready:
        return ready
    plain = [callback for callback in callbacks if type(callback) is ModelCheckpoint]
    monitored = [callback for callback in plain if callback.monitor is not None and callback.save_top_k != 0]
    # A callback without a monitor that saves by steps or by time is there for recovery, and stays as it is.
    default = [callback for callback in plain if _is_like_trainer_default(callback)]
    for candidate in (*monitored, *default):
        return _converted(candidate, FTSCheckpoint)
    return None


def _is_like_trainer_default(callback: ModelCheckpoint) -> bool:
    untouched = ModelCheckpoint()
    settings = ("state_key", "save_top_k", "save_last", "save_weights_only", "dirpath", "filename")
    return all(getattr(callback, name) == getattr(untouched, name) for name in settings)


def _without_superseded(callbacks: Sequence[Callback]) -> list[Callback]:
    """Leave out callbacks that we converted in an earlier fit and that the module's configure_callbacks gave again.

    Lightning replaces what a module gave before by exact type, and does not know ours for its own.
    """
    plain = {
        (type(callback), callback.monitor)
        for callback in callbacks
        if isinstance(callback, EarlyStopping | ModelCheckpoint) and type(callback) in (EarlyStopping, ModelCheckpoint)
    }
    return [
        callback
        for callback in callbacks
        if not (
            isinstance(callback, FTSEarlyStopping | FTSCheckpoint)
            and callback.converted
            and (type(callback).__base__, callback.monitor) in plain
        )
    ]


def _converted(callback: Callback, kind: type[_C]) -> _C:
    rank_zero.info(
        f"Your {type(callback).__name__} was made an {kind.__name__}, which {_NEW_ABILITY[kind.__name__]}. It is the "
        "same object, with all its settings."
    )
    callback.__class__ = kind
    if not isinstance(callback, kind):
        raise TypeError(f"{type(callback).__name__} was not converted to {kind.__name__}.")
    callback.converted = True
    return callback


def _without_early_stopping(callbacks: list[Callback]) -> list[Callback]:
    kept = [callback for callback in callbacks if not isinstance(callback, EarlyStopping)]
    if len(kept) < len(callbacks):
        rank_zero_warn(
            "epoch_transitions_only=True, so the EarlyStopping callback was removed from the Trainer: phases end by "
            "their max_transition_epoch alone. Leave epoch_transitions_only off to use both."
        )
    return kept


def _monitor_of(
    source: ModelCheckpoint | EarlyStopping | None, watched: Mapping[str, str], wanted_by: str
) -> tuple[str, str]:
    if source is not None and source.monitor is not None:
        return source.monitor, source.mode
    for monitor, mode in watched.items():
        return monitor, mode
    rank_zero_warn(
        f"No callback says which metric to monitor, so {wanted_by} monitors {_DEFAULT_MONITOR!r}. Add an "
        "FTSEarlyStopping or FTSCheckpoint with monitor= to the Trainer's callbacks to choose another."
    )
    return _DEFAULT_MONITOR, "min"


def _new_checkpoint(
    trainer: pl.Trainer, early_stopping: EarlyStopping | None, watched: Mapping[str, str], added: list[Callback]
) -> FTSCheckpoint:
    if not any(isinstance(callback, Checkpoint) for callback in callbacks_of(trainer)):
        raise ConfigError(
            "restore_best=True needs checkpoints, and the Trainer has no checkpoint callback.",
            where="Trainer(barebones=True)" if trainer.barebones else "Trainer(enable_checkpointing=False)",
            remedy="Set restore_best=False, or let the Trainer save checkpoints.",
        )
    monitor, mode = _monitor_of(early_stopping, watched, "FTSCheckpoint")
    checkpoint = FTSCheckpoint(monitor=monitor, mode=mode)
    added.append(checkpoint)
    return checkpoint


def _require_best_checkpoint(checkpoint: FTSCheckpoint) -> None:
    problems = []
    if checkpoint.save_top_k == 0:
        problems.append("save_top_k=0 keeps no best checkpoint")
    if checkpoint.save_weights_only:
        problems.append("save_weights_only=True leaves out the optimizer's state")
    if problems:
        raise ConfigError(
            f"restore_best=True restores the best checkpoint between phases, but {' and '.join(problems)}.",
            where=type(checkpoint).__name__,
            remedy="Change the checkpoint callback, or set restore_best=False.",
        )
