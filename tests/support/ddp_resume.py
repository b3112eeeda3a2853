"""Trains in two processes, once whole and once cut off and resumed: ``python ddp_resume.py FOLDER``."""

import sys
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.multiprocessing import ProcessRaisedException

from ddp_run import SCHEDULE, SaveRank, SplitModule
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from resuming import expected_warnings
from tuning import fit, make_trainer


class CutOff(Callback):
    """Raises in both processes, after the checkpoints of the step before."""

    def __init__(self, at_step: int | None) -> None:
        self.at_step = at_step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at_step:
            raise RuntimeError("cut off")


def train(folder: Path, *, cut_at_step: int | None = None, ckpt_path: Path | None = None) -> None:
    torch.manual_seed(0)
    trainer = make_trainer(
        folder,
        FinetuningScheduler(SCHEDULE),
        FTSEarlyStopping("val_loss", patience=2),
        ModelCheckpoint(folder / "recovery", every_n_train_steps=2, filename="newest"),
        FTSCheckpoint(folder / "best", monitor="score", filename="{epoch}"),
        CutOff(cut_at_step),
        SaveRank(folder),
        strategy="ddp_fork",
        devices=2,
        max_epochs=6,
    )
    with expected_warnings():
        fit(trainer, SplitModule(), ckpt_path=ckpt_path)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    train(folder / "whole")
    # Step 6 is the last of epoch 2: what follows it is in no checkpoint, and early stopping is about to end phase 1.
    try:
        train(folder / "cut", cut_at_step=7)
    except ProcessRaisedException:
        train(folder / "cut", ckpt_path=folder / "cut" / "recovery" / "newest.ckpt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
