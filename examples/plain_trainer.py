"""Fine-tune with an ordinary Trainer script: one callback is all that is added to it.

Copy it, and put your model and your data in. Run it from anywhere:

    python plain_trainer.py
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

from phasewire.app import FinetuningScheduler

# The head first; then the layer below it; then the rest. Without a schedule, Phasewire makes one.
SCHEDULE = {
    0: {"params": [r"head\..*"], "max_transition_epoch": 5},
    1: {"params": [r"backbone\.2\..*"], "lr": 1e-3, "max_transition_epoch": 10},
    2: {"params": [r"backbone\.0\..*"], "lr": 1e-4},
}


class TumourClassifier(LightningModule):
    """Tells malignant tumours from benign ones by thirty measurements. In your script: a pretrained model."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 2)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        measurements, kind = batch
        return functional.cross_entropy(self.head(self.backbone(measurements)), kind)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the metric that ends a phase."""
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.AdamW((weight for weight in self.parameters() if weight.requires_grad), lr=1e-2)


def main() -> None:
    """Train through the phases of the schedule."""
    seed_everything(0)
    measurements, kinds = (torch.tensor(part) for part in load_breast_cancer(return_X_y=True))
    measurements = ((measurements - measurements.mean(dim=0)) / measurements.std(dim=0)).float()
    train, validate = random_split(TensorDataset(measurements, kinds), [0.7, 0.3])

    scheduler = FinetuningScheduler(ft_schedule=SCHEDULE)
    trainer = Trainer(
        max_epochs=15,
        accelerator="cpu",
        callbacks=[scheduler, EarlyStopping(monitor="val_loss", patience=3), ModelCheckpoint(monitor="val_loss")],
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    trainer.fit(TumourClassifier(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(validate, batch_size=64))
    print(f"Phase reached: {scheduler.curr_depth} of {scheduler.max_depth}")
    print(f"Last val_loss: {float(trainer.callback_metrics['val_loss']):.4f}")


if __name__ == "__main__":
    main()
