"""The plots of a report: the phases on a time line, metrics, learning rates, and the share that is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from phasewire.app.report.panels import Line, Panel, lr_lines, thinned
from phasewire.app.report.svg import BAND, SERIES, TEXT, drawn_svg, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from phasewire.app.report.story import PhaseSpan, Story

__all__ = ["Picture", "lr_picture", "metric_picture", "share_picture", "time_line_picture"]

_NARROW: Final = 370
_HALF: Final = 570
_FULL: Final = 1170
_HEIGHT: Final = 290
#: Above this ratio a linear axis hides the small values.
_LARGE_RATIO: Final = 20
_MANY_DECADES: Final = 2
_MOST_IN_LEGEND: Final = 8
_MOST_PHASE_NUMBERS: Final = 12
_MOST_ROWS_WITH_TEXT: Final = 16
_FEW_POINTS: Final = 40


@dataclass(frozen=True, slots=True)
class Picture:
    """One plot, in the two forms that a page chooses from by its width."""

    title: str
    """What it shows, for the caption."""
    description: str
    """What can be seen in it, for those who cannot."""
    wide: str
    """The SVG for a screen."""
    narrow: str
    """The SVG for a phone."""
    legend: tuple[tuple[int, str], ...] = ()
    """The lines by the numbers of their colours, where there are several."""


def metric_picture(story: Story, panel: Panel, number: int) -> Picture:
    """Plot a metric over epochs, the transitions marked.

    Args:
        story: The run.
        panel: What to plot.
        number: The number of the panel on its page.

    Returns:
        The plot.
    """

    def draw(axes: Axes, width: int) -> None:
        _phases_behind(axes, story)
        for index, line in enumerate(map(thinned, panel.lines)):
            few = len(line.x) <= _FEW_POINTS
            axes.plot(
                line.x,
                [y if math.isfinite(y) else math.nan for y in line.y],
                color=SERIES[index % len(SERIES)],
                linewidth=1.0 if line.is_fine else 1.8,
                alpha=0.75 if line.is_fine else 1.0,
                marker="o" if few and not line.is_fine else "",
                markersize=3.5,
            )
        _log_if_wide(axes, panel.lines)
        axes.set_ylabel(readable(panel.title, longest=28))
        _epochs_below(axes, story, width)

    described = "; ".join(f"{line.label} {_from_to(line)}" for line in panel.lines)
    title = panel.title
    return _picture(title, f"Over epochs: {described}.", draw, f"m{number}", wide=_HALF, lines=panel.lines)


def lr_picture(story: Story) -> Picture:
    """Plot the learning rate of every group.

    Args:
        story: The run.

    Returns:
        The plot.
    """
    lines = lr_lines(story)

    def draw(axes: Axes, width: int) -> None:
        _phases_behind(axes, story)
        for index, line in enumerate(lines):
            edges = [x for each in line.x for x in (each - 0.5, each + 0.5)]
            axes.plot(
                edges,
                [y for each in line.y for y in (each, each)],
                color=SERIES[index % len(SERIES)],
                # The first ones are thicker, so that they show below others with the same rate.
                linewidth=max(1.6, 4.6 - index),
                linestyle=("-", "--", ":")[index // len(SERIES) % 3],
            )
        _log_if_wide(axes, lines)
        rates = {y for line in lines for y in line.y}
        if len(rates) == 1:
            axes.set_ylim(0, 2.2 * rates.pop() or 1)
        axes.set_ylabel("learning rate")
        _epochs_below(axes, story, width)

    described = "; ".join(f"{line.label} {_from_to(line)}" for line in lines[:_MOST_IN_LEGEND])
    title = "Learning rate of each group"
    return _picture(title, f"Over epochs: {described}.", draw, "lr", wide=_HALF, lines=lines)


def share_picture(story: Story) -> Picture:
    """Plot which share of the module is trained.

    Args:
        story: The run.

    Returns:
        The plot.
    """
    total = max(1, story.fit.parameters)
    edges, shares = [], []
    for span in story.spans:
        edges += [span.began.epoch - 0.5, span.end_epoch - 0.5]
        shares += [100 * span.began.trained / total] * 2

    def draw(axes: Axes, width: int) -> None:
        _phases_behind(axes, story)
        axes.fill_between(edges, shares, color=SERIES[0], alpha=0.25, linewidth=0)
        axes.plot(edges, shares, color=SERIES[0])
        axes.set_ylim(0, 105)
        axes.set_ylabel("parameters trained, %")
        _epochs_below(axes, story, width)

    steps = "; ".join(f"phase {span.began.phase}: {100 * span.began.trained / total:.1f}%" for span in story.spans)
    return _picture("Share of the module that is trained", f"{steps}.", draw, "share", wide=_HALF)


def time_line_picture(story: Story) -> Picture:
    """Plot the phases on a time line, with the checkpoints that were saved and restored.

    Args:
        story: The run.

    Returns:
        The plot.
    """
    rows = max(3, len(story.spans))
    height = min(900, 90 + (34 if len(story.spans) <= _MOST_ROWS_WITH_TEXT else 16) * rows)
    described = "; ".join(
        f"phase {span.began.phase} from epoch {span.began.epoch} to {span.end_epoch - 1:g}" for span in story.spans
    )
    return _picture(
        "Phases",
        f"{described}.",
        lambda axes, width: _draw_time_line(axes, story, width),
        "time",
        wide=_FULL,
        height=height,
    )


def _draw_time_line(axes: Axes, story: Story, width: int) -> None:
    rows = {span.began.phase: row for row, span in enumerate(story.spans)}
    with_text = len(rows) <= _MOST_ROWS_WITH_TEXT
    for span in story.spans:
        row, begin = rows[span.began.phase], span.began.epoch - 0.5
        axes.barh(
            row, span.end_epoch - 0.5 - begin, left=begin, height=0.62, color=SERIES[row % len(SERIES)], alpha=0.45
        )
    saved = [(each.epoch, rows[each.phase]) for each in story.checkpoints if each.phase in rows]
    if saved:
        axes.plot(*zip(*saved, strict=True), "o", color=TEXT, markersize=4, label="checkpoint saved as one of the best")
    restored = [span for span in story.spans if span.began.restored is not None]
    for span in restored:
        _draw_restore(axes, span, rows)
    if restored:
        axes.plot([], [], color=TEXT, linewidth=1.2, marker=">", markersize=5, label="restored for the next phase")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    is_wide = width >= _FULL
    # What a phase thawed stands on the axis: beside a bar it would lie on the arrows of others.
    names = [_row_label(span, is_wide=is_wide) for span in story.spans]
    if with_text:
        axes.set_yticks(range(len(names)), names)
    elif names:
        axes.set_yticks([0, len(names) - 1], [names[0], names[-1]])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _epochs_below(axes, story, width)
    if saved or restored:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2 if is_wide else 1)
    for resume in story.resumes:
        axes.axvline(resume.epoch - 0.5, color=TEXT, linewidth=1, linestyle=":")


def _row_label(span: PhaseSpan, *, is_wide: bool) -> str:
    began = span.began
    more = f": {began.parameters:,} parameters in {began.tensors} tensors" if is_wide else f": +{began.parameters:,}"
    return f"phase {began.phase}{more}"


def _draw_restore(axes: Axes, span: PhaseSpan, rows: dict[int, int]) -> None:
    restored = span.began.restored
    if restored is None or restored.phase not in rows:
        return
    arrow = axes.annotate(
        "",
        xy=(span.began.epoch - 0.5, rows[span.began.phase]),
        xytext=(restored.epoch, rows[restored.phase]),
        arrowprops={"arrowstyle": "-|>", "color": TEXT, "linewidth": 1.2, "connectionstyle": "arc3,rad=0.25"},
    )
    if arrow.arrow_patch is not None:
        arrow.arrow_patch.set_gid(f"restored-from-{restored.phase}-for-{span.began.phase}")


# -- what plots have in common ---------------------------------------------------------------------------------------


def _picture(
    title: str,
    description: str,
    draw: Callable[[Axes, int], None],
    prefix: str,
    *,
    wide: int,
    height: int = _HEIGHT,
    lines: Sequence[Line] = (),
) -> Picture:
    legend = [(number % len(SERIES), line.label) for number, line in enumerate(lines)]
    return Picture(
        title,
        description,
        drawn_svg(draw, width=wide, height=height, prefix=f"{prefix}w"),
        drawn_svg(draw, width=_NARROW, height=height, prefix=f"{prefix}n"),
        tuple(legend) if len(legend) > 1 else (),
    )


def _phases_behind(axes: Axes, story: Story) -> None:
    """Shade every second phase, and mark each transition with the number of the phase that begins."""
    step = math.ceil(len(story.spans) / _MOST_PHASE_NUMBERS) if story.spans else 1
    for index, span in enumerate(story.spans):
        begin, end = span.began.epoch - 0.5, span.end_epoch - 0.5
        if index % 2:
            axes.axvspan(begin, end, color=BAND, linewidth=0)
        if index:
            line = axes.axvline(begin, color=TEXT, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
            line.set_gid(f"transition-to-{span.began.phase}")
        if index % step == 0:
            axes.annotate(
                str(span.began.phase),
                xy=((begin + end) / 2, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=10,
                annotation_clip=False,
            )
    axes.annotate(
        "phase",
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=10,
        annotation_clip=False,
    )


def _epochs_below(axes: Axes, story: Story, width: int) -> None:
    from matplotlib.ticker import MaxNLocator

    begin = min((span.began.epoch for span in story.spans), default=0)
    axes.set_xlim(begin - 0.5, max(story.end_epoch, begin + 1) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12 if width >= _HALF else 6, integer=True))
    axes.set_xlabel("epoch")


def _log_if_wide(axes: Axes, lines: Sequence[Line]) -> None:
    values = [y for line in lines for y in line.y if math.isfinite(y)]
    if values and min(values) > 0 and max(values) / min(values) > _LARGE_RATIO:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_yscale("log")
        decades = math.log10(max(values) / min(values))
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1.0,) if decades > _MANY_DECADES else (1.0, 2.0, 5.0), numticks=8)
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _from_to(line: Line) -> str:
    return f"from {line.y[0]:.4g} to {line.y[-1]:.4g}" if line.y else "without values"
