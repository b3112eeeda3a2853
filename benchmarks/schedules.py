"""How schedules are generated, written, read and checked, by number of parameters: ``python benchmarks/schedules.py``.

The parameters are on the meta device; the default schedule has two of them a phase. libyaml alone, which writes and
reads the same text, is the floor of writing and reading. The peer is measured with the same files, and with the
validation that a fit begins with (both up to ``--peer-limit``, as it is quadratic). Times are those of the processor,
medians of repeated runs.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import measuring
import torch
import yaml
from measuring import QUIET, Curve, Results, Row, in_process, median
from torch import nn

from phasewire.app.schedule import ScheduleValidator, generate_default, load_schedule, save_schedule

PATTERNS: Final = (33, 1000)
#: Where the peer is compared: with 100,000 parameters it takes minutes.
COMPARED: Final = 10_000
MOST_BYTES_PER_NAME: Final = 200

PEER: Final = (
    QUIET
    + """
import finetuning_scheduler as kit
from finetuning_scheduler.strategy_adapters.base import StrategyAdapter
path, count = sys.argv[1], int(sys.argv[2])

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList(
            torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(10)) for _ in range(count // 20)
        )
    def training_step(self, batch, index):
        return self.blocks[-1][-1](batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1e-3)
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(1, 1))

seconds = {}

class Adapter(StrategyAdapter):
    def validate_ft_sched(self):
        begun = time.process_time()
        super().validate_ft_sched()
        seconds["validate"] = time.process_time() - begun
        raise KeyboardInterrupt

scheduler = kit.FinetuningScheduler(
    ft_schedule=path, restore_best=False, logging_level=logging.ERROR,
    custom_strategy_adapters={"single_device": "__main__.Adapter"},
)
begun = time.process_time()
plain = scheduler.load_yaml_schedule(path)
seconds["read"] = time.process_time() - begun
begun = time.process_time()
scheduler.save_schedule("again.yaml", plain, ".")
seconds["write"] = time.process_time() - begun
trainer = pl.Trainer(
    accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_progress_bar=False, limit_val_batches=0,
    enable_model_summary=False, callbacks=[scheduler],
)
try:
    trainer.fit(Model())
except (KeyboardInterrupt, SystemExit):
    pass
sys.stdout.write("\\n" + json.dumps(seconds))
"""
)


class Model(nn.Module):
    """Pairs of parameters without content, ten pairs a block.

    Args:
        parameters: How many.
    """

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Linear(1, 1, device="meta") for _ in range(10)) for _ in range(parameters // 20)
        )


@dataclass(frozen=True)
class Measured:
    """Seconds by step, with one number of parameters."""

    ours: dict[str, float]
    """The medians."""
    uncollected: dict[str, float]
    """Those of one run without the garbage collector."""
    peer: dict[str, float]
    """The peer's medians, where it is compared."""


def seconds_of_steps(parameters: int, repeats: int) -> Measured:
    """Measure every step with one number of parameters, and the peer's where it is compared.

    Args:
        parameters: How many.
        repeats: How often each step is measured.

    Returns:
        What was found.
    """
    names = dict(Model(parameters).named_parameters())
    schedule = generate_default(list(names))
    plain = schedule.to_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = save_schedule(schedule, Path(folder, "schedule.yaml"))
        text = path.read_text()
        steps: dict[str, Callable[[], object]] = {
            "generate": lambda: generate_default(list(names)),
            "write": lambda: save_schedule(schedule, Path(folder, "again.yaml")),
            "write, libyaml alone": lambda: yaml.dump(plain, Dumper=yaml.CSafeDumper, sort_keys=False),
            "read": lambda: load_schedule(path),
            "read, libyaml alone": lambda: yaml.load(text, Loader=yaml.CSafeLoader),  # it is a safe one
            "validate": lambda: ScheduleValidator().validate(schedule, names),
        }
        for count in PATTERNS:
            if count <= parameters // 20:
                steps[f"validate {count:,} patterns"] = _validation_of_patterns(count, names)
        seconds: dict[str, list[float]] = {step: [] for step in steps}
        of_peer: dict[str, list[float]] = {}
        for _ in range(repeats):
            for step, run in steps.items():
                Path(folder, "again.yaml").unlink(missing_ok=True)
                gc.collect()
                begun = time.process_time()
                run()
                seconds[step].append(time.process_time() - begun)
            if parameters <= COMPARED:
                for step, each in in_process(PEER, path, str(parameters)).items():
                    of_peer.setdefault(step, []).append(each)
        uncollected = {step: _seconds_without_collector(run, Path(folder, "again.yaml")) for step, run in steps.items()}
    return Measured(
        {step: median(each) for step, each in seconds.items()},
        uncollected,
        {step: median(each) for step, each in of_peer.items()},
    )


