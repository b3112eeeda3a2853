"""The model that the kit trains unless it is given another, and how it trains any model without data."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

__all__ = ["MONITOR", "RowlessBatches", "SampleModule", "train_without_data"]

#: The metric that is logged while the kit trains; it never improves, so that early stopping ends every phase.
MONITOR = "phasewire_adapter_check"

_WIDTH = 4


class SampleModule(pl.LightningModule):
    """Three blocks of two layers, and a head: enough for a schedule of several phases."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.LayerNorm(_WIDTH)) for _ in range(3))
        self.head = nn.Linear(_WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks and the head.

        Args:
            x: Rows of four features.

        Returns:
            One number a row.
        """
        for block in self.blocks:
            x = block(x)
        return torch.as_tensor(self.head(x))


class RowlessBatches:
    """Two batches of nothing; no DataLoader, so Lightning has nothing to replace or warn of."""

    def __iter__(self) -> Iterator[Tensor]:
        """Give the batches."""
        return iter([torch.zeros(1), torch.zeros(1)])

    def __len__(self) -> int:
        """Count the batches."""
        return 2


def train_without_data(module: pl.LightningModule, *, optimize_everything: bool = False) -> pl.LightningModule:
    """Give a module steps that need no data: the loss is the sum of the squares of what is trained.

    Args:
        module: Any module; its own steps and optimizers are set aside, its parameters and their names stay.
        optimize_everything: Give the optimizer every parameter, and not only those that require a gradient.

    Returns:
        The module.
    """

    def training_step(batch: Tensor, batch_idx: int) -> Tensor:  # noqa: ARG001  # Lightning gives them
        squares = [parameter.square().sum() for parameter in module.parameters() if parameter.requires_grad]
        return torch.stack(squares).sum()

    def validation_step(batch: Tensor, batch_idx: int) -> None:  # noqa: ARG001  # Lightning gives them
        module.log(MONITOR, 1.0, batch_size=1)

    def configure_optimizers() -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in module.parameters() if p.requires_grad or optimize_everything], lr=0.01)

    for step in (training_step, validation_step, configure_optimizers):
        setattr(module, step.__name__, step)
    return module
