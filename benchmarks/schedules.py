"""How reading, checking and thawing scale with the parameters: ``python benchmarks/schedules.py``.

The default schedule has two parameters a phase. libyaml alone, which writes and reads the same text, is the floor of
writing and reading. Times are those of the processor, medians of repeated runs in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import nn

from phasewire.app.schedule import ScheduleValidator, generate_default, load_schedule, save_schedule

__all__ = ["measure"]

_PATTERNS = (33, 1000)


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


def measure(parameters: int, repeats: int) -> dict[str, float]:
    """Measure every step with one number of parameters.

    Args:
        parameters: How many.
        repeats: How often each step is measured.

    Returns:
        Step to median seconds.
    """
    names = dict(Model(parameters).named_parameters())
    schedule = generate_default(list(names))
    plain = schedule.to_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = save_schedule(schedule, Path(folder, "schedule.yaml"))
        text = path.read_text()
        steps: dict[str, Callable[[], object]] = {
            "generate": lambda: generate_default(list(names)),
            "write": lambda: save_schedule(schedule, path),
            "write, libyaml alone": lambda: yaml.dump(plain, Dumper=yaml.CSafeDumper, sort_keys=False),
            "read": lambda: load_schedule(path),
            "read, libyaml alone": lambda: yaml.load(text, Loader=yaml.CSafeLoader),  # it is a safe one
            "validate": lambda: ScheduleValidator().validate(schedule, names),
        }
        blocks = parameters // 20
        for count in _PATTERNS:
            patterns = load_schedule({at: {"params": [rf"blocks.{at}\..*"]} for at in range(min(count, blocks))})
            steps[f"validate {len(patterns.phases)} patterns"] = lambda given=patterns: ScheduleValidator().validate(
                given, names
            )
        seconds: dict[str, list[float]] = {step: [] for step in steps}
        for _ in range(repeats):
            for step, run in steps.items():
                begun = time.process_time()
                run()
                seconds[step].append(time.process_time() - begun)
    return {step: statistics.median(each) for step, each in seconds.items()}


def plot(results: dict[int, dict[str, float]], path: Path) -> None:
    """Draw one curve for every step.

    Args:
        results: Number of parameters to step to seconds.
        path: The picture to write.
    """
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(7, 5))).subplots()
    for step in next(iter(results.values())):
        points = [(count, seconds[step]) for count, seconds in results.items() if step in seconds]
        axes.loglog(*zip(*points, strict=True), marker="o", label=step)
    axes.set_xlabel("parameters")
    axes.set_ylabel("seconds")
    axes.legend(fontsize="small")
    figure.savefig(path)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each step")
    parser.add_argument("--parameters", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file; needs matplotlib")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {count: measure(count, arguments.repeats) for count in arguments.parameters}
    if arguments.json:
        arguments.json.write_text(json.dumps(results))
    if arguments.plot:
        plot(results, arguments.plot)
    table = Table("", *(f"{count:,}" for count in results), title="Seconds, by number of parameters")
    for step in dict.fromkeys(step for seconds in results.values() for step in seconds):
        table.add_row(step, *(f"{each[step]:.4f}" if step in each else "" for each in results.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
