"""A module and a callback that write down the order in which Lightning calls them and the running strategy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from phasewire.app.strategy_seam import StrategySeam

ENTRY_POINTS = ("fit", "fit(ckpt_path)", "validate(ckpt_path)", "test(ckpt_path)", "predict(ckpt_path)")

#: Name to what is given to the Trainer, for a number of processes.
STRATEGIES: dict[str, Callable[[int], str | Strategy]] = {
    "single_device": lambda processes: "auto",
    "ddp": lambda processes: "ddp",
    "model_parallel, sharded file": lambda processes: ModelParallelStrategy(processes, 1),
    "model_parallel, full file": lambda processes: ModelParallelStrategy(processes, 1, False),
}


class Journal:
    """The events of one Trainer call, in order.

    Args:
        fail_at: The event at which ``error`` is raised; ``"module.training_step"`` is no event, but can fail.
        error: What is raised there.
        folder: Where every process also writes its events to a file of its own, for :func:`events_of_process`.
    """

    def __init__(
        self, fail_at: str | None = None, error: BaseException | None = None, folder: Path | None = None
    ) -> None:
        self.events: list[str] = []
        self.fail_at = fail_at
        self.error = RuntimeError("stop here") if error is None else error
        self.folder = folder

    def note(self, event: str) -> None:
        self.events.append(event)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / process_name()).open("a") as file:
                file.write(f"{event}\n")
        self.fail_if_at(event)

    def fail_if_at(self, point: str) -> None:
        if point == self.fail_at:
            raise self.error


def process_name() -> str:
    """How a process calls its files: by its rank where Lightning has given it one."""
    return f"rank {os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "main process"


def events_of_process(folder: Path, process: str) -> list[str]:
    """What the journals of one process wrote below a folder."""
    return (folder / process).read_text().splitlines()


class RecordedModule(pl.LightningModule):
    """A linear layer, sharded in ``configure_model`` where the strategy has a device mesh."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal = journal
        self.layer = nn.Linear(3, 1)

    def setup(self, stage: str) -> None:
        self.journal.note("module.setup")

    def configure_model(self) -> None:
        self.journal.note("module.configure_model")
        if self.device_mesh is not None and not isinstance(self.layer, FSDPModule):
            mesh = self.device_mesh["data_parallel"]
            fully_shard(self.layer, mesh=mesh)
            fully_shard(self, mesh=mesh)

    # Any: a checkpoint holds values of every type.
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.journal.note("module.on_load_checkpoint")

    def configure_optimizers(self) -> dict[str, object]:
        self.journal.note("module.configure_optimizers")
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.journal.fail_if_at("module.training_step")
        return self.loss(batch)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.loss(batch)

    test_step = validation_step

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def loss(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.layer(batch).square().mean()
        return loss


class Recorder(Callback):
    """Writes down its own hooks, and the strategy's methods through a StrategySeam that it installs in ``setup``."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.journal.note("callback.setup")
        strategy = trainer.strategy
        shadow_teardown(strategy, self.journal)
        names = (
            "save_checkpoint",
            "load_checkpoint",
            "load_model_state_dict",
            "load_optimizer_state_dict",
            "lightning_module_state_dict",
        )
        replacements = {name: self._recorded(f"strategy.{name}", getattr(strategy, name)) for name in names}
        self.seam = StrategySeam(strategy, {"setup": self._set_up_strategy, **replacements})

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.journal.note("callback.on_fit_start")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.journal.note("callback.on_fit_end")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.journal.note("callback.on_exception")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.journal.note("callback.teardown")

    def state_dict(self) -> dict[str, int]:
        self.journal.note("callback.state_dict")
        return {"depth": 1}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.journal.note("callback.load_state_dict")

    # Any: a checkpoint holds values of every type.
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.journal.note("callback.on_save_checkpoint")

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.journal.note("callback.on_load_checkpoint")

    def _set_up_strategy(self, trainer: pl.Trainer) -> None:
        self.journal.note("strategy.setup: entered")
        self.seam.setup(trainer)
        self.journal.note("strategy.setup: left")

    # Any: the recorded methods have different signatures and results.
    def _recorded(self, event: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            self.journal.note(event)
            return original(*args, **kwargs)

        return recorded


def shadow_teardown(strategy: Strategy, journal: Journal) -> None:
    """Write down ``strategy.teardown`` as a tool other than Phasewire would: on the instance, off again when called."""
    original = strategy.teardown

    def teardown() -> None:
        del strategy.teardown
        journal.note("strategy.teardown")
        original()

    strategy.teardown = teardown  # type: ignore[method-assign]  # what such tools do


def shadowed_methods(strategy: Strategy) -> set[str]:
    """The methods of a strategy that an attribute of the instance hides."""
    return {name for name in vars(strategy) if callable(getattr(type(strategy), name, None))}


def weight_of(module: RecordedModule) -> float:
    """One of the layer's weights, sharded or not."""
    weight = module.layer.weight
    return (weight.full_tensor() if isinstance(weight, DTensor) else weight)[0, 0].item()


def adam_steps_of(trainer: pl.Trainer) -> int:
    """How many steps the state of the optimizer has seen."""
    states = [state for optimizer in trainer.optimizers for state in optimizer.state.values()]
    return int(states[0]["step"]) if states else 0


class Batches:
    """Two batches of four rows; no DataLoader, so that Lightning has nothing to replace and nothing to advise."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.linspace(-1, 1, 24).reshape(2, 4, 3))

    def __len__(self) -> int:
        return 2


@contextmanager
def leaving_no_process_group() -> Iterator[None]:
    """Undo what a distributed strategy on one process leaves behind: its process group and environment variables."""
    environment = dict(os.environ)
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        os.environ.clear()
        os.environ.update(environment)


# Any: arguments of the Trainer.
def make_trainer(strategy: str | Strategy, *callbacks: Callback, **settings: Any) -> pl.Trainer:
    """A Trainer for one epoch on one CPU process that writes and shows nothing unless a callback does."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(strategy=strategy, callbacks=list(callbacks), **{**defaults, **settings})


def call_entry_point(trainer: pl.Trainer, module: RecordedModule, entry_point: str, saved: Path) -> None:
    """Call ``fit``, or another of the entry points with ``ckpt_path=saved``."""
    if entry_point == "fit":
        trainer.fit(module, Batches(), Batches())
    elif entry_point == "fit(ckpt_path)":
        trainer.fit(module, Batches(), Batches(), ckpt_path=saved)
    else:
        getattr(trainer, entry_point.removesuffix("(ckpt_path)"))(module, Batches(), ckpt_path=saved)


def record_all_entry_points(
    strategy: str, folder: Path, *, processes: int = 1, journal: Callable[[str], Journal]
) -> dict[str, list[str]]:
    """Fit one epoch, which writes a checkpoint, then give that checkpoint to every other entry point.

    Args:
        strategy: A key of :data:`STRATEGIES`.
        folder: Where checkpoints go.
        processes: How many processes the Trainers use.
        journal: Makes the journal of one entry point, from its name.

    Returns:
        The events of every entry point.
    """
    saved = folder / "fit.ckpt"
    events = {}
    for entry_point in ENTRY_POINTS:
        written_to = journal(entry_point)
        checkpoint = ModelCheckpoint(folder, filename=entry_point, enable_version_counter=False)
        trainer = make_trainer(
            STRATEGIES[strategy](processes),
            Recorder(written_to),
            checkpoint,
            devices=processes,
            max_epochs=2 if entry_point == "fit(ckpt_path)" else 1,
        )
        call_entry_point(trainer, RecordedModule(written_to), entry_point, saved)
        events[entry_point] = written_to.events
    return events
