"""What it costs to compare the checksums of a checkpoint before it is read: ``python benchmarks/checksums.py``."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from phasewire.app.phases.undamaged import require_undamaged


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Give the median of the processor's seconds."""
    measured = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        measured.append(time.process_time() - begun)
    return statistics.median(measured)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=400, help="size of the checkpoint (400)")
    parser.add_argument("--repeats", type=int, default=5, help="how often each is done (5)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.ckpt")
        torch.save({"state_dict": {str(n): torch.randn(asked.megabytes * 62_500) for n in range(4)}}, path)
        table = Table(title=f"A checkpoint of {path.stat().st_size / 1e6:,.0f} MB: processor seconds")
        table.add_column("")
        table.add_column("seconds", justify="right")
        table.add_row("checksums compared", f"{seconds_of(lambda: require_undamaged(path), asked.repeats):.2f}")
        table.add_row("torch.load", f"{seconds_of(lambda: torch.load(path), asked.repeats):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
