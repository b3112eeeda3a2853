"""Faults of the peer beside features of Lightning, each in a minimal script."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from torch import Tensor, nn

import phasewire.app as ours
from case_parts import WORSENING, phases
from parity_case import Batches, Case
from side_by_side import bits, peer, quiet_peer
from tuning import make_trainer

CASE = Case(name="beside Lightning", schedule=phases(), val_losses=WORSENING, max_epochs=3)
BOTH = pytest.mark.parametrize("kit", [ours, peer], ids=["ours", "the peer"])


def fit(kit: ModuleType, folder: Path, *callbacks: Callback, **options: Any) -> None:
    scheduler = kit.FinetuningScheduler(phases(), logging_level=logging.ERROR)
    stopping = kit.FTSEarlyStopping("val_loss", patience=99)
    checkpoint = kit.FTSCheckpoint(folder, monitor="val_loss")
    trainer = make_trainer(folder, scheduler, stopping, checkpoint, *callbacks, max_epochs=CASE.max_epochs, **options)
    with quiet_peer():
        trainer.fit(CASE.module(), train_dataloaders=Batches(CASE), val_dataloaders=Batches(CASE))


class SlowIO(TorchCheckpointIO):
    """Takes longer to write a checkpoint than an epoch takes."""

    def save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        time.sleep(0.3)
        super().save_checkpoint(*arguments, **options)


def test_a_transition_waits_for_an_asynchronous_save(tmp_path: Path) -> None:
    fit(ours, tmp_path / "ours", plugins=[AsyncCheckpointIO(SlowIO())])

    with pytest.raises(FileNotFoundError):
        fit(peer, tmp_path / "peer", plugins=[AsyncCheckpointIO(SlowIO())])


class WeightsAndAverages(Callback):
    """Notes the trained weights when the best epoch ends, and weights and averages when the next phase begins."""

    def __init__(self, averages: EMAWeightAveraging) -> None:
        self._averages = averages
        self.seen: dict[str, dict[str, Any]] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self._note(pl_module, "at the best")

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.current_epoch == 2 and "restored" not in self.seen:
            self._note(pl_module, "restored")

    def _note(self, module: pl.LightningModule, when: str) -> None:
        average = self._averages._average_model  # what it keeps has no public name
        self.seen[when] = {"weights": bits(module.state_dict()), "averages": bits(average.module.state_dict())}


def test_averages_do_not_take_the_place_of_the_weights(tmp_path: Path) -> None:
    seen = {}
    for kit in (ours, peer):
        averages = EMAWeightAveraging(decay=0.5)
        notes = WeightsAndAverages(averages)
        fit(kit, tmp_path / kit.__name__, averages, notes)
        seen[kit] = notes.seen

    assert seen[ours]["restored"] == seen[ours]["at the best"]
    assert seen[peer]["restored"]["weights"] == seen[peer]["at the best"]["averages"]
    assert seen[peer]["restored"]["averages"] != seen[peer]["at the best"]["averages"]


DEEP = 9  # torch compiles one function for eight


class CompiledBody(pl.LightningModule):
    """Has a compiled part of as many layers as there are phases."""

    def __init__(self, backend: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(*[nn.Linear(4, 4) for _ in range(DEEP + 1)])
        self.compiled = torch.compile(self.body, backend=backend)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.compiled(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.body[DEEP].parameters(), lr=0.1)


@BOTH
def test_every_phase_of_a_compiled_part_is_compiled(tmp_path: Path, kit: ModuleType) -> None:
    compiled_in: set[int] = set()

    class Depths(Callback):
        depth = 0

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.depth = trainer.current_epoch

    depths = Depths()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        compiled_in.add(depths.depth)
        return graph.forward

    schedule = {
        depth: {"params": [rf"body\.{DEEP - depth}\..*"], "max_transition_epoch": depth + 1}
        for depth in range(DEEP + 1)
    }
    torch.compiler.reset()  # so that no other test has used up what may be compiled

    scheduler = kit.FinetuningScheduler(
        schedule, restore_best=False, epoch_transitions_only=True, logging_level=logging.ERROR
    )
    trainer = make_trainer(tmp_path, scheduler, depths, max_epochs=DEEP + 1, enable_checkpointing=False)
    with quiet_peer():
        trainer.fit(CompiledBody(backend), train_dataloaders=Batches(CASE))

    every_phase = set(range(DEEP + 1))
    assert compiled_in == (every_phase if kit is ours else every_phase - {8, 9})
