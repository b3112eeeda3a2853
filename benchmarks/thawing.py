"""What it costs to begin all phases in turn, beside the peer: ``python benchmarks/thawing.py``.

A phase has two parameters and lasts one epoch of one batch in which nothing is trained, so that what is left is what
the callbacks do. Measured is the hook in which the next phase begins, the processor's time; Phasewire goes through all
phases, the peer, which is quadratic, through the first ``--peer-phases``. Each fit has a process of its own.
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
kit, count, phases = importlib.import_module(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(count // 2))
    def training_step(self, batch, index):
        pass
    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1e-3)
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(1, 1))

class Timed(kit.FinetuningScheduler):
    seconds = []
    def on_train_epoch_start(self, trainer, module):
        depth, begun = self.curr_depth, time.process_time()
        super().on_train_epoch_start(trainer, module)
        if self.curr_depth > depth:
            self.seconds.append(time.process_time() - begun)

schedule = {
    at: {"params": [f"blocks.{at}.weight", f"blocks.{at}.bias"], "max_transition_epoch": at + 1}
    for at in range(count // 2)
}
scheduler = Timed(
    schedule, max_depth=phases - 1, restore_best=False, epoch_transitions_only=True, logging_level=logging.ERROR
)
trainer = pl.Trainer(
    accelerator="cpu", devices=1, max_epochs=phases, logger=False, enable_progress_bar=False, limit_val_batches=0,
    enable_model_summary=False, callbacks=[scheduler], enable_checkpointing=sys.argv[1].startswith("fine"),
)
trainer.fit(Model())
sys.stdout.write("\\n" + json.dumps(scheduler.seconds))
"""
)


def measure(given: argparse.Namespace) -> Results:
    """Measure all numbers of parameters."""
    totals: dict[int, float] = {}
    each_phase: dict[str, list[float]] = {kit: [] for kit in KITS}
    for count in given.parameters:
        runs = []
        for _ in range(given.repeats):
            seconds = in_process(RUN, KITS["Phasewire"], str(count), str(count // 2))
            runs.append(sum(seconds))
            if count == COMPARED:
                each_phase["Phasewire"] += seconds
                each_phase["FTS"] += in_process(RUN, KITS["FTS"], str(count), str(given.peer_phases))
        totals[count] = median(runs)
    results = Results(
        curves=[
            Curve(
                "All phases begun in turn, two parameters each",
                "parameters",
                "seconds",
                {"Phasewire": {str(count): seconds for count, seconds in totals.items()}},
            )
        ]
    )
    small, large = min(totals), max(totals)
    growth = totals[large] / large / (totals[small] / small)
    results.rows.append(
        Row(
            f"all phases begun in turn: time per parameter at {large:,} beside that at {small:,}",
            growth,
            "x",
            "at most 1.5: linear in the parameters",
            growth <= 1.5,
            note=f"{totals[large]:.2f} s for {large // 2:,} phases",
        )
    )
    if each_phase["FTS"]:
        ours, peer = (1000 * median(each_phase[kit]) for kit in ("Phasewire", "FTS"))
        results.rows.append(
            Row(
                f"one phase of two parameters begun, of {COMPARED:,} parameters",
                ours,
                "ms",
                "20 times faster than the peer",
                20 * ours <= peer,
                peer=peer,
            )
        )
    return results


if __name__ == "__main__":
    # Once: a run of 5,000 phases takes minutes, most of them Lightning's own for its epochs.
    measuring.main(__doc__ or "", measure, repeats=1, parameters=[2_500, 5_000, 10_000], peer_phases=20)
