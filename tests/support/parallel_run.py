"""Trains three phases under ``ModelParallelStrategy``, to compare with one device.

``python parallel_run.py FOLDER SCENE`` does so in several processes, and leaves what each has in ``rank<N>.pt``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from phasewire.adapters.sharding import reshard
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Batches, Notes, TunedModule, fit, make_trainer

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"], "lr": 0.05, "max_transition_epoch": 4},
    2: {"params": ["layers.0.*"], "lr": 0.02},
}
#: The best epoch of phase 0 is its first one and that of phase 1 too, so that each restore takes something back.
LOSSES = [2.0, 3.0, 1.0, 4.0, 5.0, 6.0]
DEPTHS = [0, 0, 1, 1, 2, 2]
EPOCHS = len(LOSSES)
LAYERS = {r"layers\.\d": {}}


class ParallelModule(TunedModule):
    """Three layers, always with the same weights; every data-parallel process trains its own rows of a batch.

    Args:
        parallelize: What ``configure_model`` does with the module, once.
        options: Those of the module it extends.
    """

    def __init__(self, parallelize: Callable[[ParallelModule], None] | None = None, **options: Any) -> None:
        torch.manual_seed(0)
        super().__init__(**{"val_losses": LOSSES, "optimizer": adam_w, **options})
        self.layers[2] = nn.Identity()
        self._parallelize = parallelize

    def configure_model(self) -> None:
        if self._parallelize is not None and not any(isinstance(p, DTensor) for p in self.parameters()):
            self._parallelize(self)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        mesh = self.device_mesh
        rank, size = (0, 1) if mesh is None else (mesh["data_parallel"].get_local_rank(), mesh["data_parallel"].size())
        return super().training_step([part[rank::size] for part in batch], batch_idx)


def adam_w(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.1, **options)


def shard_layers(module: ParallelModule) -> None:
    """What a user writes who shards some layers and forgets the rest."""
    for layer in module.layers[:2]:
        fully_shard(layer, mesh=module.device_mesh["data_parallel"])


def split_layers(module: ParallelModule) -> None:
    """Tensor parallelism of the two layers; the head stays plain."""
    plan = {"0": ColwiseParallel(), "1": RowwiseParallel()}
    parallelize_module(module.layers, module.device_mesh["tensor_parallel"], plan)


class ShardedNotes(Notes):
    """Looks at the parameters that are trained, which a validation hides."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            reshard(pl_module)
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)


@dataclass
class Run:
    """What a training left."""

    trainer: pl.Trainer
    module: pl.LightningModule
    scheduler: FinetuningScheduler
    notes: Notes
    folder: Path

    @property
    def state(self) -> dict[str, Tensor]:
        return whole_state(self.module)

    def checkpoint(self, epoch: int) -> Path:
        return self.folder / "best" / f"epoch={epoch}.ckpt"


def train(
    folder: Path,
    strategy: str | Strategy = "auto",
    module: pl.LightningModule | None = None,
    *,
    cfg: Mapping[str, Any] | None = None,
    schedule: Any = SCHEDULE,
    settings: Mapping[str, Any] | None = None,
    ckpt_path: Path | None = None,
    callbacks: tuple[Any, ...] = (),
    saves: bool = True,
    **options: Any,
) -> Run:
    """Train the schedule; every epoch leaves a checkpoint.

    Args:
        folder: Where checkpoints go.
        strategy: That of the Trainer.
        module: The module; seeded and made here by default.
        cfg: ``strategy_adapter_cfg``.
        schedule: The schedule.
        settings: Further ones of the scheduler.
        ckpt_path: What to resume from.
        callbacks: Further ones.
        saves: Save checkpoints.
        options: Those of the Trainer.

    Returns:
        What there is now.
    """
    module = ParallelModule() if module is None else module
    scheduler = FinetuningScheduler(schedule, strategy_adapter_cfg=cfg, **(settings or {}))
    notes = ShardedNotes()
    companions: list[Any] = []
    if saves:
        companions.append(FTSCheckpoint(folder / "best", monitor="val_loss", save_top_k=-1, filename="{epoch}"))
    if not scheduler.epoch_transitions_only:
        companions.insert(0, FTSEarlyStopping("val_loss", patience=99))
    options = {"max_epochs": EPOCHS, "use_distributed_sampler": False, "enable_checkpointing": saves, **options}
    trainer = make_trainer(folder, scheduler, *companions, notes, *callbacks, strategy=strategy, **options)
    fit(trainer, module, ckpt_path=ckpt_path)
    return Run(trainer, module, scheduler, notes, folder)


