"""Runs every benchmark and writes what they found to ``RESULTS.md``, with a picture for every curve.

``make bench`` runs it. A benchmark that fails ends it, and nothing is written.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from measuring import HEADINGS, Curve, Results, cells

HERE: Final = Path(__file__).parent
BENCHMARKS: Final = ("imports", "discovery", "schedules", "setup_of_fit", "thawing", "transition", "steps")
#: By who does the step: Phasewire, the peer, or nobody more than has to.
_LINE_STYLES: Final = {"": "-", "FTS": "--", "libyaml alone": ":"}
PACKAGES: Final = ("torch", "lightning", "finetuning-scheduler", "pydantic", "PyYAML")


def main() -> None:
    """Run the benchmarks, and write the table and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE, help="where RESULTS.md and plots/ are written")
    folder = parser.parse_args().folder
    found: dict[str, Results] = {}
    with tempfile.TemporaryDirectory() as work:
        for name in BENCHMARKS:
            path = Path(work, f"{name}.json")
            begun = time.monotonic()
            subprocess.run(  # noqa: S603  # a script of this folder
                [sys.executable, HERE / f"{name}.py", "--json", path],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                check=True,
            )
            found[name] = Results.read(path)
            sys.stdout.write(f"{name}: measured in {time.monotonic() - begun:.0f} s\n")
            sys.stdout.flush()
    (folder / "plots").mkdir(exist_ok=True)
    text = [introduction()]
    for name, results in found.items():
        text += [f"## `benchmarks/{name}.py`\n", table(results)]
        for at, curve in enumerate(results.curves):
            picture = Path("plots", f"{name}-{at}.png")
            plot(curve, folder / picture)
            text.append(f"![{curve.title}]({picture.as_posix()})\n")
    (folder / "RESULTS.md").write_text("\n".join(text))


def introduction() -> str:
    """Say what was measured with what."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        "# Measured beside finetuning-scheduler\n\n"
        "`make bench` writes this file; docs/performance.md tells what each number means. The peer is "
        "finetuning-scheduler, run on the same work in the same environment, in turns with Phasewire; a ratio of 4 "
        "says that Phasewire takes a quarter of what the peer takes. The floor is what the work costs without either. "
        "All numbers are medians.\n\n"
        f"Python {platform.python_version()}, {versions}; {os.cpu_count()} processors, {platform.machine()}.\n"
    )


def table(results: Results) -> str:
    """Give the rows as Markdown, and below it what there is to say of them."""
    lines = [" | ".join(HEADINGS), " | ".join("---" for _ in HEADINGS)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in cells(row)) for row in results.rows]
    notes = [f"- {row.measure}: {row.note}" for row in results.rows if row.note]
    return "\n".join([*(f"| {line} |" for line in lines), "", *notes, ""])


def plot(curve: Curve, path: Path) -> None:
    """Draw one curve for every label.

    Args:
        curve: What to draw.
        path: The picture to write.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    colours: dict[str, str] = {}
    for label, line in curve.lines.items():
        step, _, who = label.partition(", ")
        colour = colours.setdefault(step, f"C{len(colours)}")
        points = [(int(x), y) for x, y in line.items()]
        axes.loglog(*zip(*points, strict=True), marker="o", label=label, color=colour, linestyle=_LINE_STYLES[who])
    axes.set(title=curve.title, xlabel=curve.x, ylabel=curve.y)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
