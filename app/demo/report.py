"""What the demo measured: one record a run, the mean and spread over the seeds, a table and two files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev

from rich.table import Table

__all__ = ["RunResult", "Spread", "WaySummary", "results_table", "summarize", "write_metrics"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one tuning run with one seed reached."""

    way: str
    """How it was tuned."""
    seed: int
    """The seed of everything random in it."""
    test_accuracy: float
    """Share of the test images that the best checkpoint classifies rightly, 0 to 1."""
    val_accuracy: float
    """The same on the validation images, by which nothing but the checkpoint was chosen."""
    val_loss: float
    """Cross-entropy of the best checkpoint on the validation images; the best checkpoint has the lowest."""
    trained_parameters: int
    """Numbers in the parameter tensors that differ between the best checkpoint and the start of tuning."""
    total_parameters: int
    """Numbers in all parameter tensors."""
    best_epoch: int
    """The epoch of the best checkpoint, from 0."""
    steps: int
    """Optimizer steps taken."""
    seconds: float
    """Wall time of the fit."""
    checkpoint: str
    """The best checkpoint, relative to the run folder."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation of one measurement over the seeds."""

    mean: float
    deviation: float | None
    """``None`` when there is a single seed."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize values.

        Args:
            values: At least one number.

        Returns:
            Their mean and sample standard deviation.
        """
        return cls(mean(values), stdev(values) if len(values) > 1 else None)

    def show(self, number_format: str) -> str:
        """Write it as ``mean ± deviation``.

        Args:
            number_format: A format specification for both numbers.

        Returns:
            The text; without ``±`` when there is a single seed.
        """
        shown = format(self.mean, number_format)
        return shown if self.deviation is None else f"{shown} ± {format(self.deviation, number_format)}"


@dataclass(frozen=True, slots=True)
class WaySummary:
    """One way of tuning over all seeds."""

    way: str
    runs: int
    """How many seeds."""
    test_accuracy: Spread
    """Share of the test images, 0 to 1."""
    trained_parameters: Spread
    """See :class:`RunResult`."""
    trained_share: Spread
    """Trained parameters as a share of all, 0 to 1."""
    best_epoch: Spread
    """See :class:`RunResult`."""
    steps: Spread
    """Optimizer steps taken."""


def summarize(results: Sequence[RunResult]) -> tuple[WaySummary, ...]:
    """Summarize each way over its seeds.

    Args:
        results: All runs, in any order.

    Returns:
        One summary a way, in the order in which the ways first occur.
    """
    by_way: dict[str, list[RunResult]] = {}
    for result in results:
        by_way.setdefault(result.way, []).append(result)
    return tuple(
        WaySummary(
            way=way,
            runs=len(runs),
            test_accuracy=Spread.of([run.test_accuracy for run in runs]),
            trained_parameters=Spread.of([run.trained_parameters for run in runs]),
            trained_share=Spread.of([run.trained_parameters / run.total_parameters for run in runs]),
            best_epoch=Spread.of([run.best_epoch for run in runs]),
            steps=Spread.of([run.steps for run in runs]),
        )
        for way, runs in by_way.items()
    )


def results_table(summaries: Sequence[WaySummary]) -> Table:
    """Render the summaries.

    Args:
        summaries: One a way; at least one.

    Returns:
        A table with one row a way.
    """
    table = Table(
        title="Digits 0-4 known, 5-9 learned from few labels",
        caption=f"{_over(summaries[0].runs)}, each run's best checkpoint.\n"
        "Trained parameters: those in which it differs from the start.",
    )
    table.add_column("Tuned", overflow="fold")
    for heading in ("Test accuracy", "Trained\nparameters", "Share", "Best epoch", "Steps"):
        table.add_column(heading, justify="right", overflow="fold")
    for summary in summaries:
        table.add_row(
            summary.way,
            summary.test_accuracy.show(".1%"),
            summary.trained_parameters.show(",.0f"),
            f"{summary.trained_share.mean:.1%}",
            summary.best_epoch.show(".0f"),
            f"{summary.steps.mean:,.0f}",
        )
    return table


def write_metrics(folder: Path, results: Sequence[RunResult], summaries: Sequence[WaySummary]) -> None:
    """Write ``metrics.csv``, one row a run, and ``summary.json``, one entry a way.

    Args:
        folder: The run folder.
        results: All runs.
        summaries: One a way.
    """
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(RunResult)])
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)
    summary = json.dumps([asdict(summary) for summary in summaries], indent=2)
    (folder / "summary.json").write_text(f"{summary}\n", encoding="utf-8")


def _over(runs: int) -> str:
    return "One seed" if runs == 1 else f"Mean ± standard deviation over {runs} seeds"
