"""From ``fit`` to the first batch, beside the peer: ``python benchmarks/setup_of_fit.py``.

The schedule is the one that is generated when none is given: two parameters a phase. Each fit runs in a process of its
own, Phasewire and the peer in turns; times are those of the processor. ``--peer-limit`` leaves the peer out of what
takes it minutes.
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

TIME_LIMIT_SECONDS: Final = 600
KITS: Final = {"Phasewire": "phasewire.app", "FTS": "finetuning_scheduler"}

RUN: Final = """
import importlib, json, logging, sys, time, warnings
warnings.simplefilter("ignore")
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
import lightning.pytorch as pl
import torch
kit, count = importlib.import_module(sys.argv[1]), int(sys.argv[2])

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(count // 2))
    def training_step(self, batch, index):
        return self.blocks[-1](batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1e-3)
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(1, 1))

class Measured(kit.FinetuningScheduler):
    def on_train_start(self, trainer, module):
        super().on_train_start(trainer, module)
        self.set_up = time.process_time() - begun

scheduler = Measured(restore_best=False, logging_level=logging.ERROR)
trainer = pl.Trainer(
    accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_progress_bar=False, limit_val_batches=0,
    enable_model_summary=False, callbacks=[scheduler], enable_checkpointing=sys.argv[1].startswith("fine"),
)
model, begun = Model(), time.process_time()
try:
    trainer.fit(model)
except Exception:
    if not hasattr(scheduler, "set_up"):
        raise
sys.stdout.write("\\n" + json.dumps(scheduler.set_up))
"""


def set_up(package: str, parameters: int) -> float:
    """Fit once in a process of its own, and give the seconds until training begins."""
    with tempfile.TemporaryDirectory() as folder:
        finished = subprocess.run(  # noqa: S603  # this file's own script
            [sys.executable, "-c", RUN, package, str(parameters)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_SECONDS,
            check=True,
        )
    return float(json.loads(finished.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="fits of each kind")
    parser.add_argument("--parameters", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--peer-limit", type=int, default=10_000, help="the most parameters the peer is measured with")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    results: dict[str, dict[int, float]] = {kit: {} for kit in KITS}
    for count in arguments.parameters:
        seconds: dict[str, list[float]] = {kit: [] for kit in KITS}
        for _ in range(arguments.repeats):
            for kit, package in KITS.items():
                if kit == "Phasewire" or count <= arguments.peer_limit:
                    seconds[kit].append(set_up(package, count))
        for kit, each in seconds.items():
            if each:
                results[kit][count] = statistics.median(each)
    if arguments.json:
        arguments.json.write_text(json.dumps(results))
    table = Table("parameters", *KITS, "ratio", title="Seconds from fit to the first batch, default schedule")
    for count in arguments.parameters:
        ours, peer = results["Phasewire"][count], results["FTS"].get(count)
        shown = ("", "") if peer is None else (f"{peer:.3f}", f"{peer / ours:.1f}")
        table.add_row(f"{count:,}", f"{ours:.3f}", *shown)
    Console().print(table)


if __name__ == "__main__":
    main()