def model_parallel(data: int = 1, tensor: int = 1, *, shards: bool = False) -> ModelParallelStrategy:
    return ModelParallelStrategy(data, tensor, save_distributed_checkpoint=shards)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module as one process would have it; all processes must ask."""
    reshard(module)
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
        for name, value in module.state_dict().items()
    }


# -- several processes -------------------------------------------------------------------------------------------------

Scene = Callable[[Path], dict[str, Any]]


def _as_one_device(
    folder: Path, data: int, tensor: int, *, parallelize: Any = None, cfg: Any = None, **options: Any
) -> dict[str, Any]:
    """Train, resume and validate; with whole files and with shards."""
    kept: dict[str, Any] = {}
    for kind, shards in (("file", False), ("shards", True)):
        place = folder / kind
        shared = {"cfg": cfg, "devices": data * tensor, **options}
        run = train(place, model_parallel(data, tensor, shards=shards), ParallelModule(parallelize), **shared)
        resumed = train(
            place / "resumed",
            model_parallel(data, tensor, shards=shards),
            ParallelModule(parallelize),
            ckpt_path=run.checkpoint(3),
            **shared,
        )
        fresh = ParallelModule(parallelize, val_losses=())
        scheduler = FinetuningScheduler(strategy_adapter_cfg=cfg)
        trainer = make_trainer(
            place, scheduler, strategy=model_parallel(data, tensor, shards=shards), devices=data * tensor
        )
        (metrics,) = trainer.validate(fresh, dataloaders=Batches(1), ckpt_path=run.checkpoint(5), verbose=False)
        kept[kind] = {
            "state": run.state,
            "local numbers": [
                p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in run.module.parameters()
            ],
            "depths": run.notes.depths,
            "resumed": resumed.state,
            "resumed depths": resumed.notes.depths,
            "validated": float(metrics["val_loss"]),
            "loaded": whole_state(fresh),
        }
    return kept


def fsdp2(folder: Path) -> dict[str, Any]:
    kept = _as_one_device(folder, 2, 1, cfg={"fsdp_plan": LAYERS})
    kept["clipped"] = train(
        folder / "clipped", model_parallel(2), cfg={"fsdp_plan": LAYERS}, devices=2, gradient_clip_val=0.05
    ).state
    return kept


def tensor_parallel(folder: Path) -> dict[str, Any]:
    return _as_one_device(folder, 1, 2, parallelize=split_layers)


def both(folder: Path) -> dict[str, Any]:
    return _as_one_device(folder, 2, 2, parallelize=split_layers, cfg={"fsdp_plan": LAYERS})


def unsynchronised(folder: Path) -> dict[str, Any]:
    """Two data-parallel processes and a layer that nothing shards."""
    plan = {"": {"ignored_params": [r"layers\.1\."]}}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(folder, model_parallel(2), cfg={"fsdp_plan": plan}, devices=2, max_epochs=1)
    return {"warnings": [str(warning.message) for warning in caught]}


SCENES: dict[str, tuple[Scene, ...]] = {
    "two processes": (fsdp2, tensor_parallel, unsynchronised),
    "four processes": (both,),
}


def main(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    kept = {scene.__name__: scene(folder / scene.__name__) for scene in SCENES[name]}
    torch.save(kept, folder / f"rank{torch.distributed.get_rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
