"""Trial fits: a short training that notes which hooks of an adapter are called and what the phases train."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lightning.pytorch as pl

from phasewire.adapters.rank_zero import LOGGER_NAME
from phasewire.app.adapter_checks.observed import Trial, WatchedStrategy, observed
from phasewire.app.adapter_checks.sample import MONITOR, RowlessBatches, train_without_data
from phasewire.app.phases.callbacks import FTSCheckpoint, FTSEarlyStopping
from phasewire.app.phases.scheduler import FinetuningScheduler

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter

__all__ = ["restored_trial", "run_trial"]

_MOST_EPOCHS: Final = 8
_LOGGERS: Final = ("lightning.pytorch", LOGGER_NAME)


def run_trial(
    adapter_class: type[StrategyAdapter],
    cfg: Mapping[str, object],
    module: pl.LightningModule,
    folder: Path,
    schedule: dict[int, dict[str, Any]] | None = None,  # Any: the values of a schedule file
) -> Trial:
    """Train a module through two phases, and note what the adapter does.

    Args:
        adapter_class: The class of the adapter.
        cfg: Its options.
        module: The module; it is trained without data.
        folder: An empty folder.
        schedule: The schedule, whose phases then end by epochs, and whose first one is not what the optimizer is given;
            without one, it is generated.

    Returns:
        What was noted, of a fit that failed too.
    """
    notes: list[Trial] = []
    companions: list[pl.Callback] = []
    if schedule is None:
        companions = [FTSEarlyStopping(monitor=MONITOR, patience=1), FTSCheckpoint(dirpath=folder, monitor=MONITOR)]
    with _quiet():
        scheduler = FinetuningScheduler(
            schedule,
            max_depth=1,
            epoch_transitions_only=schedule is not None,
            restore_best=schedule is None,
            logging_level=logging.ERROR,
            custom_strategy_adapters={"auto": observed(adapter_class, notes)},
            strategy_adapter_cfg=dict(cfg),
            log_dir=folder,
        )
        trainer = _quiet_trainer(folder, scheduler, *companions, checkpoints=schedule is None)
        trial = Trial(folder, module, trainer)
        trial.optimizes_everything, trial.monitors = schedule is not None, 0 if schedule is not None else 1
        notes.append(trial)
        trained = train_without_data(module, optimize_everything=trial.optimizes_everything)
        with _noted(trial):
            trainer.fit(trained, RowlessBatches(), RowlessBatches())
            trial.checkpoint = folder / "trained.ckpt"
            trainer.save_checkpoint(trial.checkpoint)
    return trial


def restored_trial(
    checkpoint: Path, adapter_class: type[StrategyAdapter], cfg: Mapping[str, object], module: pl.LightningModule
) -> Trial:
    """Restore another module from a checkpoint, as ``trainer.validate(ckpt_path=...)`` does.

    Args:
        checkpoint: A checkpoint that was written with the adapter.
        adapter_class: The class of the adapter.
        cfg: Its options.
        module: The module to restore.

    Returns:
        What was noted, of a restore that failed too.
    """
    notes: list[Trial] = []
    with _quiet():
        scheduler = FinetuningScheduler(
            logging_level=logging.ERROR,
            custom_strategy_adapters={"auto": observed(adapter_class, notes)},
            strategy_adapter_cfg=dict(cfg),
            log_dir=checkpoint.parent,
        )
        trainer = _quiet_trainer(checkpoint.parent, scheduler)
        trial = Trial(checkpoint.parent, module, trainer)
        notes.append(trial)
        with _noted(trial):
            trainer.validate(train_without_data(module), RowlessBatches(), ckpt_path=checkpoint, verbose=False)
    return trial


@contextmanager
def _noted(trial: Trial) -> Iterator[None]:
    """Note what stops a trial, and that it is over: the rules themselves call hooks afterwards."""
    try:
        yield
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the rules report it, whatever it is
        trial.error = error
    finally:
        trial.over = True


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what Lightning and Phasewire remark on the way: what counts is in the rules."""
    levels = {logger: logger.level for logger in map(logging.getLogger, _LOGGERS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in levels:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)


def _quiet_trainer(folder: Path, *callbacks: pl.Callback, checkpoints: bool = False) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        strategy=WatchedStrategy(),
        callbacks=list(callbacks),
        default_root_dir=folder,
        enable_checkpointing=checkpoints,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        max_epochs=_MOST_EPOCHS,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