def _seconds_without_collector(run: Callable[[], object], written: Path) -> float:
    written.unlink(missing_ok=True)
    gc.collect()
    gc.disable()
    begun = time.process_time()
    try:
        run()
        return time.process_time() - begun
    finally:
        gc.enable()


def _validation_of_patterns(count: int, names: dict[str, nn.Parameter]) -> Callable[[], object]:
    phases = {at: {"params": [rf"blocks\.{at}\..*"]} for at in range(count)}
    schedule = load_schedule(phases)
    return lambda: ScheduleValidator().validate(schedule, names)


def bytes_per_name(parameters: int) -> float:
    """Measure what a schedule of two parameters a phase keeps in memory, besides the names.

    Args:
        parameters: How many.

    Returns:
        The bytes for each name, of the schedule as it was read and as it is resolved.
    """
    names = dict(Model(parameters).named_parameters())
    with tempfile.TemporaryDirectory() as folder:
        path = save_schedule(generate_default(list(names)), Path(folder, "schedule.yaml"))
        gc.collect()
        tracemalloc.start()
        resolved = ScheduleValidator().validate(load_schedule(path), names)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    if not resolved.phases:
        raise RuntimeError("nothing was held")
    return held / parameters


def measure(given: argparse.Namespace) -> Results:
    """Measure all numbers of parameters, and say what each step must reach."""
    torch.set_num_threads(1)
    measured = {count: seconds_of_steps(count, given.repeats) for count in given.parameters}
    ours = {count: of_count.ours for count, of_count in measured.items()}
    peer = {count: of_count.peer for count, of_count in measured.items() if of_count.peer}
    uncollected = {count: of_count.uncollected for count, of_count in measured.items()}
    steps = list(dict.fromkeys(step for of_count in ours.values() for step in of_count))
    lines = {s: {str(count): each[s] for count, each in ours.items() if s in each} for s in steps}
    lines |= {f"{s}, FTS": {str(count): each[s] for count, each in peer.items()} for s in ("read", "write", "validate")}
    results = Results(curves=[Curve("Schedules", "parameters", "seconds", lines)])
    small, large = sorted(ours)[-2:]
    for step in ("generate", "write", "read", "validate"):
        growth, of_code = (each[large][step] / large / (each[small][step] / small) for each in (ours, uncollected))
        results.rows.append(
            Row(
                f"{step}, default schedule: time per parameter at {large:,} beside that at {small:,}",
                growth,
                "x",
                "at most 1.5",
                growth <= 1.5,
                note=f"{of_code:.2f} x without Python's garbage collector, which goes through all that is alive, "
                "torch's and the model's objects too, whenever enough was made.",
            )
        )
    at = ours.get(COMPARED)
    if at is not None:
        for step in ("write", "read"):
            floor = at[f"{step}, libyaml alone"]
            results.rows.append(
                Row(
                    f"{step} the default schedule of {COMPARED:,} parameters",
                    at[step],
                    "s",
                    "4 times faster than the peer, within 1.5 x of libyaml alone",
                    4 * at[step] <= peer[COMPARED][step] and at[step] <= 1.5 * floor,
                    peer=peer[COMPARED][step],
                    floor=floor,
                    note=f"{at[step] / floor:.2f} x libyaml alone",
                )
            )
        results.rows.append(
            Row(
                f"validate the default schedule of {COMPARED:,} parameters",
                at["validate"],
                "s",
                "20 times faster than the peer",
                20 * at["validate"] <= peer[COMPARED]["validate"],
                peer=peer[COMPARED]["validate"],
            )
        )
    for step in (f"validate {count:,} patterns" for count in PATTERNS):
        if step in ours[large]:
            seconds = ours[large][step]
            results.rows.append(Row(f"{step}, {large:,} parameters", seconds, "s", "under 10 s", seconds < 10))
    held = bytes_per_name(large)
    results.rows.append(
        Row(
            f"memory of a schedule of {large // 2:,} phases, for each parameter name, without the names",
            held,
            "bytes",
            f"under {MOST_BYTES_PER_NAME}",
            held < MOST_BYTES_PER_NAME,
        )
    )
    return results


if __name__ == "__main__":
    measuring.main(__doc__ or "", measure, parameters=[1_000, 10_000, 100_000])
