"""Runs that are cut off at a chosen moment and go on from their newest checkpoint, and all that such a run leaves."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint, OnExceptionCheckpoint
from torch import Tensor, nn
from torch.optim import lr_scheduler

from phasewire.adapters import StrategyAdapter
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Batches, TunedModule, make_trainer, names_of_groups

STEPS_PER_EPOCH = 2


class PowerCutError(BaseException):
    """The power went out."""


class StatefulBatches(Batches):
    """The batches of an epoch, from where a checkpoint was taken on, as torchdata's StatefulDataLoader gives them."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._given = 0
        self._resumes = False

    def __iter__(self) -> Iterator[list[Tensor]]:
        start = self._given if self._resumes and self._given < len(self) else 0
        self._resumes = False
        for index in range(start, len(self)):
            self._given = index + 1
            yield self._batches[index]

    def state_dict(self) -> dict[str, int]:
        return {"given": self._given}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._given = state_dict["given"]
        self._resumes = True


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.02),
}

LR_SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any] | None] = {
    "none": None,
    "lambda by step": lambda optimizer: {
        "scheduler": lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1 + step)),
        "interval": "step",
    },
    "step by epoch": lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5),
    "cosine by step": lambda optimizer: {
        "scheduler": lr_scheduler.CosineAnnealingLR(optimizer, T_max=7),
        "interval": "step",
    },
    "plateau": lambda optimizer: {
        "scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
        "monitor": "val_loss",
    },
}


@dataclass(frozen=True)
class Moment:
    """A call in which a run is cut off: the hook, and how many calls of it come before."""

    hook: str
    calls_before: int


@dataclass(frozen=True)
class Job:
    """A training that can be started any number of times."""

    schedule: dict[int, dict[str, Any]]
    epochs: int = 6
    val_losses: tuple[float, ...] = ()
    optimizer: str = "adamw"
    lr_scheduler: str = "none"
    no_decay: bool = True
    restore_best: bool = True
    epoch_transitions_only: bool = False
    patience: int = 1
    save_top_k: int = 1
    tracks_frozen_statistics: bool = True
    recovery: dict[str, Any] = field(default_factory=lambda: {"every_n_epochs": 1})
    recovery_first: bool = False
    checkpoint: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    on_exception: bool = False
    criteria: list[Any] | None = None
    adapter: type[StrategyAdapter] | None = None

    def module(self) -> TunedModule:
        module = TunedModule(
            self.val_losses,
            optimizer=OPTIMIZERS[self.optimizer],
            scheduler=LR_SCHEDULERS[self.lr_scheduler],
            only_trainable=False,
        )
        if self.no_decay:
            module.no_decay = ["bias"]
        return module

    def checkpoints(self, folder: Path) -> list[ModelCheckpoint]:
        best = FTSCheckpoint(
            folder / "best",
            monitor="val_loss",
            filename="{epoch}-{step}",
            **{"save_top_k": self.save_top_k, **self.checkpoint},
        )
        recovery = ModelCheckpoint(
            folder / "recovery", filename="{epoch}-{step}", **{"save_top_k": -1, **self.recovery}
        )
        return [recovery, best] if self.recovery_first else [best, recovery]

    def others(self, folder: Path) -> list[Checkpoint]:
        return [OnExceptionCheckpoint(folder / "exception")] if self.on_exception else []

    def start(
        self,
        folder: Path,
        *,
        cut: Moment | None = None,
        kills: bool = False,
        seed: int | None = None,
        knife: Knife | None = None,
        **fit_options: Any,
    ) -> Outcome:
        """Train, perhaps until the moment at which the run is cut off, or at which another knife acts."""
        torch.manual_seed(seed or 0)
        module, knife = self.module(), knife or Knife(cut, kills=kills)
        scheduler = FinetuningScheduler(
            self.schedule,
            restore_best=self.restore_best,
            epoch_transitions_only=self.epoch_transitions_only,
            frozen_bn_track_running_stats=self.tracks_frozen_statistics,
            custom_strategy_adapters={"auto": self.adapter or CutAdapter},
            transition_criteria=self.criteria,
        )
        stopping = (
            []
            if self.epoch_transitions_only or self.criteria
            else [FTSEarlyStopping("val_loss", patience=self.patience)]
        )
        checkpoints = [*self.checkpoints(folder), *self.others(folder)]
        trainer = make_trainer(
            folder, scheduler, *stopping, *checkpoints, knife, max_epochs=self.epochs, **self.trainer
        )
        # After all others, so that the run can be cut off after a checkpoint was saved.
        trainer.callbacks.append(LastKnife(knife))
        outcome = Outcome(folder, trainer, scheduler, module, knife)
        path = fit_options.pop("attribute", None)
        if path is not None:
            trainer.ckpt_path = str(path)
        with expected_warnings():
            try:
                trainer.fit(module, StatefulBatches(), Batches(1), **fit_options)
            except PowerCutError:
                outcome.cut = True
        return outcome


@contextmanager
def expected_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for text in (
            r"Checkpoint directory .* exists and is not empty",  # a resumed run finds the files of the run before it
            r"`\.fit\(ckpt_path=None\)` was called without a model",  # an OnExceptionCheckpoint is in the Trainer
            r"\.fit\(ckpt_path=.last.\) is set, but there is no last",  # and has saved nothing yet
            "The dirpath has changed from .*recovery",  # the callback beside ours forgets, and says so
            "Phase .* begins without restoring",  # cut off so early, or phases so short, that there was none
            "phase .* no phase follows phase",  # with epoch_transitions_only, the last phase must name an epoch, too
        ):
            warnings.filterwarnings("ignore", text, UserWarning)
        yield


