"""Fine-tune with LightningCLI: the callback and its schedule stand in the YAML file, not in the script.

Needs ``jsonargparse[signatures]``, which LightningCLI is made of. Run it in this folder:

    python lightning_cli.py fit --config lightning_cli.yaml
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

Batches = DataLoader[tuple[Tensor, ...]]


class WineClassifier(LightningModule):
    """Tells three kinds of wine apart by thirteen measurements. In your script: a pretrained model.

    Args:
        width: Of the hidden layers.
        lr: The learning rate of phase 0.
    """

    def __init__(self, width: int = 32, lr: float = 1e-2) -> None:
        super().__init__()
        self.lr = lr
        self.backbone = nn.Sequential(nn.Linear(13, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 3)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        measurements, kind = batch
        return functional.cross_entropy(self.head(self.backbone(measurements)), kind)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the metric that ends a phase."""
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.AdamW((weight for weight in self.parameters() if weight.requires_grad), lr=self.lr)


class WineData(LightningDataModule):
    """The wines, two thirds of them to train on.

    Args:
        batch_size: Of the training.
    """

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.parts: list[Dataset[tuple[Tensor, ...]]] = []

    def setup(self, stage: str) -> None:
        """Load the data and split it."""
        measurements, kinds = (torch.tensor(part) for part in load_wine(return_X_y=True))
        measurements = ((measurements - measurements.mean(dim=0)) / measurements.std(dim=0)).float()
        self.parts = list(random_split(TensorDataset(measurements, kinds), [0.7, 0.3]))

    def train_dataloader(self) -> Batches:
        """Give what to train on."""
        return DataLoader(self.parts[0], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Batches:
        """Give what to validate on."""
        return DataLoader(self.parts[1], batch_size=64)


if __name__ == "__main__":
    LightningCLI(WineClassifier, WineData)
