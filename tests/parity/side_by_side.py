"""Trains a case with the peer's callbacks and with ours, and tells what differs."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

import phasewire.app as ours
from parity_case import Batches, Case
from tuning import make_trainer, names_of_groups

with warnings.catch_warnings():
    # Only the peer imports torch.distributed.optim, which uses what torch deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    import finetuning_scheduler as peer

Bits = dict[str, Any]

#: What ours rightly says of some cases. Any other warning of ours is an error, as in all tests.
ADVICE = (
    r"Training stops: 'val_loss' is (nan|inf|-inf)",
    r"phases? .* (thaws? nothing|may last for a single epoch|first trained together)",
    r"phase .* second names of tied parameters are left out",
    r"phase .* no phase follows phase",
    r"Phase \d+ begins without restoring",
    r"ReduceLROnPlateau conditioned on metric val_loss which is not available but strict is set to `False`",
    r"No callback says which metric to monitor",
    r"phase .* init_pg_lrs gives \d+ learning rates, and the phases before have",
    r"new_optimizer of phase \d+ does not count: a setting of the FinetuningScheduler",
    r"The optimizer does not hold exactly the parameters of phase 0, and enforce_phase0_params=False",
)


@dataclass(frozen=True)
class Group:
    """A parameter group. One that holds nothing, as where ``no_decay`` names none of a phase, has nothing else."""

    names: tuple[str, ...]
    lr: float | None = None
    initial_lr: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True)
class Epoch:
    """What held when the first batch of an epoch was about to be trained."""

    depth: int
    thawed: tuple[str, ...]
    tracking: tuple[str, ...]
    """The batch norm layers that update their running statistics."""
    optimizer: str
    groups: tuple[Group, ...]
    lr_schedulers: tuple[Mapping[str, Any], ...]
    restored: tuple[str, ...]
    """The checkpoints that were read since the epoch before."""
    weights: Bits


@dataclass
class Outcome:
    """What one of the two did."""

    epochs: list[Epoch] = field(default_factory=list)
    ended_at_epoch: int | None = None
    best_checkpoint: tuple[str, int] | None = None
    weights: Bits = field(default_factory=dict)
    optimizer_state: Bits = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def depths(self) -> list[int]:
        return [epoch.depth for epoch in self.epochs]


def train(case: Case, kit: ModuleType, folder: Path, **settings: Any) -> Outcome:
    """Train a case with the callbacks of a package.

    Args:
        case: What to train.
        kit: ``finetuning_scheduler`` or ``phasewire.app``.
        folder: An empty folder for the checkpoints.
        settings: Settings that are not the same for both packages.

    Returns:
        What happened; an error of the run is in it.
    """
    outcome = Outcome()
    with quiet_peer() if kit is peer else _without_advice():
        try:
            _train(case, kit, folder, settings, outcome)
        except Exception as error:  # noqa: BLE001  # whatever one of the two raises is what is compared
            outcome.error = error
    return outcome


def train_both(case: Case, folder: Path) -> tuple[Outcome, Outcome]:
    """Train a case with both packages.

    Returns:
        What ours did, and what the peer did.
    """
    return train(case, ours, folder / "ours"), train(case, peer, folder / "peer")


def differences(mine: Outcome, theirs: Outcome) -> list[str]:
    """Tell where two outcomes differ, the earliest epoch first; nothing if they are equal."""
    if mine.error or theirs.error:
        return [f"ours: {_shown(mine.error)}; the peer: {_shown(theirs.error)}"]
    found = []
    for number, (our_epoch, their_epoch) in enumerate(zip(mine.epochs, theirs.epochs, strict=False)):
        found += [f"epoch {number}, {line}" for line in _differing_fields(our_epoch, their_epoch)]
    if mine.depths != theirs.depths:
        found.append(f"depths: ours {mine.depths}, the peer's {theirs.depths}")
    whole = ("ended_at_epoch", "best_checkpoint", "weights", "optimizer_state")
    return found + [
        f"at the end, {name}: {_contrast(getattr(mine, name), getattr(theirs, name))}"
        for name in whole
        if getattr(mine, name) != getattr(theirs, name)
    ]


@contextmanager
def quiet_peer() -> Iterator[None]:
    """Hide the warnings that the peer and Lightning raise while the peer runs: they are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in ADVICE:
            warnings.filterwarnings("ignore", message)
        yield


def _train(case: Case, kit: ModuleType, folder: Path, settings: Mapping[str, Any], outcome: Outcome) -> None:
    # The peer writes into what it is given.
    common = {"ft_schedule": case.schedule and dict(case.schedule), "logging_level": logging.ERROR, **case.settings}
    scheduler = kit.FinetuningScheduler(**copy.deepcopy({**common, **settings}))
    callbacks: list[Callback] = [scheduler]
    if case.stopping is not None:
        callbacks.append(kit.FTSEarlyStopping("val_loss", **case.stopping))
    checkpoint = None
    if case.checkpoint is not None:
        checkpoint = kit.FTSCheckpoint(dirpath=folder / "best", monitor="val_loss", **case.checkpoint)
        callbacks.append(checkpoint)
    reads = Reads()
    callbacks.append(Recorder(scheduler, reads, outcome.epochs))
    trainer = make_trainer(folder, *callbacks, plugins=[reads], max_epochs=case.max_epochs, **case.trainer)
    module = case.module()
    fitted = torch.compile(module, backend="eager") if case.compiled else module
    trainer.fit(fitted, train_dataloaders=Batches(case), val_dataloaders=Batches(case))
    outcome.ended_at_epoch = trainer.current_epoch
    outcome.weights = bits(module.state_dict())
    outcome.optimizer_state = _state_by_name(trainer.optimizers[0], module)
    if checkpoint is not None:
        outcome.best_checkpoint = (Path(checkpoint.best_model_path).name, checkpoint.best_ckpt_depth)


