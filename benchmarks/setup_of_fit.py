"""From ``fit`` to the first batch, beside the peer: ``python benchmarks/setup_of_fit.py``.

The schedule is the one that is generated when none is given: two parameters a phase. Each fit runs in a process of its
own, Phasewire and the peer in turns; times are those of the processor. ``--peer-limit`` leaves the peer out of what
takes it minutes.
"""

from __future__ import annotations

import argparse
from typing import Final

import measuring
from measuring import KITS, QUIET, Curve, Results, Row, in_process, median

COMPARED: Final = 10_000

RUN: Final = (
    QUIET
    + """
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

class SetUp(Exception):
    pass

class Measured(kit.FinetuningScheduler):
    def on_train_start(self, trainer, module):
        super().on_train_start(trainer, module)
        self.set_up = time.process_time() - begun
        raise SetUp  # nothing is to be trained

scheduler = Measured(restore_best=False, logging_level=logging.ERROR)
trainer = pl.Trainer(
    accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_progress_bar=False, limit_val_batches=0,
    enable_model_summary=False, callbacks=[scheduler], enable_checkpointing=sys.argv[1].startswith("fine"),
)
model, begun = Model(), time.process_time()
try:
    trainer.fit(model)
except SetUp:
    pass
sys.stdout.write("\\n" + json.dumps(scheduler.set_up))
"""
)


def measure(given: argparse.Namespace) -> Results:
    """Measure both in turns, with every number of parameters."""
    lines: dict[str, dict[str, float]] = {kit: {} for kit in KITS}
    for count in given.parameters:
        seconds: dict[str, list[float]] = {kit: [] for kit in KITS}
        for _ in range(given.repeats):
            for kit, package in KITS.items():
                if kit == "Phasewire" or count <= given.peer_limit:
                    seconds[kit].append(in_process(RUN, package, str(count)))
        for kit, each in seconds.items():
            if each:
                lines[kit][str(count)] = median(each)
    ours = lines["Phasewire"]
    small, large = sorted(map(int, ours))[-2:]
    growth = ours[str(large)] / large / (ours[str(small)] / small)
    results = Results(curves=[Curve("From fit to the first batch, default schedule", "parameters", "seconds", lines)])
    results.rows.append(
        Row(
            f"fit to first batch, default schedule: time per parameter at {large:,} beside that at {small:,}",
            growth,
            "x",
            "at most 1.5",
            growth <= 1.5,
        )
    )
    peer = lines["FTS"].get(str(COMPARED))
    if peer is not None:
        results.rows.append(
            Row(
                f"fit to first batch, default schedule of {COMPARED:,} parameters",
                ours[str(COMPARED)],
                "s",
                "4 times faster than the peer: files are written and read in it",
                4 * ours[str(COMPARED)] <= peer,
                peer=peer,
                note="By cProfile, the schedule's file takes about a third of ours, and what Lightning does itself "
                "with a module of as many layers, in both, a quarter.",
            )
        )
    return results


if __name__ == "__main__":
    measuring.main(__doc__ or "", measure, parameters=[1_000, 10_000, 100_000], peer_limit=COMPARED)
