"""Where the time of a phased run goes, by torch's profiler: ``python examples/profile_run.py``.

A small network is trained in three phases. Afterwards a table tells how long the hooks of Phasewire's callbacks took,
how often they were called, and what part of the run that was; the rest is Lightning and your module. With ``--trace``
the whole profile is written for a trace viewer.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.profilers import Profiler
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping

OURS = ("phasewire.FinetuningScheduler", "FTSCheckpoint", "FTSEarlyStopping")


class Named(Profiler):
    """Gives everything that Lightning calls a name in the profile of torch."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[str, list[torch.profiler.record_function]] = {}

    def start(self, action_name: str) -> None:
        """Begin an action."""
        self._open.setdefault(action_name, []).append(entered := torch.profiler.record_function(action_name))
        entered.__enter__()

    def stop(self, action_name: str) -> None:
        """End it."""
        self._open[action_name].pop().__exit__(None, None, None)


class Network(pl.LightningModule):
    """Three layers, of which every phase thaws one.

    Args:
        width: The width of each layer.
        batches: How many batches an epoch has.
    """

    def __init__(self, width: int, batches: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(3)))
        inputs = torch.randn(8 * batches, width)
        self.data = TensorDataset(inputs, inputs.roll(1, dims=1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Give the loss of a batch."""
        return nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log the loss of a batch."""
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Train with momentum."""
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.01, momentum=0.9)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Give the batches."""
        return DataLoader(self.data, batch_size=8)

    val_dataloader = train_dataloader


def main() -> None:
    """Train under the profiler, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--trace", type=Path, help="write the whole profile to this file")
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    phases = {at: {"params": [rf"layers\.{2 - at}\..*"], "max_transition_epoch": at + 1} for at in range(3)}
    del phases[2]["max_transition_epoch"]  # no phase follows it
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=3,
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            profiler=Named(),
            callbacks=[
                FinetuningScheduler(phases, logging_level="WARNING"),
                FTSEarlyStopping("val_loss", patience=99),
                FTSCheckpoint(monitor="val_loss"),
            ],
        )
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profile, torch.profiler.record_function("fit"):
            trainer.fit(Network(given.width, given.batches))
    if given.trace:
        profile.export_chrome_trace(str(given.trace))
    times = {event.key: (event.count, event.cpu_time_total) for event in profile.key_averages()}
    _, whole = times["fit"]
    # The key of a callback tells its options too: "[Callback]FTSCheckpoint{...}.on_train_epoch_end".
    hooks = [(key.removeprefix("[Callback]"), *times[key]) for key in times if key.startswith("[Callback]")]
    ours = [hook for hook in hooks if hook[0].startswith(OURS)]
    table = Table("hook of Phasewire", "calls", "ms", "part of the run", title=f"A fit of {whole / 1e6:.2f} s")
    for key, count, microseconds in sorted(ours, key=lambda hook: -hook[2]):
        callback, _, hook = key.rpartition(".")
        name = f"{callback.partition('{')[0]}.{hook}"
        table.add_row(name, f"{count}", f"{microseconds / 1000:.2f}", f"{microseconds / whole:.2%}")
    everything = sum(microseconds for _, _, microseconds in ours)
    table.add_row("all of them", "", f"{everything / 1000:.2f}", f"{everything / whole:.2%}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
