"""Scenes that need two processes; run as a script, because Lightning starts the other process by running it again.

``python seam_processes.py FOLDER SCENE`` leaves what each process saw in files below the folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning.pytorch as pl
import torchmetrics
from lightning.pytorch.callbacks import Callback, OnExceptionCheckpoint
from torch import Tensor
from torch.multiprocessing import ProcessRaisedException

from phasewire.app.lightning_seams import is_metric_synchronised
from seam_recorder import (
    STRATEGIES,
    Batches,
    Journal,
    RecordedModule,
    Recorder,
    make_trainer,
    process_name,
    record_all_entry_points,
    shadowed_methods,
)

PROCESSES = 2


def record_entry_points(folder: Path) -> None:
    for strategy in STRATEGIES:
        if strategy != "single_device":
            place = folder / strategy
            record_all_entry_points(
                strategy,
                place / "checkpoints",
                processes=PROCESSES,
                journal=lambda entry_point, place=place: Journal(folder=place / entry_point),
            )


class MetricsModule(RecordedModule):
    """Logs a value in every way that matters for its synchronisation."""

    def __init__(self) -> None:
        super().__init__(Journal())
        self.metric = torchmetrics.MeanMetric()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_synced", loss, on_epoch=True, sync_dist=True)
        self.log("train_plain", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        loss = self.loss(batch)
        self.metric(loss)
        self.log("metric", self.metric)
        self.log("synced", loss, sync_dist=True)
        self.log("plain", loss)


class AsksAboutMetrics(Callback):
    """Keeps the answer about every metric that ``trainer.callback_metrics`` has."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, bool]] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ask("on_validation_end", trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ask("on_train_epoch_end", trainer)

    def _ask(self, hook: str, trainer: pl.Trainer) -> None:
        self.answers[hook] = {name: is_metric_synchronised(trainer, name) for name in trainer.callback_metrics}


def ask_about_metrics(folder: Path) -> None:
    witness = AsksAboutMetrics()
    trainer = make_trainer("ddp", witness, devices=PROCESSES, num_sanity_val_steps=0)
    trainer.fit(MetricsModule(), Batches(), [Batches(), Batches()])
    folder.mkdir(exist_ok=True)
    (folder / process_name()).write_text(json.dumps(witness.answers))


def fail_in_forked_processes(folder: Path) -> None:
    journal = Journal(fail_at="module.training_step", folder=folder / "events")
    trainer = make_trainer("ddp_fork", Recorder(journal), OnExceptionCheckpoint(folder), devices=PROCESSES)
    try:
        trainer.fit(RecordedModule(journal), Batches(), Batches())
    except ProcessRaisedException:  # instead of what was raised
        journal.note("ProcessRaisedException")
    journal.note(f"shadowed methods: {sorted(shadowed_methods(trainer.strategy))}")


SCENES = {
    "entry points": record_entry_points,
    "metrics": ask_about_metrics,
    "forked": fail_in_forked_processes,
}

if __name__ == "__main__":
    SCENES[sys.argv[2]](Path(sys.argv[1]))
