"""Fine-tune a convolutional network with batch norm, laid out as torchvision's ResNets are.

The names are theirs (``conv1``, ``bn1``, ``layer1`` to ``layer3``, ``fc``), so the schedule suits
``torchvision.models.resnet18(weights="DEFAULT")`` too, where it gets a ``layer4``. Run it from anywhere:

    python residual_network.py
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

from phasewire.app import FinetuningScheduler, FTSCheckpoint

SCHEDULE = {
    0: {"params": [r"model\.fc\..*"], "max_transition_epoch": 2},
    1: {"params": [r"model\.layer3\..*"], "max_transition_epoch": 4},
    2: {"params": [r"model\.layer[12]\..*", r"model\.(conv1|bn1)\..*"], "max_transition_epoch": 6},
}


class BasicBlock(nn.Module):
    """Two convolutions, and the input added to what they give.

    Args:
        channels_in: Of the input.
        channels: Of the output.
        stride: Of the first convolution.
    """

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, images: Tensor) -> Tensor:
        """Give the features of the images."""
        features = functional.relu(self.bn1(self.conv1(images)))
        return functional.relu(self.bn2(self.conv2(features)) + self.downsample(images))


class SmallResNet(nn.Module):
    """A ResNet of three stages, for images of 8 by 8.

    Args:
        num_classes: Of the output.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(BasicBlock(8, 8))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, stride=2))
        self.layer3 = nn.Sequential(BasicBlock(16, 32, stride=2))
        self.fc = nn.Linear(32, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Give a score for each class."""
        features = functional.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        return self.fc(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # torch does not say what a module returns


class DigitClassifier(LightningModule):
    """Tells handwritten digits apart. In your script: a pretrained network."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SmallResNet(10)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        images, digit = batch
        return functional.cross_entropy(self.model(images), digit)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the metric that tells which checkpoint is the best."""
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.AdamW((weight for weight in self.parameters() if weight.requires_grad), lr=1e-2)


def main() -> None:
    """Train through the phases, two epochs each."""
    seed_everything(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    train, validate = random_split(TensorDataset(images, torch.tensor(digits.target)), [0.7, 0.3])
    scheduler = FinetuningScheduler(
        ft_schedule=SCHEDULE,
        base_max_lr=3e-3,
        epoch_transitions_only=True,
        # The running statistics of frozen batch norm layers stay as they were pretrained.
        frozen_bn_track_running_stats=False,
    )
    best = FTSCheckpoint(monitor="val_loss")
    trainer = Trainer(
        max_epochs=6,
        accelerator="cpu",
        callbacks=[scheduler, best],
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    trainer.fit(
        DigitClassifier(), DataLoader(train, batch_size=128, shuffle=True), DataLoader(validate, batch_size=256)
    )
    print(f"Phase reached: {scheduler.curr_depth} of {scheduler.max_depth}")
    print(f"Best val_loss: {float(best.best_model_score or 0):.3f}, of phase {best.best_ckpt_depth}")


if __name__ == "__main__":
    main()
