"""What the callbacks do in a training step, beside the peer: ``python benchmarks/steps.py``.

A fit of one epoch is watched by Python's profiler: counted are the calls of functions of the package in every step
between the first and the last, and measured is the time that the package's own hooks take, each called many times.
Plain Lightning with its own two callbacks is the floor.
"""

from __future__ import annotations

import argparse
from typing import Final

import measuring
from measuring import KITS, QUIET, Results, Row, in_process, median

RUN: Final = (
    QUIET
    + """
import inspect
from pathlib import Path
STEPS = 200
package = sys.argv[1]
if package == "lightning":
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    callbacks, root = [EarlyStopping("val_loss"), ModelCheckpoint(monitor="val_loss")], None
else:
    kit = importlib.import_module(package)
    schedule = {0: {"params": ["layer.weight"], "max_transition_epoch": 9}, 1: {"params": ["layer.bias"]}}
    callbacks = [
        kit.FinetuningScheduler(schedule, logging_level=logging.ERROR),
        kit.FTSEarlyStopping("val_loss"), kit.FTSCheckpoint(monitor="val_loss"),
    ]
    root = package.partition(".")[0]

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def training_step(self, batch, index):
        return self.layer(batch).sum()
    def validation_step(self, batch, index):
        self.log("val_loss", torch.tensor(1.0))
    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1e-3)
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(STEPS, 1))
    val_dataloader = train_dataloader

calls = []

def watch(frame, event, argument):
    if event == "call" and root and frame.f_globals.get("__name__", "").partition(".")[0] == root:
        calls.append(frame.f_code.co_qualname)

class Watch(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 50:
            sys.setprofile(watch)
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if index == 149:
            sys.setprofile(None)

trainer = pl.Trainer(
    accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_progress_bar=False, limit_val_batches=1,
    enable_model_summary=False, callbacks=[Watch(), *callbacks], num_sanity_val_steps=0,
)
model = Model()

class Hooks(pl.Callback):
    nanoseconds = 0
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if index != 160:
            return
        hooks = [
            (callback.on_train_batch_start, (trainer, module, batch, index)) for callback in callbacks
        ] + [
            (callback.on_before_zero_grad, (trainer, module, trainer.optimizers[0])) for callback in callbacks
        ] + [
            (callback.on_train_batch_end, (trainer, module, outputs, batch, index)) for callback in callbacks
        ]
        best = []
        for _ in range(20):
            begun = time.perf_counter_ns()
            for _ in range(500):
                for hook, arguments in hooks:
                    hook(*arguments)
            best.append((time.perf_counter_ns() - begun) / 500)
        Hooks.nanoseconds = min(best)

trainer.callbacks.append(Hooks())
trainer.fit(model)
names = sorted(set(calls))
sys.stdout.write("\\n" + json.dumps({"calls": len(calls) / 100, "names": names, "ns": Hooks.nanoseconds}))
"""
)


def measure(given: argparse.Namespace) -> Results:
    """Measure plain Lightning, Phasewire and the peer in turns."""
    packages = {"Lightning": "lightning", **KITS}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in packages}
    for _ in range(given.repeats):
        for name, package in packages.items():
            runs[name].append(in_process(RUN, package))
    ours, peer = runs["Phasewire"][0], runs["FTS"][0]
    microseconds = {name: median(run["ns"] for run in each) / 1000 for name, each in runs.items()}
    calls = ours["calls"]
    return Results(
        rows=[
            Row(
                "calls of functions of the package in a training step",
                calls,
                "",
                "nothing beyond a counter: one short hook of each callback that has one",
                calls <= 2,
                peer=peer["calls"],
                floor=0,
                note=f"{', '.join(map(str, ours['names'] or []))}",  # type: ignore[call-overload]
            ),
            Row(
                "time of the hooks of the three callbacks in a training step",
                microseconds["Phasewire"],
                "µs",
                "at most 1 µs more than those of Lightning's own two callbacks",
                microseconds["Phasewire"] - microseconds["Lightning"] <= 1,
                peer=microseconds["FTS"],
                floor=microseconds["Lightning"],
                note="The floor is EarlyStopping and ModelCheckpoint of Lightning.",
            ),
        ]
    )


if __name__ == "__main__":
    measuring.main(__doc__ or "", measure)
