"""What a case must lead to by its own data: which phase trains which epoch, and which checkpoint is the best when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parity_case import Case


@dataclass(frozen=True)
class Transition:
    """The beginning of a phase."""

    epoch: int
    depth: int
    best_depth: int | None
    """The phase of the best checkpoint so far; ``None``: there is none yet."""


@dataclass(frozen=True)
class Timeline:
    """The phases of a training."""

    depths: tuple[int, ...]
    """The phase of each epoch."""
    transitions: tuple[Transition, ...]


def phases_of(case: Case) -> list[dict[str, Any]]:
    """Give the phases that a case trains or names, the generated ones where it has no schedule."""
    if case.schedule is not None:
        return [dict(case.schedule[depth]) for depth in sorted(case.schedule)]
    names = [name for name, _ in case.module().named_parameters()][::-1]
    return [{"params": names[start : start + 2]} for start in range(0, len(names), 2)]


def final_depth(case: Case) -> int:
    last = len(phases_of(case)) - 1
    wanted = case.settings.get("max_depth", -1)
    return last if wanted == -1 else min(wanted, last)


def epochs_of(case: Case) -> list[int]:
    """Give the max_transition_epoch of each phase, -1 where it has none."""
    return [phase.get("max_transition_epoch", -1) for phase in phases_of(case)]


def last_epoch(case: Case) -> int:
    """Give the epoch at which the training ends at the latest."""
    epochs = epochs_of(case)[: final_depth(case) + 1]
    return case.max_epochs if epochs[-1] < 0 else max(case.max_epochs, *epochs)


def timeline(case: Case) -> Timeline:
    """Follow the scripted metric of a case through its schedule."""
    final, epochs = final_depth(case), epochs_of(case)
    patience = _Patience(case)
    depth, best, best_depth = 0, float("inf"), None
    depths: list[int] = []
    transitions = []
    for epoch in range(last_epoch(case)):
        if depth < final and (patience.is_over or 0 <= epochs[depth] <= epoch):
            depth += 1
            patience.begin()
            transitions.append(Transition(epoch, depth, best_depth))
        depths.append(depth)
        loss = case.val_losses[min(epoch, len(case.val_losses) - 1)]
        if loss < best:
            best, best_depth = loss, depth
        patience.check(loss)
        if patience.is_over and depth == final:
            break
    return Timeline(tuple(depths), tuple(transitions))


class _Patience:
    def __init__(self, case: Case) -> None:
        options = case.stopping if case.stopping is not None else {"patience": float("inf")}
        self._patience = options["patience"]
        self._min_delta = options.get("min_delta", 0.0)
        self._best = float("inf")
        self.begin()

    def begin(self) -> None:
        self._waited = 0
        self.is_over = False

    def check(self, loss: float) -> None:
        if loss + self._min_delta < self._best:
            self._best, self._waited = loss, 0
        else:
            self._waited += 1
            self.is_over = self.is_over or self._waited >= self._patience
