"""Fine-tune in two processes, and see that they hold the same weights in every phase.

Beside it stands what the finetuning-scheduler package gives, where that is installed. Run it from anywhere:

    python ddp_two_processes.py
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["backbone.2.*"], "max_transition_epoch": 4, "lr": 0.05},
    2: {"params": ["backbone.0.*"], "max_transition_epoch": 6, "lr": 0.05},
}


class Regressor(LightningModule):
    """Learns the sum of eight numbers. In your script: a pretrained model."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
        self.head = nn.Linear(16, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        numbers, total = batch
        return functional.mse_loss(self.head(self.backbone(numbers)), total)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the metric that tells which checkpoint is the best."""
        self.log("val_loss", self.training_step(batch, batch_idx), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.SGD((weight for weight in self.parameters() if weight.requires_grad), lr=0.05)


class RankDifference(Callback):
    """Prints the largest difference between the weights of two processes in each phase.

    Args:
        title: What to print above.
        scheduler: The callback that knows the phase.
    """

    def __init__(self, title: str, scheduler: Any) -> None:  # noqa: ANN401  # the peer's scheduler has no common base
        self.title = title
        self.scheduler = scheduler
        self.largest: dict[int, float] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the weights of all processes."""
        weights = torch.cat([weight.detach().flatten() for weight in pl_module.parameters()])
        gathered = pl_module.all_gather(weights)
        difference = float((gathered.max(dim=0).values - gathered.min(dim=0).values).max())
        depth = self.scheduler.curr_depth
        self.largest[depth] = max(difference, self.largest.get(depth, 0.0))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what was seen, in one of the processes."""
        if trainer.is_global_zero:
            print(self.title)
            for depth, difference in self.largest.items():
                print(f"  phase {depth}: largest difference between ranks {difference:.1e}")


def train(title: str, package: str) -> None:
    """Train through the phases of the schedule in two processes.

    Args:
        title: What to print above the differences.
        package: The package that has the callbacks.
    """
    seed_everything(0, verbose=False)
    numbers = torch.randn(64, 8)
    batches = DataLoader(TensorDataset(numbers, numbers.sum(dim=1, keepdim=True)), batch_size=8)
    kit = import_module(package)
    scheduler = kit.FinetuningScheduler(ft_schedule=SCHEDULE, epoch_transitions_only=True)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            strategy="ddp_fork",  # "ddp" works as well, and "ddp_spawn" where a process cannot be forked
            devices=2,
            max_epochs=6,
            callbacks=[scheduler, kit.FTSCheckpoint(monitor="val_loss"), RankDifference(title, scheduler)],
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Regressor(), batches, batches)


def main() -> None:
    """Train with Phasewire, and with the package it can replace."""
    train("Phasewire", "phasewire.app")
    if find_spec("finetuning_scheduler"):
        train("finetuning-scheduler", "finetuning_scheduler")
    else:
        print("Install finetuning-scheduler to see what it gives.")


if __name__ == "__main__":
    main()
