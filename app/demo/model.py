"""The network of the demo: a small convolutional classifier of handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BACKBONE_PREFIX", "DigitsClassifier", "count_thawed", "read_backbone"]

#: What the names of the parameters that are carried over from pretraining start with.
BACKBONE_PREFIX = "backbone."

Batch = tuple[Tensor, Tensor]


class DigitsClassifier(LightningModule):
    """A backbone of a stem and two blocks, and a linear head.

    Schedules name its parts ``backbone.stem``, ``backbone.block1``, ``backbone.block2`` and ``head``.

    Args:
        num_classes: How many classes the head tells apart.
        width: Channels of the stem; each block after it doubles them.
        lr: Learning rate of the Adam optimizer.
        pretrained: A checkpoint of this class whose backbone is taken over when a fit begins; the head is not. A
            checkpoint given to ``fit`` itself is loaded later, and so wins.
    """

    def __init__(self, num_classes: int = 5, width: int = 16, lr: float = 1e-2, pretrained: str | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.pretrained = pretrained
        self.backbone = nn.Sequential()
        self.backbone.add_module("stem", _block(1, width, stride=1))
        self.backbone.add_module("block1", _block(width, 2 * width, stride=2))
        self.backbone.add_module("block2", _block(2 * width, 4 * width, stride=2))
        self.backbone.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        self.head = nn.Linear(4 * width, num_classes)

    def setup(self, stage: str) -> None:
        """Take over the pretrained backbone; only for a fit, so that a finished checkpoint needs no other file.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
        """
        if stage == "fit" and self.pretrained is not None:
            self.load_state_dict({**self.state_dict(), **read_backbone(self.pretrained)})

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: Grey values from 0 to 1, of shape (batch, 1, 8, 8).

        Returns:
            One logit a class, of shape (batch, num_classes).
        """
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the training loss of a batch.

        Args:
            batch: Images of shape (batch, 1, 8, 8) and class numbers of shape (batch,).
            batch_idx: The number of the batch in the epoch.

        Returns:
            The mean cross-entropy.
        """
        loss, _ = self._loss_and_accuracy(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        """Record how many parameters were thawed in the epoch."""
        self.log("thawed_parameters", float(count_thawed(self)))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log ``val_loss`` and ``val_accuracy`` of a batch.

        Args:
            batch: Images of shape (batch, 1, 8, 8) and class numbers of shape (batch,).
            batch_idx: The number of the batch.
        """
        loss, accuracy = self._loss_and_accuracy(batch)
        self.log_dict({"val_loss": loss, "val_accuracy": accuracy})

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log ``test_loss`` and ``test_accuracy`` of a batch.

        Args:
            batch: Images of shape (batch, 1, 8, 8) and class numbers of shape (batch,).
            batch_idx: The number of the batch.
        """
        loss, accuracy = self._loss_and_accuracy(batch)
        self.log_dict({"test_loss": loss, "test_accuracy": accuracy})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build Adam over the parameters that are thawed when the fit begins.

        Returns:
            The optimizer; the scheduler adds a group to it for each phase.
        """
        return torch.optim.Adam((weight for weight in self.parameters() if weight.requires_grad), lr=self.lr)

    def _loss_and_accuracy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, labels = batch
        logits = self(images)
        return functional.cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()


def count_thawed(module: nn.Module) -> int:
    """Count the numbers that training may change.

    Args:
        module: Any module.

    Returns:
        The elements of all parameters that require a gradient.
    """
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def read_backbone(checkpoint: str | Path) -> dict[str, Tensor]:
    """Read the backbone's weights and buffers from a checkpoint.

    Args:
        checkpoint: A checkpoint of :class:`DigitsClassifier`.

    Returns:
        Name to tensor, on the CPU.
    """
    # Any: a checkpoint also holds numbers, texts and the states of callbacks.
    content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return {name: tensor for name, tensor in content["state_dict"].items() if name.startswith(BACKBONE_PREFIX)}


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    block = nn.Sequential()
    block.add_module("conv", nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False))
    block.add_module("norm", nn.BatchNorm2d(channels_out))
    block.add_module("relu", nn.ReLU())
    return block
