"""Trains three phases under a strategy and saves each rank's weights.

``python ddp_run.py FOLDER STRATEGY DEVICES [PACKAGE]``, where the package has the callbacks.
"""

import sys
import zipfile
from importlib import import_module
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from tuning import TunedModule, fit, make_trainer

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"], "lr": 0.05},
    2: {"params": ["layers.0.*"], "lr": 0.02},
}
SCORES = [1.0, 2.0, 0.5, 3.0, 4.0, 4.0]


class SplitModule(TunedModule):
    """Every rank trains its own rows of the batch; together they train what one process would."""

    def __init__(self) -> None:
        super().__init__()
        self.layers[2] = nn.Identity()

    def training_step(self, batch, batch_idx):
        return super().training_step([part[self.global_rank :: self.trainer.world_size] for part in batch], batch_idx)

    def validation_step(self, batch, batch_idx):
        # Rank 0's losses end phase 1; those of the others never would.
        self.log("val_loss", float(self.current_epoch if self.global_rank == 0 else -self.current_epoch))
        self.log("score", SCORES[min(self.current_epoch, len(SCORES) - 1)], sync_dist=True)


class SaveRank(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.depths: list[int] = []
        self.compared: list[str] = []
        """The checkpoints whose checksums this rank has compared."""

    def setup(self, trainer, pl_module, stage):
        original = zipfile.ZipFile.open  # torch reads archives by code of its own

        def open_member(archive, member, *arguments, **options):
            self.compared.append(str(archive.filename))
            return original(archive, member, *arguments, **options)

        zipfile.ZipFile.open = open_member

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.depths.append(trainer.callbacks[0].curr_depth)

    def on_train_end(self, trainer, pl_module):
        seen = {"state": pl_module.state_dict(), "depths": self.depths, "compared": self.compared}
        torch.save(seen, self.folder / f"rank{trainer.global_rank}.pt")


def main(folder: Path, strategy: str, devices: int, package: str = "phasewire.app") -> None:
    kit = import_module(package)
    torch.manual_seed(0)
    module = SplitModule()
    trainer = make_trainer(
        folder,
        kit.FinetuningScheduler(SCHEDULE, restore_best=True),
        kit.FTSEarlyStopping("val_loss", patience=2),
        kit.FTSCheckpoint(folder / "best", monitor="score"),
        SaveRank(folder),
        strategy=strategy,
        devices=devices,
        max_epochs=6,
    )
    fit(trainer, module)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
