"""What a plan is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Plan", "PlannedParameter", "PlannedPhase"]


class PlannedParameter(NamedTuple):
    """One parameter of a model, and the phase that thaws it."""

    name: str
    """Its name as a schedule has it."""
    elements: int
    """How many numbers it holds."""
    depth: int | None
    """The phase that thaws it; ``None`` where none does."""


@dataclass(frozen=True, slots=True)
class PlannedPhase:
    """One row of a plan."""

    depth: int
    """The phase, from 0."""
    names: int
    """How many parameter tensors the phase thaws."""
    parameters: int
    """How many numbers the phase thaws."""
    thawed: int
    """How many numbers are thawed once the phase begins, those of earlier phases included."""
    gradient_bytes: int
    """What the gradients of all that is thawed take."""
    optimizer_bytes: int | None
    """What the optimizer keeps for all that is thawed, after a step; ``None`` where it is not known."""
    group_rates: tuple[float, ...]
    """The learning rates that the groups of the phase start with; none where they are not known, or it has none."""
    all_rates: tuple[float, ...] | None
    """Those of all groups, each once, where the phase sets them anew; else ``None``: groups of earlier phases go on."""
    begins_with: tuple[str, ...]
    """What the phase starts anew: the class of an optimizer, of an lr scheduler, or both."""
    moves_on: str
    """When the phase ends, in words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a schedule would do to a model."""

    model: str
    """The model's class."""
    total: int
    """How many numbers all parameters hold that can be trained."""
    never_trained: int
    """How many more numbers the model holds that no phase can train: joint projections of a ``TransformerBridge``."""
    weight_bytes: int
    """What all parameters take, in the type they are trained in."""
    precision: str
    """The Trainer's precision."""
    optimizer: str | None
    """The optimizer that the fit begins with; ``None`` where it is not known."""
    phases: tuple[PlannedPhase, ...]
    """The phases that would be trained."""
    untrained_phases: int
    """How many phases of the schedule lie beyond ``max_depth``."""
    parameters: tuple[PlannedParameter, ...]
    """The parameters that can be trained, in the order of registration."""
    assumes_optimizer: bool
    """Whether the optimizer is assumed, because neither the model nor the user names one."""
    may_count_buffers: bool
    """Whether buffers may be among the parameters: a checkpoint that names no class does not tell them apart."""
    schedule_warnings: tuple[str, ...]
    """What the user should know of the schedule."""
    estimate_warnings: tuple[str, ...]
    """Why something is not known."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings."""
        return (*self.schedule_warnings, *self.estimate_warnings)
