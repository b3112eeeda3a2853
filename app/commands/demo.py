"""``phasewire demo``: the embedded transfer-learning job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.reporting import stdout_console
from phasewire.app.commands.wiring import new_container

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["demo"]


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The run folder. Where it exists, a numbered one is taken."
        ),
    ] = Path("runs/demo"),
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="A YAML file that is merged over the demo's own wiring, whose sections are seeds, common, pretrain, "
            "tune and ways; repeatable.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use the seeds 0 to N-1 instead of the configured ones.")
    ] = None,
) -> None:
    """Tune a small network to new handwritten digits in three ways, and compare them.

    Pretrains on the digits 0-4, then learns 5-9 from few labels with the backbone frozen, with everything at once, and
    phase by phase, on the same budget. Leaves the metrics, the schedules, the checkpoints, and a page that shows a run
    of the most phases, in a run folder.

    Example: `phasewire demo --seeds 3 --output runs/first`
    """
    from phasewire.app.demo import (
        BEST_CHECKPOINT,
        DemoJob,
        DemoWiring,
        new_run_folder,
        report_of,
        results_table,
        summarize,
    )

    wiring = DemoWiring.load(*(config or ()))
    if seeds is not None:
        wiring = wiring.model_copy(update={"seeds": tuple(range(seeds))})
    with _progress() as progress:
        job = DemoJob(wiring, new_container, progress)
        folder = new_run_folder(output)
        results = job.run(folder)
    console = stdout_console()
    console.print(results_table(summarize(results)))
    typer.echo(f"Run folder:      {folder}")
    typer.echo(f"Best checkpoint: {folder / BEST_CHECKPOINT}")
    report = report_of(folder, results)
    if report is not None:
        typer.echo(f"Report:          {report}")


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
