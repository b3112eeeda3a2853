"""What a transition costs that restores the best checkpoint, beside the peer: ``python benchmarks/transition.py``.

A module of 100 million parameters (400 MB) goes through four phases of one batch each, with momentum, in a process of
its own, Phasewire and the peer in turns. Measured is the hook in which the next phase begins.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

TIME_LIMIT_SECONDS: Final = 300
KITS: Final = {"Phasewire": "phasewire.app", "FTS": "finetuning_scheduler"}

RUN: Final = """
import importlib, json, logging, resource, sys, time, warnings
warnings.simplefilter("ignore")
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
import lightning.pytorch as pl
import torch
kit = importlib.import_module(sys.argv[1])
side = int(sys.argv[2])

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(side, side, bias=False) for _ in range(4)))
    def training_step(self, batch, index):
        return self.layers(batch).square().mean()
    def validation_step(self, batch, index):
        self.log("val_loss", -float(self.global_step))
    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(1, side))
    val_dataloader = train_dataloader

class Timed(kit.FinetuningScheduler):
    seconds, peak = [], []
    def on_train_epoch_start(self, trainer, module):
        depth, begun = self.curr_depth, time.perf_counter()
        super().on_train_epoch_start(trainer, module)
        if self.curr_depth > depth:
            self.seconds.append(time.perf_counter() - begun)

phases = {at: {"params": [f"layers.{3 - at}.weight"], "max_transition_epoch": at + 1} for at in range(4)}
del phases[3]["max_transition_epoch"]
scheduler = Timed(phases, logging_level=logging.ERROR)
trainer = pl.Trainer(
    accelerator="cpu", devices=1, max_epochs=4, logger=False, enable_progress_bar=False, num_sanity_val_steps=0,
    enable_model_summary=False, callbacks=[scheduler, kit.FTSCheckpoint(monitor="val_loss", save_top_k=1)],
)
trainer.fit(Model())
sys.stdout.write("\\n" + json.dumps(scheduler.seconds))
"""


def transitions(package: str, side: int) -> list[float]:
    """Fit once in a process of its own, and give the seconds of each transition."""
    with tempfile.TemporaryDirectory() as folder:
        finished = subprocess.run(  # noqa: S603  # this file's own script
            [sys.executable, "-c", RUN, package, str(side)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_SECONDS,
            check=True,
        )
    seconds: list[float] = json.loads(finished.stdout.splitlines()[-1])
    return seconds


def measure(repeats: int, side: int) -> dict[str, float]:
    """Measure both in turns.

    Returns:
        The median seconds of a transition.
    """
    seconds: dict[str, list[float]] = {kit: [] for kit in KITS}
    for _ in range(repeats):
        for kit, package in KITS.items():
            seconds[kit] += transitions(package, side)
    return {kit: statistics.median(each) for kit, each in seconds.items()}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="fits of each kind")
    parser.add_argument("--side", type=int, default=5000, help="the four layers have the square of this many weights")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    result = measure(arguments.repeats, arguments.side)
    if arguments.json:
        arguments.json.write_text(json.dumps(result))
    table = Table("", "seconds", title="A transition that restores the best checkpoint")
    for kit, seconds in result.items():
        table.add_row(kit, f"{seconds:.3f}")
    table.add_row("ratio", f"{result['FTS'] / result['Phasewire']:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
