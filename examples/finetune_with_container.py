"""Fine-tune your own LightningModule phase by phase, with a callback that the container builds.

Copy it, and put your model, your data and your schedule in. Run it from anywhere:

    python finetune_with_container.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from phasewire.containers import Container

Batches = DataLoader[tuple[Tensor, ...]]


class WineClassifier(LightningModule):
    """Tells three kinds of wine apart by thirteen measurements. In your script: a pretrained model."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 3)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        measurements, kind = batch
        return functional.cross_entropy(self.head(self.backbone(measurements)), kind)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the metric that ends a phase."""
        measurements, kind = batch
        logits = self.head(self.backbone(measurements))
        self.log_dict(
            {
                "val_loss": functional.cross_entropy(logits, kind),
                "val_accuracy": (logits.argmax(dim=1) == kind).float().mean(),
            }
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.AdamW((weight for weight in self.parameters() if weight.requires_grad), lr=1e-2)


def wine_batches() -> tuple[Batches, Batches]:
    """Give batches to train on and batches to validate on."""
    data = load_wine()
    measurements = torch.tensor(data.data, dtype=torch.float32)
    measurements = (measurements - measurements.mean(dim=0)) / measurements.std(dim=0)
    kinds = torch.tensor(data.target)
    train, validate = train_test_split(torch.arange(len(kinds)), test_size=0.3, random_state=0, stratify=kinds)
    return (
        DataLoader(TensorDataset(measurements[train], kinds[train]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(measurements[validate], kinds[validate]), batch_size=64),
    )


def main() -> None:
    """Train through the phases of schedule.yaml."""
    seed_everything(0)
    container = Container()
    # A script of your own will rather say container.config.from_yaml("config.yaml"), with a file that
    # `phasewire config init` wrote. One argument can also be given where the callback is made:
    scheduler = container.scheduler(ft_schedule=Path(__file__).with_name("schedule.yaml"))
    checkpoint = ModelCheckpoint(monitor="val_loss")
    trainer = Trainer(
        max_epochs=30,
        accelerator="cpu",
        callbacks=[scheduler, EarlyStopping(monitor="val_loss", patience=3), checkpoint],
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    train, validate = wine_batches()
    trainer.fit(WineClassifier(), train, validate)
    print(f"Phase reached: {scheduler.curr_depth} of {scheduler.max_depth}")
    print(f"Best val_loss: {float(checkpoint.best_model_score or 0):.4f} in {checkpoint.best_model_path}")


if __name__ == "__main__":
    main()
