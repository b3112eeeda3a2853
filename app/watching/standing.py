"""Where a run stands, as people are shown it: plain values, taken when a phase or an epoch begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from torch.nn.parameter import UninitializedParameter

from phasewire.adapters.lightning_seams import unwrapped_name

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MOST_GROUPS", "Group", "PhaseBegun", "Restored", "Standing", "Thawed", "metrics_of"]

#: The rates of more groups are told by their lowest and highest: what a run writes must not grow with the square of the
#: number of its phases.
MOST_GROUPS: Final = 64


@dataclass(frozen=True, slots=True)
class Group:
    """One group of the optimizer."""

    number: int
    """Where it stands among the groups, from 0."""
    lr: float
    """Its learning rate."""
    phase: int | None
    """The phase whose parameters it holds; ``None`` for a group that the schedule did not make."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands in its schedule."""

    depth: int
    """The phase being trained, from 0."""
    final_depth: int
    """The last phase that will be trained."""
    trained: int
    """How many parameters (single numbers) are trained."""
    total: int
    """How many the module has."""
    groups: tuple[Group, ...]
    """The groups of the optimizer; of more than :data:`MOST_GROUPS` those that were added last."""
    rate_range: tuple[float, float] | None
    """The lowest and the highest learning rate of all groups; ``None`` without groups."""
    ends: str
    """What ends the phase, in a few words, such as ``epoch 3 or val_loss patience 1/3``."""

    @property
    def rates(self) -> list[float]:
        """The learning rate of each group; nothing of more groups than anybody looks at one by one."""
        return [group.lr for group in self.groups] if self.groups and self.groups[0].number == 0 else []

    @property
    def share(self) -> float:
        """The part of the module that is trained, from 0 to 1."""
        return self.trained / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Restored:
    """The checkpoint that a phase began from."""

    path: str
    """Where it is."""
    epoch: int
    """The epoch in which it was written."""
    depth: int
    """The phase in which it was written."""
    monitor: str | None
    """The metric by which it is the best."""
    score: float | None
    """The value of that metric."""


@dataclass(frozen=True, slots=True)
class PhaseBegun:
    """What happened when a phase began."""

    standing: Standing
    """Where the run stands now."""
    epoch: int
    """The epoch that begins with the phase."""
    names: tuple[str, ...]
    """What the phase thawed, by the names of the schedule."""
    parameters: int
    """How many parameters (single numbers) it thawed."""
    ended_by: tuple[str, ...] = ()
    """What ended the phase before."""
    restored: Restored | None = None
    """The checkpoint whose weights were restored; ``None`` where none was."""


class Thawed:
    """Counts what is thawed.

    Sizes are taken while the module is whole: a strategy that shards it leaves a process a part of each parameter.

    Args:
        module: The module, complete and not yet set up by the strategy.
    """

    def __init__(self, module: nn.Module) -> None:
        self._sizes = {
            unwrapped_name(name): 0 if isinstance(parameter, UninitializedParameter) else parameter.numel()
            for name, parameter in module.named_parameters()
        }
        self._phase_of: dict[str, int] = {}
        self.total = sum(self._sizes.values())
        self.trained = 0

    def add(self, depth: int, names: Iterable[str]) -> int:
        """Note what a phase thaws; what was noted before is not counted twice.

        Args:
            depth: The phase.
            names: Names of parameters, as they are in the module that was given.

        Returns:
            How many parameters (single numbers) these are.
        """
        known = list(map(unwrapped_name, names))
        self.trained += sum(self._sizes.get(name, 0) for name in dict.fromkeys(known) if name not in self._phase_of)
        for name in known:
            self._phase_of.setdefault(name, depth)
        return sum(self._sizes.get(name, 0) for name in known)

    def phase_of(self, name: str) -> int | None:
        """Tell which phase thawed a parameter.

        Args:
            name: Its name.

        Returns:
            The phase; ``None`` if none has.
        """
        return self._phase_of.get(unwrapped_name(name))


def metrics_of(standing: Standing) -> Mapping[str, float]:
    """Give what a logger is told.

    Args:
        standing: Where the run stands.

    Returns:
        Name of the metric to its value.
    """
    return {
        "phasewire/phase": standing.depth,
        "phasewire/phases_to_come": standing.final_depth - standing.depth,
        "phasewire/trained_parameters": standing.trained,
        "phasewire/trained_share": standing.share,
        **_rates(standing),
    }


def _rates(standing: Standing) -> dict[str, float]:
    if standing.rates or standing.rate_range is None:
        return {f"phasewire/lr/group{number}": rate for number, rate in enumerate(standing.rates)}
    lowest, highest = standing.rate_range
    return {"phasewire/lr/lowest": lowest, "phasewire/lr/highest": highest}
