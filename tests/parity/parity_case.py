"""What one comparison trains: a case is plain data, from which the module, its data and the callbacks are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

FEATURES = 4
ROWS = 4
Options = Mapping[str, Any]


def sgd(**arguments: Any) -> Options:
    return {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "momentum": 0.9, **arguments}}


def lr_scheduler(name: str, **arguments: Any) -> Options:
    return {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": arguments}


def inverse(step: int) -> float:
    return 1 / (2 + step)


def shrinking(step: int) -> float:
    return 0.9


def warm(step: int) -> float:
    return min(1.0, 0.25 * (step + 1))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training that is done twice, with the peer's callbacks and with ours."""

    name: str
    schedule: Options | None
    """The schedule; ``None`` has one generated."""
    settings: Options = field(default_factory=dict)
    """Arguments of the scheduler."""
    val_losses: tuple[float, ...] = (5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.125)
    """The metric of each epoch; the last one is repeated."""
    max_epochs: int = 6
    stopping: Options | None = field(default_factory=lambda: {"patience": 99})
    """Arguments of the FTSEarlyStopping; ``None``: there is none in the Trainer."""
    checkpoint: Options | None = field(default_factory=dict)
    """Arguments of the FTSCheckpoint; ``None``: there is none in the Trainer."""
    optimizer: Options = field(default_factory=sgd)
    optimizer_gets: str = "trainable"
    """``"trainable"`` parameters, ``"all"`` of them, or the trainable ones ``"one by one"``, each in its own group."""
    lr_schedulers: tuple[Options, ...] = ()
    """Class path and arguments as in a schedule file, and the options that Lightning takes beside a scheduler."""
    no_decay: tuple[str, ...] = ()
    widths: tuple[int, ...] = (4, 4)
    """The outputs of each block before the head."""
    norms: tuple[int, ...] = ()
    """The blocks that have a batch norm layer."""
    tied: bool = False
    """The last block uses the weight of the first one."""
    compiled: bool = False
    trainer: Options = field(default_factory=dict)
    """Further options of the Trainer."""
    batches: int = 2
    seed: int = 0
    make: Callable[[Case], pl.LightningModule] | None = None
    """Makes the module, where it is not a :class:`Blocks`."""

    def module(self) -> pl.LightningModule:
        torch.manual_seed(self.seed)
        return Blocks(self) if self.make is None else self.make(self)


class ScriptedModule(pl.LightningModule):
    """Configures what a case says, and logs its scripted metric; a subclass has the layers and the loss."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self._case = case
        if case.no_decay:
            self.no_decay = list(case.no_decay)

    def loss(self, batch: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        losses = self._case.val_losses
        self.log("val_loss", torch.tensor(losses[min(self.current_epoch, len(losses) - 1)]))

    def configure_optimizers(self) -> Any:
        optimizer = made(self._case.optimizer, self._optimized())
        configs = [_lr_config(given, optimizer) for given in self._case.lr_schedulers]
        return ([optimizer], configs) if configs else optimizer

    def _optimized(self) -> list[Any]:
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if self._case.optimizer_gets == "all":
            return list(self.parameters())
        if self._case.optimizer_gets == "one by one":
            return [{"params": [parameter]} for parameter in trainable]
        return trainable


class Blocks(ScriptedModule):
    """Linear blocks, some with batch norm, and a head: ``blocks.0.linear.weight`` ... ``head.bias``."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        inputs = (FEATURES, *case.widths)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"linear": nn.Linear(before, after)})
            for before, after in zip(inputs, case.widths, strict=False)
        )
        for index in case.norms:
            self.blocks[index]["norm"] = nn.BatchNorm1d(case.widths[index])
        if case.tied:
            self.blocks[-1]["linear"].weight = self.blocks[0]["linear"].weight
        self.head = nn.Linear(inputs[-1], 1)

    def loss(self, batch: list[Tensor]) -> Tensor:
        x, y = batch
        for block in self.blocks:
            for layer in block.values():
                x = layer(x)
            x = torch.tanh(x)
        return nn.functional.mse_loss(self.head(x), y)


class Batches:
    """A few batches, always the same; no DataLoader, so Lightning has nothing to replace or warn of."""

    def __init__(self, case: Case) -> None:
        generator = torch.Generator().manual_seed(case.seed)
        x = torch.randn(case.batches, ROWS, FEATURES, generator=generator)
        self._batches = [[rows, rows.sum(dim=1, keepdim=True)] for rows in x]

    def __iter__(self) -> Iterator[list[Tensor]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


def made(given: Options, first: Any) -> Any:
    return resolve_name(given["class_path"])(first, **given.get("init_args", {}))


def _lr_config(given: Options, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    options = {key: value for key, value in given.items() if key not in ("class_path", "init_args")}
    return {"scheduler": made(given, optimizer), **options}
