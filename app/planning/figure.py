"""A plan as a picture: which phase thaws which modules, how large they are, and what each phase takes in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from phasewire.app.planning.rows import ModuleRow, module_rows
from phasewire.app.planning.words import byte_text, byte_unit, phase_count, printable, share_text, short_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from phasewire.app.planning.values import Plan

__all__ = ["DARK", "LIGHT", "Colours", "plan_figure"]

_MOST_MODULES: Final = 48
#: More columns than this are no longer told apart; several phases then share one.
_MOST_COLUMNS: Final = 600
#: Cells of fewer phases are set apart by lines.
_MOST_SEPARATED: Final = 80
_LABEL_WIDTH: Final = 44


@dataclass(frozen=True)
class Colours:
    """The colours of a picture, as matplotlib writes them."""

    back: str
    text: str
    quiet: str
    frozen: str
    thawed: str
    thaws: str
    gradients: str
    optimizer: str


LIGHT: Final = Colours(
    back="#ffffff",
    text="#1c2530",
    quiet="#66717f",
    frozen="#e9edf2",
    thawed="#a8c7e6",
    thaws="#1f5f9e",
    gradients="#5b8f6a",
    optimizer="#d08a3e",
)
DARK: Final = Colours(
    back="#14181d",
    text="#e3e8ee",
    quiet="#93a0ae",
    frozen="#262e37",
    thawed="#2f5579",
    thaws="#6cb0f0",
    gradients="#6fa981",
    optimizer="#d9994f",
)


def plan_figure(plan: Plan, schedule: str, colours: Colours = LIGHT, *, titled: bool = True) -> Figure:
    """Draw a plan.

    Args:
        plan: The plan.
        schedule: What to call the schedule.
        colours: What to draw it with.
        titled: Whether it says what it shows; a page has said it already.

    Returns:
        The figure, which belongs to no window.
    """
    rows = module_rows(plan.parameters, _MOST_MODULES)
    labels = [short_path(printable(row.label), _LABEL_WIDTH) for row in rows]
    width = min(13.0, max(9.0, 6.5 + 0.16 * len(plan.phases)))
    label_inches = max(0.95, 0.3 + 0.072 * max(map(len, labels)))
    head = 0.95 if titled else 0.45
    height = 1.95 + head + 0.21 * len(rows)
    with mpl.rc_context(_style(colours)):
        figure = Figure(figsize=(width + label_inches, height), facecolor=colours.back)
        grid = figure.add_gridspec(
            2,
            2,
            width_ratios=(width - 1.9, 1.2),
            height_ratios=(0.21 * len(rows), 1.15),
            left=label_inches / (width + label_inches),
            right=1 - 0.25 / (width + label_inches),
            top=1 - head / height,
            bottom=0.5 / height,
            wspace=0.06,
            hspace=0.62 / (0.105 * len(rows) + 0.575),
        )
        phases = figure.add_subplot(grid[0, 0])
        _draw_phases(phases, plan, rows, labels, colours)
        _draw_sizes(figure.add_subplot(grid[0, 1], sharey=phases), plan, rows, colours)
        _draw_memory(figure.add_subplot(grid[1, 0], sharex=phases), plan, colours)
        if titled:
            _write_title(figure, plan, schedule, colours)
    return figure


# Any: the keys are those that matplotlib knows, and it has a type for each.
def _style(colours: Colours) -> dict[Any, Any]:
    return {
        "font.family": "DejaVu Sans",
        "font.size": 8.5,
        "text.color": colours.text,
        "text.parse_math": False,  # a dollar sign in a name is one
        "axes.facecolor": colours.back,
        "axes.edgecolor": colours.quiet,
        "xtick.labelcolor": colours.text,
        "ytick.labelcolor": colours.text,
    }


def _write_title(figure: Figure, plan: Plan, schedule: str, colours: Colours) -> None:
    width, height = figure.get_size_inches()
    left, top = 0.2 / width, 1 - 0.3 / height
    figure.text(left, top, printable(f"{plan.model}, {schedule}"), fontsize=12, fontweight="bold", va="center")
    figure.text(
        left,
        top - 0.26 / height,
        f"{plan.total:,} parameters, {share_text(plan.phases[-1].thawed, plan.total)} of them thawed in "
        f"{phase_count(len(plan.phases))} · precision {plan.precision} · optimizer "
        f"{plan.optimizer or 'not known'} · weights {byte_text(plan.weight_bytes)}",
        color=colours.quiet,
        va="center",
    )


def _draw_phases(axes: Axes, plan: Plan, rows: list[ModuleRow], labels: list[str], colours: Colours) -> None:
    count = len(plan.phases)
    size = -(-count // _MOST_COLUMNS)
    starts = range(0, count, size)
    cells = np.array([_cell_colours(row, starts, size, colours) for row in rows])
    # The last column may stand for fewer phases than the others.
    axes.imshow(
        cells, aspect="auto", interpolation="nearest", extent=(-0.5, len(starts) * size - 0.5, len(rows) - 0.5, -0.5)
    )
    axes.set_xlim(-0.5, count - 0.5)
    if count <= _MOST_SEPARATED:
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=colours.back, linewidth=1.0)
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(which="both", length=0, labelbottom=False)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.legend(
        handles=[
            Patch(color=colours.thaws, label="thawed in this phase"),
            Patch(color=colours.thawed, label="thawed before"),
            Patch(color=colours.frozen, label="frozen · in between: in part"),
        ],
        loc="lower left",
        bbox_to_anchor=(-0.005, 1.0),
        ncols=3,
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.2,
        handleheight=1.0,
    )


def _draw_sizes(axes: Axes, plan: Plan, rows: list[ModuleRow], colours: Colours) -> None:
    places = np.arange(len(rows))
    axes.barh(places, [row.elements for row in rows], color=colours.quiet, height=0.55)
    largest = max(row.elements for row in rows) or 1
    for place, row in enumerate(rows):
        axes.text(row.elements + largest * 0.05, place, share_text(row.elements, plan.total), va="center", fontsize=7.5)
    axes.set_xlim(0, largest * 1.75)
    axes.set_title("share of parameters", fontsize=8.5, color=colours.quiet, loc="left", pad=5)
    axes.tick_params(which="both", length=0, labelleft=False, labelbottom=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_memory(axes: Axes, plan: Plan, colours: Colours) -> None:
    edges = np.arange(len(plan.phases) + 1) - 0.5
    gradients = np.array([phase.gradient_bytes for phase in plan.phases], dtype=float)
    known = [phase.optimizer_bytes for phase in plan.phases]
    together = gradients if None in known else gradients + np.array(known, dtype=float)
    size, unit = byte_unit(int(together.max()))
    axes.stairs(gradients / size, edges, fill=True, color=colours.gradients, label="gradients")
    if None not in known:
        axes.stairs(
            together / size, edges, baseline=gradients / size, fill=True, color=colours.optimizer, label="optimizer"
        )
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda amount, _position: f"{amount:g} {unit}"))
    axes.xaxis.set_major_locator(MaxNLocator(20, integer=True, min_n_ticks=1))
    axes.tick_params(length=2.5, color=colours.quiet)
    axes.set_xlabel("phase", color=colours.quiet)
    title = "memory of gradients" if None in known else "memory of gradients and optimizer"
    axes.set_title(title, fontsize=8.5, color=colours.quiet, loc="left", pad=4)
    axes.legend(loc="lower right", bbox_to_anchor=(1.005, 0.98), ncols=2, frameon=False, handlelength=1.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _cell_colours(row: ModuleRow, starts: range, size: int, colours: Colours) -> NDArray[np.float64]:
    """Give the colours of a row: what is thawed in part lies in between, and what is new hides what is not."""
    frozen, before, thaws = (np.array(to_rgb(each)) for each in (colours.frozen, colours.thawed, colours.thaws))
    found = []
    thawed = 0.0
    for start in starts:
        new = row.share(start, start + size - 1)
        under = frozen + (before - frozen) * _visible(thawed, least=0.3)
        found.append(under + (thaws - under) * _visible(new, least=0.6))
        thawed += new
    return np.array(found)


def _visible(share: float, *, least: float) -> float:
    """Let even a small share be seen."""
    return 0.0 if share == 0 else least + (1 - least) * share
