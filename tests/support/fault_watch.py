"""Notes where a run stands as it goes through its steps, to be compared with a run that was never hit."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from phasewire.app import FinetuningScheduler
from resuming import Knife, Moment
from tuning import names_of_groups, state_of


@dataclass
class Stand:
    """Where a run stands: all but the state of its optimizer."""

    step: int
    depth: int
    trained: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    rates: tuple[float, ...]
    schedulers: list[dict[str, Any]]
    weights: dict[str, Tensor]


@dataclass
class Seen:
    """What was noted of a run.

    Attributes:
        began: Where its training began; ``None`` if it had nothing to train.
        after: Where it stood after each step, and before the first one.
        batches: Epoch, phase, trained parameters, groups and rates, as the batch of each step began.
        restored: The steps after which a transition restored the best checkpoint.
        finite: Whether the weights were finite, at the hooks that were reached: each with the step.
    """

    began: Stand | None = None
    after: dict[int, Stand] = field(default_factory=dict)
    batches: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    restored: list[int] = field(default_factory=list)
    finite: dict[tuple[str, int], bool] = field(default_factory=dict)


def standing(trainer: pl.Trainer) -> Stand:
    """Tell where a run stands now."""
    scheduler = next(callback for callback in trainer.callbacks if isinstance(callback, FinetuningScheduler))
    module, optimizers = trainer.lightning_module, trainer.optimizers
    return Stand(
        trainer.global_step,
        scheduler.curr_depth,
        tuple(name for name, parameter in module.named_parameters() if parameter.requires_grad),
        tuple(names for optimizer in optimizers for names in names_of_groups(optimizer, module)),
        tuple(group["lr"] for optimizer in optimizers for group in optimizer.param_groups),
        [_scheduler_state(config.scheduler) for config in trainer.lr_scheduler_configs],
        state_of(module),
    )


def _scheduler_state(scheduler: Any) -> dict[str, Any]:
    """What an lr scheduler holds; its lambdas cannot be compared, but counted."""
    return {**deepcopy(scheduler.state_dict()), "lr_lambdas": len(getattr(scheduler, "lr_lambdas", ()))}


class Watching(Knife):
    """Notes where a run stands, and cuts it off at no moment, or acts at one."""

    def __init__(self, moment: Moment | None = None) -> None:
        super().__init__(moment)
        self.seen = Seen(batches=self.epochs)
        self._trainer: pl.Trainer | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._trainer = trainer
        stand = self.seen.began = standing(trainer)
        self.seen.after.setdefault(stand.step, stand)

    def on_train_epoch_end(self, *_: Any) -> None:
        self.reached("epoch ends")

    def reached(self, hook: str) -> None:
        trainer = self._trainer
        if trainer is not None:
            if hook in ("batch starts", "epoch saved"):
                weights = trainer.lightning_module.parameters()
                self.seen.finite[hook, trainer.global_step] = all(bool(value.isfinite().all()) for value in weights)
            if hook == "batch saved":
                self.seen.after[trainer.global_step] = standing(trainer)
            elif hook == "restoring":
                self.seen.restored.append(trainer.global_step)
        super().reached(hook)
