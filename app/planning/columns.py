"""The phases of a plan as columns of text, for every kind of table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phasewire.app.planning.words import byte_text, rate_text, share_text

if TYPE_CHECKING:
    from phasewire.app.planning.values import Plan, PlannedPhase

__all__ = ["PhaseColumn", "phase_columns"]


@dataclass(frozen=True, slots=True)
class PhaseColumn:
    """One column."""

    heading: str
    """What it tells."""
    cells: tuple[str, ...]
    """What it tells of each phase."""
    is_number: bool = True
    """Whether the cells are numbers."""


def phase_columns(plan: Plan, *, most: int) -> list[PhaseColumn]:
    """Write the phases of a plan.

    Args:
        plan: The plan.
        most: How many rows there may be; of a longer schedule, the first and the last phases are shown, and a row of
            ellipses between them.

    Returns:
        The columns, all of the same number of rows.
    """
    rows = list(_rows(plan, most))
    starts_anew = any(phase.begins_with for phase in plan.phases)
    headings = ["Phase", "Tensors", "Parameters", "Share", "Thawed so far", "Gradients", "Optimizer", "lr"]
    headings += ["Begins with a new"] if starts_anew else []
    headings += ["Moves on"]
    left_out = ["⋮"] * len(headings)
    columns = zip(
        *(left_out if row is None else _cells(row, plan, starts_anew=starts_anew) for row in rows), strict=True
    )
    return [
        PhaseColumn(heading, tuple(cells), is_number=heading not in {"Begins with a new", "Moves on"})
        for heading, cells in zip(headings, columns, strict=True)
    ]


def _cells(phase: PlannedPhase, plan: Plan, *, starts_anew: bool) -> list[str]:
    return [
        str(phase.depth),
        f"{phase.names:,}",
        f"{phase.parameters:,}",
        share_text(phase.parameters, plan.total),
        share_text(phase.thawed, plan.total),
        byte_text(phase.gradient_bytes),
        byte_text(phase.optimizer_bytes),
        rate_text(phase),
        *([", ".join(path.rpartition(".")[2] for path in phase.begins_with)] if starts_anew else []),
        phase.moves_on,
    ]


def _rows(plan: Plan, most: int) -> Iterator[PlannedPhase | None]:
    if len(plan.phases) <= most:
        yield from plan.phases
        return
    yield from plan.phases[: most // 2]
    yield None
    yield from plan.phases[-most // 2 :]
