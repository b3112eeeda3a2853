"""``phasewire report``: one page that shows what happened in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    run_dir: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR",
            help="The folder that the logger of the run wrote to, such as lightning_logs/version_0, or one above it.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The page to write; by default report.html in that folder. One that is there is replaced.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML page of a run.

    It shows the phases on a time line, metrics with the transitions marked, learning rates, what share of the module
    was trained, checkpoints and which were restored, the schedule, and the versions. It is made from the record that
    every fit leaves in its log folder, and from metrics.csv or the event files of TensorBoard where they are. A run
    that still goes on can be looked at, too.

    Example: `phasewire report lightning_logs/version_0`
    """
    from phasewire.app.report import write_report

    typer.echo(f"Report: {write_report(run_dir, output)}")
