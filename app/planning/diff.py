"""What differs between two plans for one model, phase by phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phasewire.app.planning.words import byte_text, rate_text
from phasewire.app.schedule.name_groups import NameGroups

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from phasewire.app.planning.values import Plan, PlannedPhase

__all__ = ["PhaseDifference", "diff_as_json", "diff_tree", "differences"]


@dataclass(frozen=True, slots=True)
class PhaseDifference:
    """What differs in one phase."""

    depth: int
    """The phase."""
    only_in: str | None
    """``"first"`` or ``"second"`` where the other schedule has no such phase."""
    added: tuple[tuple[str, int | None], ...]
    """Parameters that only the second schedule thaws in this phase, and the phase of the first that thaws them."""
    removed: tuple[tuple[str, int | None], ...]
    """Parameters that only the first one thaws in this phase, and the phase of the second that thaws them."""
    changes: tuple[tuple[str, str, str], ...]
    """What else differs: its name, and how it is in the first and in the second."""


def differences(first: Plan, second: Plan) -> list[PhaseDifference]:
    """Compare two plans.

    Args:
        first: The one.
        second: The other, for the same model.

    Returns:
        The phases that differ.
    """
    depths = range(max(len(first.phases), len(second.phases)))
    depth_in_first = {parameter.name: parameter.depth for parameter in first.parameters}
    added: dict[int, list[tuple[str, int | None]]] = {}
    removed: dict[int, list[tuple[str, int | None]]] = {}
    for parameter in second.parameters:
        before = depth_in_first.get(parameter.name)
        if parameter.depth != before:
            if parameter.depth is not None:
                added.setdefault(parameter.depth, []).append((parameter.name, before))
            if before is not None:
                removed.setdefault(before, []).append((parameter.name, parameter.depth))
    found = (
        _difference(depth, first, second, tuple(added.get(depth, ())), tuple(removed.get(depth, ())))
        for depth in depths
    )
    return [each for each in found if each is not None]


def diff_tree(first: Plan, second: Plan, names: tuple[str, str]) -> Tree:
    """Draw what differs.

    Args:
        first: The one plan.
        second: The other.
        names: What to call their schedules.

    Returns:
        A branch for each phase that differs.
    """
    from rich.text import Text
    from rich.tree import Tree

    found = differences(first, second)
    head = f"{first.model}: {names[0]} → {names[1]}"
    if not found:
        return Tree(Text(f"{head}: no difference"))
    tree = Tree(Text(head))
    groups = NameGroups(parameter.name for parameter in second.parameters)
    for each in found:
        only = {None: "", "first": f" (only in {names[0]})", "second": f" (only in {names[1]})"}[each.only_in]
        branch = tree.add(Text(f"phase {each.depth}{only}"))
        for sign, style, moved, word in (("+", "green", each.added, "from"), ("-", "red", each.removed, "to")):
            for line in _moved(moved, groups, word):
                branch.add(Text(f"{sign} {line}", style=style))
        for what, before, after in each.changes:
            branch.add(_change(what, before, after))
    tree.add(_change("gradients and optimizer at most", *(byte_text(_most_bytes(plan)) for plan in (first, second))))
    return tree


# Any: what JSON can hold.
def diff_as_json(first: Plan, second: Plan) -> list[dict[str, Any]]:
    """Give what differs in the types that JSON has.

    Args:
        first: The one plan.
        second: The other.

    Returns:
        The phases that differ.
    """
    return [
        {
            "phase": each.depth,
            "only_in": each.only_in,
            "added": [{"name": name, "from_phase": depth} for name, depth in each.added],
            "removed": [{"name": name, "to_phase": depth} for name, depth in each.removed],
            "changes": {what: {"first": before, "second": after} for what, before, after in each.changes},
        }
        for each in differences(first, second)
    ]


def _difference(
    depth: int,
    first: Plan,
    second: Plan,
    added: tuple[tuple[str, int | None], ...],
    removed: tuple[tuple[str, int | None], ...],
) -> PhaseDifference | None:
    phases = [plan.phases[depth] if depth < len(plan.phases) else None for plan in (first, second)]
    if None in phases:
        only = "second" if phases[0] is None else "first"
        return PhaseDifference(depth, only, added, removed, ())
    told = [dict(_told(phase)) for phase in phases if phase is not None]
    changes = tuple((what, told[0][what], told[1][what]) for what in told[0] if told[0][what] != told[1][what])
    return PhaseDifference(depth, None, added, removed, changes) if added or removed or changes else None


def _change(what: str, before: str, after: str) -> Text:
    from rich.text import Text

    if before == after:
        return Text(f"{what}: {before} in both")
    return Text.assemble(f"{what}: ", (before, "red"), " → ", (after, "green"))


def _most_bytes(plan: Plan) -> int | None:
    """Give what gradients and optimizer take in the phase where they take most; ``None`` where it is not known."""
    most = 0
    for phase in plan.phases:
        if phase.optimizer_bytes is None:
            return None
        most = max(most, phase.gradient_bytes + phase.optimizer_bytes)
    return most


def _told(phase: PlannedPhase) -> Iterator[tuple[str, str]]:
    yield "lr", rate_text(phase)
    yield "moves on", phase.moves_on
    yield "begins with a new", ", ".join(phase.begins_with) or "nothing"


def _moved(moved: tuple[tuple[str, int | None], ...], groups: NameGroups, word: str) -> Iterator[str]:
    by_phase: dict[int | None, list[str]] = {}
    for name, depth in moved:
        by_phase.setdefault(depth, []).append(name)
    for depth, names in by_phase.items():
        where = f"{word} phase {depth}" if depth is not None else "trained in no phase of the other"
        for group in groups.of(names):
            yield f"{group}, {where}"
