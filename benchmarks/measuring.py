"""What the benchmarks share: processes of their own, medians, rows of results, and the table that shows them.

Every benchmark is a script of its own; ``benchmarks/all.py`` runs them in turn and writes ``RESULTS.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

__all__ = ["KITS", "Curve", "Results", "Row", "in_process", "main", "median", "show", "verdict"]

#: What is compared, by the package that its names are imported from.
KITS: Final = {"Phasewire": "phasewire.app", "FTS": "finetuning_scheduler"}

#: What every script does that fits: no advice, and one thread.
QUIET: Final = """
import importlib, json, logging, sys, time, warnings
warnings.simplefilter("ignore")
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
import lightning.pytorch as pl
import torch
torch.set_num_threads(1)
"""

_TIME_LIMIT_SECONDS: Final = 300


@dataclass(frozen=True)
class Row:
    """One measure, beside the peer and the floor."""

    measure: str
    ours: float
    unit: str
    """The unit of all three numbers."""
    must: str
    """What it must reach, in words."""
    reached: bool
    peer: float | None = None
    floor: float | None = None
    """What the work costs without either of the two."""
    note: str = ""
    """What the floor is, or why it is not reached."""


@dataclass(frozen=True)
class Curve:
    """How one measure grows."""

    title: str
    x: str
    """What grows."""
    y: str
    """What is measured, with its unit."""
    lines: Mapping[str, Mapping[str, float]]
    """Label to x to y; JSON has text for keys."""


@dataclass
class Results:
    """What a benchmark found."""

    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what :meth:`write` wrote."""
        plain = json.loads(path.read_text())
        return cls([Row(**row) for row in plain["rows"]], [Curve(**curve) for curve in plain["curves"]])

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))


def in_process(
    script: str, *arguments: str | Path, environment: Mapping[str, str] | None = None, limit: int = _TIME_LIMIT_SECONDS
) -> Any:  # noqa: ANN401  # whatever the script printed
    """Run a script in a process and a folder of its own.

    Args:
        script: Python source; the last line that it prints is JSON.
        arguments: Its arguments.
        environment: Variables to set besides those there are.
        limit: Seconds after which it is ended.

    Returns:
        What it printed.

    Raises:
        RuntimeError: It failed; with what it said.
    """
    # With bytecode written, as an installed package has it.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        finished = subprocess.run(  # noqa: S603  # a script of these benchmarks
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**inherited, "OMP_NUM_THREADS": "1", **(environment or {})},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    if finished.returncode:
        raise RuntimeError(f"A benchmark's process failed:\n{finished.stderr[-4000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def median(values: Iterable[float]) -> float:
    """Give the median."""
    return statistics.median(values)


def verdict(row: Row) -> str:
    """Say whether a row reaches what it must."""
    return "yes" if row.reached else "no"


def show(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers.

    Args:
        title: What it shows.
        headings: One for each column.
        rows: The cells.
    """
    table = Table(title=title)
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if at else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def cells(row: Row) -> list[str]:
    """Give the cells of a row: measure, ours, peer, ratio, floor, what it must reach, and whether it does."""
    ratio = "" if row.peer is None or not row.ours else f"{row.peer / row.ours:.3g}"
    return [
        row.measure,
        _number(row.ours, row.unit),
        _number(row.peer, row.unit),
        ratio,
        _number(row.floor, row.unit),
        row.must,
        verdict(row),
    ]


#: The headings of :func:`cells`.
HEADINGS: Final = ("measure", "ours", "peer", "ratio", "floor", "must reach", "reached")


def main(document: str, measure: Callable[[argparse.Namespace], Results], *, repeats: int = 3, **options: Any) -> None:  # noqa: ANN401  # defaults of options, as argparse takes them
    """Run one benchmark as a script: measure, print the table, and write the results if told so.

    Args:
        document: The docstring of the script.
        measure: Takes the options and gives the results.
        repeats: How often each thing is measured, by default.
        options: Further options with their defaults; a list takes several values.
    """
    parser = argparse.ArgumentParser(description=document)
    parser.add_argument("--repeats", type=int, default=repeats, help="how often each thing is measured")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    for name, default in options.items():
        several = isinstance(default, list)
        kind = type(default[0] if several else default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, nargs="+" if several else None)
    given = parser.parse_args()
    results = measure(given)
    for curve in results.curves:
        counts = list(dict.fromkeys(x for line in curve.lines.values() for x in line))
        rows = [
            [label, *(f"{line[x]:.4g}" if x in line else "" for x in counts)] for label, line in curve.lines.items()
        ]
        show(f"{curve.title}: {curve.y}, by {curve.x}", ["", *(f"{int(x):,}" for x in counts)], rows)
    if results.rows:
        show(document.partition(":")[0].partition(".")[0], HEADINGS, map(cells, results.rows))
    if given.json:
        results.write(given.json)


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.3g} {unit}".strip()
