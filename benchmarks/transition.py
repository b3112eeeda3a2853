"""What a transition costs that restores the best checkpoint, beside the peer: ``python benchmarks/transition.py``.

A module of 100 million parameters (400 MB) goes through four phases of two epochs of one batch each, with momentum, in
a process of its own, Phasewire and the peer in turns. Measured is the hook in which the next phase begins, where the
best checkpoint is that of the epoch before the last one, and where it is that of the last one; and by how much the
private memory of the process grows in that hook, beside the size of the parameters that were thawed before it.
"""

from __future__ import annotations

import argparse
from typing import Final

import measuring
from measuring import KITS, QUIET, Results, Row, in_process, median

#: The losses of the two epochs of a phase, the phase subtracted: whether the first or the last is the best.
CASES: Final = {"an earlier epoch is the best": (0.0, 0.5), "the last epoch is the best": (0.5, 0.0)}

_NOTES: Final = {
    "an earlier epoch is the best": "Nearly all of it is copying weights and optimizer state from the mapped file.",
    "the last epoch is the best": "Nearly all of it is summing the bits of weights and optimizer state.",
}

RUN: Final = (
    QUIET
    + """
import os, threading
kit, side, losses = importlib.import_module(sys.argv[1]), int(sys.argv[2]), [float(loss) for loss in sys.argv[3:]]

def private():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) * 1024

class Peak(threading.Thread):
    def __enter__(self):
        self.over, self.first = False, private()
        self.highest = self.first
        self.start()
        return self
    def run(self):
        while not self.over:
            self.highest = max(self.highest, private())
            time.sleep(0.002)
    def __exit__(self, *_):
        self.over = True
        self.join()
        self.grown = max(self.highest, private()) - self.first

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(side, side, bias=False) for _ in range(4)))
    def training_step(self, batch, index):
        return self.layers(batch).square().mean()
    def validation_step(self, batch, index):
        phase, epoch = divmod(self.current_epoch, 2)
        self.log("val_loss", losses[epoch] - phase)
    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(1, side))
    val_dataloader = train_dataloader

class Timed(kit.FinetuningScheduler):
    seconds, grown = [], []
    def on_train_epoch_start(self, trainer, module):
        depth, thawed = self.curr_depth, sum(p.nbytes for p in module.parameters() if p.requires_grad)
        with Peak() as peak:
            begun = time.perf_counter()
            super().on_train_epoch_start(trainer, module)
            seconds = time.perf_counter() - begun
        if self.curr_depth > depth:
            self.seconds.append(seconds)
            self.grown.append(peak.grown / thawed)

phases = {at: {"params": [f"layers.{3 - at}.weight"], "max_transition_epoch": 2 * at + 2} for at in range(4)}
del phases[3]["max_transition_epoch"]
scheduler = Timed(phases, logging_level=logging.ERROR)
trainer = pl.Trainer(
    accelerator="cpu", devices=1, max_epochs=7, logger=False, enable_progress_bar=False, num_sanity_val_steps=0,
    enable_model_summary=False, limit_val_batches=1,
    callbacks=[
        scheduler,
        kit.FTSEarlyStopping("val_loss", patience=99),
        kit.FTSCheckpoint(monitor="val_loss", save_top_k=1),
    ],
)
trainer.fit(Model())
sys.stdout.write("\\n" + json.dumps({"seconds": scheduler.seconds, "grown": scheduler.grown}))
"""
)


def measure(given: argparse.Namespace) -> Results:
    """Measure both in turns."""
    results = Results()
    for case, losses in CASES.items():
        runs: dict[str, list[dict[str, list[float]]]] = {kit: [] for kit in KITS}
        for _ in range(given.repeats):
            for kit, package in KITS.items():
                runs[kit].append(in_process(RUN, package, str(given.side), *map(str, losses)))
        seconds = {kit: median(each for run in runs[kit] for each in run["seconds"]) for kit in KITS}
        grown = {kit: max(each for run in runs[kit] for each in run["grown"]) for kit in KITS}
        results.rows += [
            Row(
                f"transition that restores the best checkpoint, 4 x {given.side}² parameters; {case}",
                1000 * seconds["Phasewire"],
                "ms",
                "3 times faster than the peer",
                3 * seconds["Phasewire"] <= seconds["FTS"],
                peer=1000 * seconds["FTS"],
                note=_NOTES[case],
            ),
            Row(
                f"memory that it needs besides, beside the size of what is thawed; {case}",
                grown["Phasewire"],
                "x",
                "at most 1",
                grown["Phasewire"] <= 1.0,
                peer=grown["FTS"],
            ),
        ]
    return results


if __name__ == "__main__":
    # Twice: a run has three such transitions, and saves seven checkpoints of 400 MB and more.
    measuring.main(__doc__ or "", measure, repeats=2, side=5000)
