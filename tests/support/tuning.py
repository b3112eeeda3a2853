"""A small module whose validation losses are scripted, and a callback that notes how a schedule runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from phasewire.app import FinetuningScheduler

FEATURES = 4
ROWS = 8


def sgd_with_momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


class TunedModule(pl.LightningModule):
    """Four layers of which the last is the head, and validation losses that follow a script.

    Args:
        val_losses: The ``val_loss`` logged in each epoch; the last one is repeated. Without, the real loss is logged.
        optimizer: Makes the optimizer from all parameters; SGD with momentum by default.
        scheduler: Makes an lr scheduler from the optimizer.
        only_trainable: Give the optimizer only parameters that require a gradient.
    """

    def __init__(self, val_losses: Sequence[float] = (), optimizer=None, scheduler=None, only_trainable=True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES)
        )
        self.head = nn.Linear(FEATURES, 1)
        self._val_losses = list(val_losses)
        self._make_optimizer = optimizer or sgd_with_momentum
        self._make_scheduler = scheduler
        self._only_trainable = only_trainable

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        if self._val_losses:
            epoch = min(self.current_epoch, len(self._val_losses) - 1)
            loss = torch.tensor(self._val_losses[epoch])
        self.log("val_loss", loss, sync_dist=True)

    test_step = validation_step

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.parameters() if p.requires_grad or not self._only_trainable]
        optimizer = self._make_optimizer(parameters)
        if self._make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self._make_scheduler(optimizer)}


@dataclass(frozen=True)
class Epoch:
    """What held while an epoch was trained."""

    number: int
    depth: int
    trainable: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    lrs: tuple[float, ...]


class Notes(Callback):
    """Notes, for every epoch, the phase, what required a gradient, and the optimizer's groups."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    @property
    def depths(self) -> list[int]:
        return [epoch.depth for epoch in self.epochs]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int):
        if batch_idx > 0:
            return
        scheduler = next(callback for callback in trainer.callbacks if isinstance(callback, FinetuningScheduler))
        optimizer = trainer.optimizers[0]
        self.epochs.append(
            Epoch(
                number=trainer.current_epoch,
                depth=scheduler.curr_depth,
                trainable=tuple(name for name, p in pl_module.named_parameters() if p.requires_grad),
                groups=names_of_groups(optimizer, pl_module),
                lrs=tuple(group["lr"] for group in optimizer.param_groups),
            )
        )


def names_of_groups(optimizer: Optimizer, module: nn.Module) -> tuple[tuple[str, ...], ...]:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return tuple(tuple(names[id(p)] for p in group["params"]) for group in optimizer.param_groups)


class Batches:
    """Two batches of four rows each, always the same; no DataLoader, so Lightning has nothing to replace or warn of."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(ROWS, FEATURES, generator=generator)
        y = x.sum(dim=1, keepdim=True)
        half = ROWS // 2
        self._batches = [[x[:half], y[:half]], [x[half:], y[half:]]]

    def __iter__(self) -> Iterator[list[Tensor]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


def make_trainer(folder: Path, *callbacks: Callback, **options: Any) -> pl.Trainer:
    """A quiet Trainer on the CPU that writes below a folder."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 10,
    }
    return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**quiet, **options})


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def fit(trainer: pl.Trainer, module: pl.LightningModule, **options: Any) -> None:
    trainer.fit(module, train_dataloaders=Batches(), val_dataloaders=Batches(1), **options)
