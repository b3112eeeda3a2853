"""Trains the three phases of ``ddp_run.py`` in many ways, all in one group of processes, and saves what each rank saw.

``torchrun --nproc-per-node 2 ddp_cases.py FOLDER CHECKPOINT``, where one process wrote the checkpoint.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook

from ddp_run import SCHEDULE, SplitModule
from phasewire.adapters import StrategyAdapter
from phasewire.adapters.errors import PhasewireError
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import fit, make_trainer, state_of

WITH_NEW_ONES = {
    **SCHEDULE,
    2: {
        **SCHEDULE[2],
        "new_optimizer": {"optimizer_init": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}},
        "new_lr_scheduler": {
            "lr_scheduler_init": {
                "class_path": "torch.optim.lr_scheduler.StepLR",
                "init_args": {"step_size": 1, "gamma": 0.5},
            }
        },
    },
}


class NotingAdapter(StrategyAdapter):
    """What an author who knows nothing of processes writes."""

    def on_phase_thawed(self, depth: int) -> None:
        self.pl_module.hparams["phase"] = depth


class CountsReduction(Callback):
    """A user's communication hook, registered once: it counts what is reduced, and when."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self.thawed_bytes: dict[int, int] = {}
        self.events: list[str] = []
        self._watched = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def count(state, bucket):
            step = trainer.global_step
            state.bytes[step] = state.bytes.get(step, 0) + bucket.buffer().numel() * bucket.buffer().element_size()
            state.events.append("reduce")
            return allreduce_hook(None, bucket)

        trainer.strategy.model.register_comm_hook(self, count)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int):
        thawed = [parameter for parameter in pl_module.parameters() if parameter.requires_grad]
        self.thawed_bytes[trainer.global_step] = 4 * sum(parameter.numel() for parameter in thawed)
        self.events.clear()
        first = pl_module.layers[0].weight
        if first.requires_grad and not self._watched:
            self._watched = True
            first.register_hook(lambda _gradient: self.events.append("gradient of the first layer"))


class CompressesWithPowerSGD(Callback):
    def __init__(self) -> None:
        self.state = PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=2, min_compression_rate=0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.strategy.model.register_comm_hook(self.state, powerSGD_hook)


class Unsynchronised(SplitModule):
    """Names files after a metric that every rank has another value of."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", float(self.current_epoch if self.global_rank == 0 else -self.current_epoch))
        self.log("score", float(-self.current_epoch - self.global_rank))


class OptimizedByHand(SplitModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class Snapshots(Callback):
    """Notes depth and weights at the end of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        depth = trainer.callbacks[0].curr_depth
        self.epochs.append({"depth": depth, "state": state_of(pl_module), "step": trainer.global_step})


def train(
    folder: Path,
    strategy: Any,
    *callbacks: Callback,
    make_module: Callable[[], pl.LightningModule] = SplitModule,
    schedule: dict[int, dict[str, Any]] | None = None,
    adapters: dict[str, str] | None = None,
    filename: str | None = None,
    ckpt_path: Path | None = None,
    devices: int = 2,
) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    snapshots = Snapshots()
    trainer = make_trainer(
        folder,
        FinetuningScheduler(schedule or SCHEDULE, custom_strategy_adapters=adapters),
        FTSEarlyStopping("val_loss", patience=2),
        FTSCheckpoint(folder / "best", monitor="score", filename=filename),
        ModelCheckpoint(folder / "recovery", every_n_train_steps=2, save_top_k=-1, filename="{step}"),
        snapshots,
        *callbacks,
        strategy=strategy,
        devices=devices,
        max_epochs=6,
    )
    fit(trainer, make_module(), ckpt_path=ckpt_path)
    return snapshots.epochs


def zero(**options: Any):
    from torch.distributed.optim import ZeroRedundancyOptimizer  # compiles as it is imported, and warns of that

    return lambda parameters: ZeroRedundancyOptimizer(parameters, torch.optim.SGD, lr=0.1, momentum=0.9, **options)


def split(*, optimizer: Any, only_trainable: bool = True) -> Callable[[], SplitModule]:
    def make() -> SplitModule:
        module = SplitModule()
        module._make_optimizer, module._only_trainable = optimizer, only_trainable
        return module

    return make


def refusal(folder: Path) -> str:
    try:
        train(folder, "ddp", make_module=split(optimizer=zero(overlap_with_ddp=True)))
    except PhasewireError as error:
        return str(error)
    return ""


def main(folder: Path, checkpoint: Path) -> None:
    torch.set_num_threads(1)
    plain, reduced, compressing = CountsReduction(), CountsReduction(), CompressesWithPowerSGD()
    named = {"ddp": f"{__name__}:NotingAdapter"}
    cases: dict[str, Any] = {
        "ddp": train(folder / "ddp", "ddp", plain),
        "plug-in": train(folder / "plug-in", "ddp", adapters=named),
        "unused parameters": train(folder / "unused", "ddp_find_unused_parameters_true"),
        "static graph": train(folder / "static", DDPStrategy(static_graph=True)),
        "static graph, optimized by hand": train(
            folder / "by-hand", DDPStrategy(static_graph=True), make_module=OptimizedByHand
        ),
        "bucket views": train(folder / "views", DDPStrategy(gradient_as_bucket_view=True)),
        "small buckets": train(folder / "small", DDPStrategy(bucket_cap_mb=1e-5), reduced),
        "new optimizer": train(folder / "new", "ddp", schedule=WITH_NEW_ONES),
        "ZeRO": train(folder / "zero", "ddp", make_module=split(optimizer=zero())),
        "ZeRO with bucket views": train(
            folder / "zero-views", "ddp", make_module=split(optimizer=zero(parameters_as_bucket_view=True))
        ),
        "ZeRO of all parameters": train(
            folder / "zero-all", "ddp", make_module=split(optimizer=zero(), only_trainable=False)
        ),
        "PowerSGD": train(folder / "power", "ddp", compressing),
        "resumed": train(folder / "resumed", "ddp", ckpt_path=checkpoint),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cases["unsynchronised"] = train(folder / "unsync", "ddp", make_module=Unsynchronised, filename="{score:.0f}")
    seen = {
        "cases": cases,
        "bytes": plain.bytes,
        "thawed bytes": plain.thawed_bytes,
        "events": reduced.events,
        "compressed": sorted(tuple(each.shape) for each in compressing.state.q_memory_dict.values()),
        "warnings": [str(each.message) for each in caught],
        "refusal": refusal(folder / "overlap"),
    }
    torch.save(seen, folder / f"rank{torch.distributed.get_rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
