"""A plan in a terminal: the table of its phases, and the picture of phases and modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from phasewire.app.planning.columns import PhaseColumn, phase_columns
from phasewire.app.planning.rows import ModuleRow, module_rows
from phasewire.app.planning.words import phase_count, share_text, short_path, summary

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from phasewire.app.planning.values import Plan

__all__ = ["picture", "table"]

_MOST_TABLE_ROWS: Final = 200
#: Columns that a narrow terminal does without, in this order.
_LEFT_OUT_FIRST: Final = ("Tensors", "Share", "Gradients", "Thawed so far")
_MOST_MODULES: Final = 24
#: The longest path of a module, in characters.
_LABEL_WIDTH: Final = 40
#: What stands right of the cells: numbers of parameters.
_NUMBERS_WIDTH: Final = 27
_FULL: Final = 0.9995
_STEPS: Final = (1, 2, 5, 10, 20, 50)


def table(plan: Plan, *, width: int | None = None) -> Table:
    """Draw the phases of a plan.

    Args:
        plan: The plan.
        width: How many characters a line has; ``None`` for as many as it takes.

    Returns:
        A table with one row a phase, but for the middle of a very long schedule. What says least is left out where a
        line is too short.
    """
    from rich.table import Table

    columns = phase_columns(plan, most=_MOST_TABLE_ROWS)
    for heading in _LEFT_OUT_FIRST:
        if width is None or sum(_width(column) for column in columns) < width:
            break
        columns = [column for column in columns if column.heading != heading]
    drawn = Table(
        title=f"{plan.model}: {plan.total:,} parameters in {phase_count(len(plan.phases))}",
        caption=summary(plan),
        caption_justify="left",
    )
    for column in columns:
        drawn.add_column(
            column.heading, justify="right" if column.is_number else "left", no_wrap=column.is_number, overflow="fold"
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*cells)
    return drawn


def _width(column: PhaseColumn) -> int:
    return 3 + max(map(len, (column.heading, *column.cells)))


def picture(plan: Plan, *, width: int, plain: bool = False) -> Text:
    """Draw which phase thaws which modules.

    Args:
        plan: The plan.
        width: How many characters a line has.
        plain: Use ASCII characters alone.

    Returns:
        A line a module, a column a phase; where there are more phases than columns, several phases a column.
    """
    from rich.text import Text

    rows = module_rows(plan.parameters, _MOST_MODULES)
    labels = [short_path(row.label, min(_LABEL_WIDTH, max(width // 3, 8))) for row in rows]
    margin = max(map(len, (*labels, "phase")))
    columns = max(1, width - margin - _NUMBERS_WIDTH - 2)
    bins = _bins(len(plan.phases), columns)
    spread = 2 if len(bins) * 2 <= columns else 1
    marks = _Marks.ascii() if plain else _Marks.drawn()
    room = len(f"{plan.total:,}")
    lines = [_scale(bins, margin, spread)]
    for row, label in zip(rows, labels, strict=True):
        line = Text(f"{label:<{margin}}  ")
        for mark, style in marks.along(row, bins):
            line.append(mark.ljust(spread), style)
        lines.append(line.append(f"  {row.elements:>{room},}  {share_text(row.elements, plan.total):>6}"))
    legend = Text(" " * (margin + 2))
    for mark, style, meaning in marks.legend():
        legend.append(mark, style).append(f" {meaning}   ")
    return Text("\n").join([*lines, legend])


class _Marks:
    """The characters of a picture, with their styles."""

    def __init__(self, thaws: str, thaws_part: str, thawed: str, thawed_part: str, frozen: str) -> None:
        self.thaws, self.thaws_part = (thaws, "bold cyan"), (thaws_part, "cyan")
        self.thawed, self.thawed_part, self.frozen = (thawed, "green"), (thawed_part, "green"), (frozen, "dim")

    @classmethod
    def drawn(cls) -> _Marks:
        return cls("█", "▄", "▒", "░", "·")

    @classmethod
    def ascii(cls) -> _Marks:
        return cls("#", "+", "=", "-", ".")

    def along(self, row: ModuleRow, bins: list[range]) -> Iterator[tuple[str, str]]:
        before = 0.0
        for phases in bins:
            new = row.share(phases[0], phases[-1])
            yield self._of(new, before)
            before += new

    def _of(self, new: float, before: float) -> tuple[str, str]:
        if new:
            return self.thaws if new + before > _FULL else self.thaws_part
        if before:
            return self.thawed if before > _FULL else self.thawed_part
        return self.frozen

    def legend(self) -> Iterator[tuple[str, str, str]]:
        yield *self.thaws, "thawed here"
        yield *self.thawed, "before"
        yield f"{self.thaws_part[0]}{self.thawed_part[0]}", "", "in part"
        yield *self.frozen, "frozen"


def _scale(bins: list[range], margin: int, spread: int) -> Text:
    """Number as many columns as there is room for."""
    from rich.text import Text

    widest = len(str(bins[-1][0])) + 1
    step = next(step for step in _STEPS if step * spread >= widest)
    numbers = "".join(f"{bins[at][0]:<{step * spread}}" for at in range(0, len(bins), step)).rstrip()
    note = "" if len(bins[0]) == 1 else f"  ({len(bins[0])} phases a column)"
    return Text(f"{'phase':<{margin}}  {numbers}{note}", style="dim")


def _bins(phases: int, columns: int) -> list[range]:
    size = -(-phases // columns)
    return [range(start, min(start + size, phases)) for start in range(0, phases, size)]