class Reads(TorchCheckpointIO):
    """Notes the checkpoints that are really read."""

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        self._names.append(Path(path).name)
        return super().load_checkpoint(path, *args, **kwargs)

    def take(self) -> tuple[str, ...]:
        """Give the names of the files read since the last call."""
        names, self._names = tuple(self._names), []
        return names


class Recorder(Callback):
    """Notes what holds when the first batch of an epoch begins."""

    def __init__(self, scheduler: Any, reads: Reads, epochs: list[Epoch]) -> None:
        self._scheduler = scheduler
        self._reads = reads
        self._epochs = epochs

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int):
        if batch_idx > 0:
            return
        optimizer = trainer.optimizers[0]
        self._epochs.append(
            Epoch(
                depth=self._scheduler.curr_depth,
                thawed=tuple(name for name, p in pl_module.named_parameters() if p.requires_grad),
                tracking=tuple(
                    name for name, layer in pl_module.named_modules() if getattr(layer, "track_running_stats", False)
                ),
                optimizer=type(optimizer).__name__,
                groups=_groups(optimizer, pl_module),
                lr_schedulers=tuple(_lr_state(config, optimizer) for config in trainer.lr_scheduler_configs),
                restored=self._reads.take(),
                weights=bits(pl_module.state_dict()),
            )
        )


def bits(values: Mapping[str, Any]) -> Bits:
    """Give values in a form that compares bit for bit."""
    return {
        name: (str(value.dtype), tuple(value.shape), value.detach().numpy().tobytes())
        if isinstance(value, Tensor)
        else value
        for name, value in values.items()
    }


def _groups(optimizer: Optimizer, module: nn.Module) -> tuple[Group, ...]:
    return tuple(
        Group(names, float(group["lr"]), group.get("initial_lr"), group.get("weight_decay")) if names else Group(())
        for names, group in zip(names_of_groups(optimizer, module), optimizer.param_groups, strict=True)
    )


def _lr_state(config: Any, optimizer: Optimizer) -> dict[str, Any]:
    scheduler = config.scheduler
    holds = [bool(group["params"]) for group in optimizer.param_groups]
    listed = {  # None for a group that holds nothing, or has no entry
        name: [rate if held else None for rate, held in zip_longest(getattr(scheduler, name), holds)]
        for name in ("base_lrs", "min_lrs")
        if hasattr(scheduler, name)
    }
    # A plateau scheduler computes nothing from last_epoch, which the peer sets back to -1 where it rebuilds phase 0.
    counters = () if isinstance(scheduler, ReduceLROnPlateau) else ("last_epoch",)
    single = {
        name: getattr(scheduler, name)
        for name in (*counters, "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i")
        if hasattr(scheduler, name)
    }
    lambdas = {"lambdas": len(scheduler.lr_lambdas)} if hasattr(scheduler, "lr_lambdas") else {}
    told = {name: getattr(config, name) for name in ("interval", "frequency", "monitor", "name", "reduce_on_plateau")}
    return {"class": type(scheduler).__name__, **told, **listed, **single, **lambdas}


def _state_by_name(optimizer: Optimizer, module: nn.Module) -> Bits:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {names[id(parameter)]: bits(state) for parameter, state in optimizer.state.items()}


def _differing_fields(mine: Any, theirs: Any) -> list[str]:
    return [
        f"{item.name}: {_contrast(getattr(mine, item.name), getattr(theirs, item.name))}"
        for item in fields(mine)
        if getattr(mine, item.name) != getattr(theirs, item.name)
    ]


def _contrast(mine: Any, theirs: Any) -> str:
    """Show the parts in which two values differ, and the names where they hold bits."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        return ", ".join(f"{name} ({_contrast(mine.get(name), theirs.get(name))})" for name in names)
    if isinstance(mine, Group) and isinstance(theirs, Group):
        return "; ".join(_differing_fields(mine, theirs))
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        if bytes in map(type, mine + theirs):
            return "other bits"
        if len(mine) == len(theirs):
            pairs = zip(mine, theirs, strict=True)
            return ", ".join(
                f"[{i}] {_contrast(left, right)}" for i, (left, right) in enumerate(pairs) if left != right
            )
    return f"ours {mine}, the peer's {theirs}"


def _shown(error: BaseException | None) -> str:
    return "no error" if error is None else f"{type(error).__name__}: {str(error)[:300]}"
