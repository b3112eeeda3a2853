"""Chooses what is plotted: one panel for each quantity, with its training and validation values together."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from phasewire.app.report.metric_files import StepValues
    from phasewire.app.report.story import Story

__all__ = ["Line", "Panel", "lr_lines", "metric_panels", "thinned"]

_STAGE: Final = re.compile(
    r"^(train(?:ing)?|val(?:id(?:ation)?)?|test)[_/.]|[_/.](train(?:ing)?|val(?:id(?:ation)?)?|test)$"
)
_INTERVAL: Final = re.compile(r"_(step|epoch)$")
#: So many points tell the shape of a line at any width of the page.
_MOST_POINTS: Final = 400
#: A logger that has so many times as many values as there are epochs was told of steps. A few more come of a validation
#: after the fit.
_MANY: Final = 1.5


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot."""

    label: str
    """Its name."""
    x: Sequence[float]
    """Epochs; the middle of an epoch is its number."""
    y: Sequence[float]
    """Values; one that is not finite is a gap."""
    is_fine: bool = False
    """Whether it has a value for single steps."""


@dataclass(slots=True)
class Panel:
    """One plot."""

    title: str
    """What it shows."""
    lines: list[Line] = field(default_factory=list)
    """Its lines."""


def metric_panels(story: Story, step_values: StepValues) -> list[Panel]:
    """Put the metrics of a run into panels.

    Args:
        story: The run.
        step_values: What its loggers wrote.

    Returns:
        One panel for each quantity: losses first, then by name.
    """
    of_epochs = _epoch_lines(story)
    steps = _Steps(story)
    fine = {
        name: steps.line(name, points)
        for name, points in step_values.items()
        if len(points) > _MANY * len(of_epochs.get(name, Line(name, (), ())).x)
    }
    lines = {**of_epochs, **{name: line for name, line in fine.items() if line.x}}
    panels: dict[str, Panel] = {}
    for name in sorted(lines, key=_training_first):
        if _says_the_same(name, lines):
            continue
        quantity = _quantity(name)
        panels.setdefault(quantity, Panel(quantity)).lines.append(lines[name])
    for panel in panels.values():
        if len(panel.lines) == 1:
            panel.title = panel.lines[0].label  # there is no legend that would name it
    return sorted(panels.values(), key=lambda panel: ("loss" not in panel.title.lower(), panel.title.lower()))


def lr_lines(story: Story) -> list[Line]:
    """Give the learning rate of every group, as it was in each epoch.

    Args:
        story: The run.

    Returns:
        One line for each group, named after its phase.
    """
    values: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for number, epoch in sorted(story.epochs.items()):
        for group, lr in enumerate(epoch.lrs):
            values[group].append((number, lr))
    phases = {group.group: group.phase for span in story.spans for group in span.began.groups}
    return [
        Line(_group_label(number, phases.get(number)), [x for x, _ in points], [y for _, y in points])
        for number, points in sorted(values.items())
    ]


def thinned(line: Line) -> Line:
    """Leave out points of a line that has too many, but none that stands out: of each stretch the extremes stay.

    Args:
        line: The line.

    Returns:
        A line of the same shape.
    """
    if len(line.x) <= _MOST_POINTS:
        return line
    width = math.ceil(len(line.x) / (_MOST_POINTS // 2))
    kept: list[int] = []
    for begin in range(0, len(line.x), width):
        stretch = range(begin, min(begin + width, len(line.x)))
        finite = [index for index in stretch if math.isfinite(line.y[index])] or list(stretch[:1])
        extremes = {min(finite, key=line.y.__getitem__), max(finite, key=line.y.__getitem__)}
        kept += sorted(extremes)
    return Line(line.label, [line.x[index] for index in kept], [line.y[index] for index in kept], line.is_fine)


class _Steps:
    """Places steps between epochs: those of an epoch lie within half an epoch of its number."""

    def __init__(self, story: Story) -> None:
        epochs = [story.epochs[number] for number in sorted(story.epochs)]
        self._ends = [epoch.step for epoch in epochs]
        self._numbers = [epoch.epoch for epoch in epochs]
        first = story.spans[0].began.step if story.spans else 0
        self._begins = [first, *self._ends[:-1]]

    def line(self, name: str, points: Sequence[tuple[int, float]]) -> Line:
        placed = [(place, value) for step, value in points if (place := self._place(step)) is not None]
        placed.sort(key=lambda point: point[0])
        return Line(name, [x for x, _ in placed], [y for _, y in placed], is_fine=True)

    def _place(self, step: int) -> float | None:
        # Lightning logs the first step of an epoch as the number of steps before it.
        index = bisect_left(self._ends, step + 1)
        if index == len(self._ends):
            return None
        begin, end = self._begins[index], self._ends[index]
        return self._numbers[index] - 0.5 + (step + 0.5 - begin) / max(1, end - begin)


def _epoch_lines(story: Story) -> dict[str, Line]:
    values: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for number, epoch in sorted(story.epochs.items()):
        for name, value in epoch.metrics.items():
            values[name].append((number, value))
    return {name: Line(name, [x for x, _ in points], [y for _, y in points]) for name, points in values.items()}


def _says_the_same(name: str, lines: Mapping[str, Line]) -> bool:
    """Tell whether a line repeats another: Lightning gives what is logged for steps and epochs under three names."""
    base = _INTERVAL.sub("", name)
    if name.endswith("_epoch"):
        return base in lines
    return name.endswith("_step") and base in lines and not lines[name].is_fine


def _training_first(name: str) -> tuple[bool, str]:
    return not name.startswith("train"), name


def _quantity(name: str) -> str:
    return _STAGE.sub("", _INTERVAL.sub("", name)) or name


def _group_label(number: int, phase: int | None) -> str:
    return f"group {number}" if phase is None else f"group {number} (phase {phase})"
