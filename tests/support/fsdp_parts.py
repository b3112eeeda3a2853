"""Modules, callbacks and a way to train for the tests of FSDP."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import wrap

from fsdp_on_cpu import CPUFSDPStrategy
from phasewire.adapters import FSDPStrategyAdapter, TransitionCriterion
from tuning import FEATURES, TunedModule, fit, make_trainer

SCHEDULE: dict[int, dict[str, Any]] = {
    0: {"params": ["head.*"], "max_transition_epoch": 1},
    1: {"params": ["layers.1.*"], "lr": 0.05, "max_transition_epoch": 3},
    2: {"params": ["layers.0.*"], "lr": 0.02},
}
EPOCHS = 5
#: The best epochs are 0, to which phase 1 goes back, and 1, in the middle of phase 1.
SCORES = [2.0, 1.0, 3.0, 4.0, 5.0]
Weights = Mapping[str, Tensor]


class SplitModule(TunedModule):
    """Every rank trains its own rows of the batch; together they train what one process would."""

    def __init__(self, optimizer=None, whole_validation: bool = False, scores: Sequence[float] = SCORES) -> None:
        super().__init__(optimizer=optimizer or adamw)
        self.layers[2] = nn.Identity()
        self.whole_validation = whole_validation
        self.scores = scores

    def training_step(self, batch, batch_idx):
        return super().training_step([part[self.global_rank :: self.trainer.world_size] for part in batch], batch_idx)

    def validation_step(self, batch, batch_idx):
        if self.whole_validation:
            super().validation_step(batch, batch_idx)
            return
        # Rank 0's losses end a phase by patience; those of the other never would.
        self.log("val_loss", float(self.current_epoch if self.global_rank == 0 else -self.current_epoch))
        self.log("score", self.scores[self.current_epoch], sync_dist=True)


class NoDecay(SplitModule):
    no_decay = ("bias",)


class WrapsChildren(SplitModule):
    """Wraps three children directly under the module, with no unit around them."""

    def configure_model(self) -> None:
        if not isinstance(self.head, FullyShardedDataParallel):
            self.layers[0], self.layers[1] = wrap(self.layers[0]), wrap(self.layers[1])
            self.head = wrap(self.head)


class WrapsOne(SplitModule):
    def configure_model(self) -> None:
        if not isinstance(self.head, FullyShardedDataParallel):
            self.head = wrap(self.head)


class WrapsLayersTogether(SplitModule):
    def configure_model(self) -> None:
        if not isinstance(self.head, FullyShardedDataParallel):
            self.layers, self.head = wrap(self.layers), wrap(self.head)


class BuiltOnMeta(SplitModule):
    """Its layers get their memory, and new values, when they are wrapped."""

    def __init__(self) -> None:
        super().__init__()
        del self.layers, self.head

    def configure_model(self) -> None:
        if not hasattr(self, "head"):
            with torch.device("meta"):
                self.layers = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES))
                self.head = nn.Linear(FEATURES, 1)


class NotesBeginnings(TransitionCriterion):
    """Never ends a phase, and notes which begin."""

    depths: ClassVar[list[int]] = []

    def begin_phase(self, phase):
        self.depths.append(phase.depth)


class Prefixed(FSDPStrategyAdapter):
    """A plug-in under which a schedule names parameters with a prefix."""

    def get_named_params_for_schedule_validation(self):
        own = super().get_named_params_for_schedule_validation()
        return {f"my.{name}": parameter for name, parameter in own.items()}

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return super().fts_optim_transform([name.removeprefix("my.") for name in orig_pl], inspect_only)

    def logical_param_translation(self, param_names):
        return [f"my.{name}" for name in super().logical_param_translation(param_names)]


class EpochEnds(Callback):
    """Keeps the whole weights that every epoch ends with."""

    def __init__(self) -> None:
        self.ends: list[Weights] = []

    def on_train_epoch_end(self, trainer, pl_module):
        with FullyShardedDataParallel.summon_full_params(trainer.strategy.model):
            self.ends.append({plain(name): p.detach().clone() for name, p in pl_module.named_parameters()})


class Watches(EpochEnds):
    """Keeps also the phases, and the units that FSDP made."""

    def __init__(self) -> None:
        super().__init__()
        self.depths: list[int] = []
        self.units: list[str] = []
        self.module_is_wrapped = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.depths.append(trainer.callbacks[0].curr_depth)
            self.units = [
                plain(name) for name, part in pl_module.named_modules() if isinstance(part, FullyShardedDataParallel)
            ]
            self.module_is_wrapped = isinstance(trainer.strategy.model, FullyShardedDataParallel)


class SavesRightAfterThaw(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / f"begins {trainer.current_epoch}.ckpt")


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def plain(name: str) -> str:
    return re.sub(r"_\w+_wrapped_module(\.|$)", "", name).rstrip(".")


def train(
    folder: Path,
    strategy: object,
    module: SplitModule | None = None,
    *callbacks: Callback,
    schedule: Mapping[int, Any] = SCHEDULE,
    ckpt_path: Path | None = None,
    patience: int = 100,
    devices: int = 2,
    accumulate: int = 1,
    package: str = "phasewire.app",
    **settings: Any,
) -> Watches:
    """Train the phases, and keep the checkpoint of every epoch in ``folder``."""
    torch.manual_seed(0)
    watches = Watches()
    # Made here, so that its weights are those of the seed whatever module it is.
    module = SplitModule() if module is None else module
    kit = import_module(package)
    trainer = make_trainer(
        folder,
        kit.FinetuningScheduler(copy.deepcopy(schedule), **settings),
        kit.FTSEarlyStopping("val_loss", patience=patience),
        kit.FTSCheckpoint(folder, monitor="score", save_top_k=-1, filename="{epoch}"),
        watches,
        *callbacks,
        strategy=strategy,
        devices=1 if strategy == "auto" else devices,
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate,
    )
    fit(trainer, module, ckpt_path=ckpt_path)
    return watches


def largest_difference(found: Sequence[Weights], expected: Sequence[Weights]) -> float:
    assert len(found) == len(expected) > 0, (len(found), len(expected))
    return max(
        float((ours[name] - theirs[name]).abs().max())
        for ours, theirs in zip(found, expected, strict=True)
        for name in theirs
    )


def strategy(*, orig: bool, kind: str = "full", policy: bool = True, **options: Any) -> CPUFSDPStrategy:
    if policy:
        options["auto_wrap_policy"] = {nn.Linear}
    return CPUFSDPStrategy(use_orig_params=orig, state_dict_type=kind, **options)


def seeded(kind: Callable[..., SplitModule] = SplitModule, **options: Any) -> SplitModule:
    torch.manual_seed(0)
    return kind(**options)
