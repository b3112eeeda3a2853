"""A schedule that is ready to be trained: patterns expanded, defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from phasewire.app.schedule.model import LRSchedulerReinit, OptimizerReinit, Schedule, reinit_to_dict
from phasewire.app.schedule.numbering import require_contiguous
from phasewire.app.schedule.places import Places
from phasewire.app.schedule.problems import joined
from phasewire.app.schedule.reinit import check_reinit
from phasewire.app.schedule.rules import check_phase_zero

__all__ = ["ResolvedPhase", "ResolvedSchedule"]


@dataclass(frozen=True, slots=True)
class ResolvedPhase:
    """One phase, ready to be trained."""

    params: tuple[str, ...]
    """The names the phase thaws; they are the adapter's names, which need not be the module's."""
    max_transition_epoch: int
    """The epoch, from 0, at which the next phase begins at the latest; -1: only early stopping moves on."""
    lr: float | None
    """The learning rate of the phase's groups; ``None``, and always in phase 0, leaves the optimizer's own."""
    new_optimizer: OptimizerReinit | None = None
    """The optimizer the phase starts with; ``None`` keeps the one that is there."""
    new_lr_scheduler: LRSchedulerReinit | None = None
    """The lr scheduler the phase starts with; ``None`` keeps the one that is there."""

    # Any: the values are those of the schedule file.
    def to_dict(self) -> dict[str, Any]:
        """Give the phase as plain Python.

        Returns:
            ``params``, ``max_transition_epoch``, ``lr`` unless it is ``None``, and what the phase starts anew; nothing
            in it is shared with the phase.
        """
        content: dict[str, Any] = {"params": list(self.params), "max_transition_epoch": self.max_transition_epoch}
        if self.lr is not None:
            content["lr"] = self.lr
        content.update(reinit_to_dict(self.new_optimizer, self.new_lr_scheduler))
        return content


@dataclass(frozen=True, slots=True)
class ResolvedSchedule:
    """A schedule, ready to be trained."""

    phases: tuple[ResolvedPhase, ...]
    """The phases by depth, from 0."""
    warnings: tuple[str, ...] = ()
    """What the user should know; whoever asked for the schedule emits them."""

    @property
    def final_depth(self) -> int:
        """The number of the last phase."""
        return len(self.phases) - 1

    @property
    def highest_transition_epoch(self) -> int:
        """The highest ``max_transition_epoch`` of any phase, -1 when none has one.

        Where the last phase has one, the training ends at the greater of this and ``max_epochs``.
        """
        return max(phase.max_transition_epoch for phase in self.phases)

    # Any: as in ResolvedPhase.to_dict.
    def to_dict(self) -> dict[int, dict[str, Any]]:
        """Give the schedule as plain Python, as adapters see it.

        Returns:
            Depth to the keys of the schedule file.
        """
        return {depth: phase.to_dict() for depth, phase in enumerate(self.phases)}

    def starting_anew(
        self, *, optimizer: OptimizerReinit | None, lr_scheduler: LRSchedulerReinit | None
    ) -> ResolvedSchedule:
        """Let every phase after the first start with another optimizer, lr scheduler, or both.

        Args:
            optimizer: The optimizer; ``None`` leaves what the phases say.
            lr_scheduler: The lr scheduler; ``None`` leaves what the phases say.

        Returns:
            The schedule, with a warning for every kind of key that no longer counts.
        """
        wanted = {"new_optimizer": optimizer, "new_lr_scheduler": lr_scheduler}
        changes: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
        if not changes:
            return self
        overruled = [
            f"{key} of phase{'s' if len(depths) > 1 else ''} {joined(depths)} does not count: a setting of the "
            "FinetuningScheduler says what every phase starts with."
            for key in changes
            if (depths := [depth for depth, phase in enumerate(self.phases) if getattr(phase, key) is not None])
        ]
        first, *later = self.phases
        return ResolvedSchedule((first, *(replace(phase, **changes) for phase in later)), (*self.warnings, *overruled))

    @classmethod
    def from_dict(cls, mapping: Mapping[Any, Any], *, base_max_lr: float | None = None) -> ResolvedSchedule:
        """Take over a plain schedule that an adapter has resolved by itself.

        Names are taken as they are: no pattern is expanded, and they need not be names of the module.

        Args:
            mapping: Depth to the keys of the schedule file. Any: what is in it is checked here.
            base_max_lr: The learning rate of phases after the first that give none; ``None`` leaves the optimizer's.

        Returns:
            The schedule.

        Raises:
            ScheduleError: It is no schedule: the depths do not go from 0 without gaps, a key or value cannot be used,
                or phase 0 has no params.
        """
        schedule, places = Schedule.from_mapping(mapping), Places()
        require_contiguous(schedule, places)
        warnings = check_phase_zero(schedule, places)
        check_reinit(schedule, places)
        params = [tuple(dict.fromkeys(phase.params)) for phase in schedule.phases]
        return cls.assembled(schedule, params, warnings, base_max_lr=base_max_lr)

    @classmethod
    def assembled(
        cls,
        schedule: Schedule,
        params: Sequence[tuple[str, ...]],
        warnings: Sequence[str],
        *,
        base_max_lr: float | None,
    ) -> ResolvedSchedule:
        """Join a checked schedule with the parameters of its phases.

        Args:
            schedule: The schedule, its phases numbered from 0 without gaps.
            params: The names every phase thaws.
            warnings: What the user should know.
            base_max_lr: The learning rate of phases after the first that give none.

        Returns:
            The schedule.
        """
        phases = tuple(
            ResolvedPhase(
                params=names,
                max_transition_epoch=phase.max_transition_epoch,
                lr=None if depth == 0 else base_max_lr if phase.lr is None else phase.lr,
                new_optimizer=phase.new_optimizer,
                new_lr_scheduler=phase.new_lr_scheduler,
            )
            for depth, (phase, names) in enumerate(zip(schedule.phases, params, strict=True))
        )
        return cls(phases, tuple(warnings))