class Knife(Callback):
    """Counts the calls of its hooks and cuts the run off at one of them; what is noted of epochs comes with it."""

    def __init__(self, moment: Moment | None, *, kills: bool = False) -> None:
        self.moment = moment
        self.kills = kills
        self.calls: dict[str, int] = {}
        self.epochs: dict[int, tuple[Any, ...]] = {}

    def reached(self, hook: str) -> None:
        seen = self.calls[hook] = self.calls.get(hook, 0) + 1
        if self.moment == Moment(hook, seen - 1):
            self.act(hook)

    def act(self, hook: str) -> None:
        """Cut the run off."""
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        raise PowerCutError(hook)

    def on_train_epoch_start(self, *_: Any) -> None:
        self.reached("epoch starts")

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        scheduler = next(callback for callback in trainer.callbacks if isinstance(callback, FinetuningScheduler))
        optimizer = trainer.optimizers[0]
        self.epochs[trainer.global_step] = (
            trainer.current_epoch,
            scheduler.curr_depth,
            tuple(name for name, p in pl_module.named_parameters() if p.requires_grad),
            names_of_groups(optimizer, pl_module),
            tuple(group["lr"] for group in optimizer.param_groups),
        )
        self.reached("batch starts")

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.reached("before step")

    def on_validation_start(self, *_: Any) -> None:
        self.reached("validation starts")

    def on_validation_end(self, *_: Any) -> None:
        self.reached("validation ends")


class LastKnife(Checkpoint):
    """Cuts off after the checkpoints were saved."""

    def __init__(self, knife: Knife) -> None:
        self.knife = knife

    def on_train_batch_end(self, *_: Any) -> None:
        self.knife.reached("batch saved")

    def on_validation_end(self, *_: Any) -> None:
        self.knife.reached("validation saved")

    def on_train_epoch_end(self, *_: Any) -> None:
        self.knife.reached("epoch saved")


class CutAdapter(StrategyAdapter):
    """Cuts off within a transition: after the weights were restored, before the thaw, and after it."""

    @property
    def knife(self) -> Knife:
        return next(callback for callback in self.trainer.callbacks if isinstance(callback, Knife))

    def on_before_restore_optimizers_and_lrs(self) -> None:
        self.knife.reached("restoring")

    def fts_optim_transform(self, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
        if self.trainer.training and self.fts_handle.curr_depth > 0:
            self.knife.reached("thawing")
        return orig_pl

    def on_phase_thawed(self, depth: int) -> None:
        if depth > 0:
            self.knife.reached("thawed")


@dataclass
class Outcome:
    """What a run left: in memory, and in its folder."""

    folder: Path
    trainer: pl.Trainer
    scheduler: FinetuningScheduler
    module: nn.Module
    knife: Knife
    cut: bool = False

    def newest(self, name: str = "recovery") -> Path | None:
        """The checkpoint that was written last."""
        files = sorted((self.folder / name).glob("*.ckpt"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        return files[-1] if files else None

    @property
    def _was_stopped(self) -> bool:
        stopping = self.trainer.early_stopping_callback
        return stopping is not None and stopping.state_dict()["ended_run"]

    def everything(self) -> dict[str, Any]:
        """All that has to be the same whether a run was cut off or not."""
        return {
            "weights": dict(self.module.state_dict()),
            "requires a gradient": [name for name, p in self.module.named_parameters() if p.requires_grad],
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "lr schedulers": [
                _without_lambdas(config.scheduler.state_dict()) for config in self.trainer.lr_scheduler_configs
            ],
            "depth": self.scheduler.curr_depth,
            "callbacks": {
                callback.state_key: relative(callback.state_dict(), self.folder)
                for callback in self.trainer.callbacks
                if isinstance(callback, FTSEarlyStopping | FTSCheckpoint)
            },
            "global step": self.trainer.global_step,
            # A run that ended in the middle of an epoch, by early stopping, counts it or not.
            "epoch": None if self._was_stopped else self.trainer.current_epoch,
        }

    def best_files(self) -> dict[str, Any]:
        """The files of the checkpoint callback, with what is in them."""
        return {
            path.name: {key: checkpoint[key] for key in ("epoch", "global_step", "state_dict", "optimizer_states")}
            for path in sorted((self.folder / "best").glob("*"))
            for checkpoint in [torch.load(path, weights_only=True)]
        }


def _without_lambdas(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "lr_lambdas"}


def relative(state: Any, folder: Path) -> Any:
    """Name the files of a state relative to the folder of the run."""
    if isinstance(state, dict):
        return {relative(key, folder): relative(value, folder) for key, value in state.items()}
    return state.replace(str(folder), "") if isinstance(state, str) else state


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Say where two nests of values differ by a bit."""
    if isinstance(left, dict) and isinstance(right, dict):
        missing = [f"{where}/{key}: only in one" for key in left.keys() ^ right.keys()]
        return missing + [
            text for key in left.keys() & right.keys() for text in differences(left[key], right[key], f"{where}/{key}")
        ]
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) != len(right):
            return [f"{where}: {left!r} or {right!r}"]
        return [
            text
            for index, pair in enumerate(zip(left, right, strict=True))
            for text in differences(*pair, f"{where}/{index}")
        ]
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return [] if torch.equal(left, right) else [f"{where}: {left!r} or {right!r}"]
    return [] if left == right else [f"{where}: {left!r} or {right!r}"]
