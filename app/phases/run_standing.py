"""Where a run stands, gathered for people: what is trained, at which rates, and how the phase began."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING

from phasewire.app.watching.standing import MOST_GROUPS, Group, PhaseBegun, Restored, Standing, Thawed
from phasewire.app.watching.words import what_ends

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from phasewire.adapters.transitions import PhaseProgress
    from phasewire.app.phases.optimization import PhaseOptimization
    from phasewire.app.phases.phase_criteria import PhaseCriteria

__all__ = ["RunStanding"]


class RunStanding:
    """Keeps count of what is thawed, and of which phase each group of the optimizer is.

    Args:
        trainer: The running Trainer.
        module: The module, complete and not yet set up by the strategy.
        optimization: Knows the optimizer's groups.
        criteria: End the phases.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        optimization: PhaseOptimization,
        criteria: PhaseCriteria,
    ) -> None:
        self._trainer = trainer
        self._optimization = optimization
        self._criteria = criteria
        self._thawed = Thawed(module)
        self._group_phases: list[int | None] = []

    def note_thawed(self, depth: int, names: Sequence[str]) -> None:
        """Count what a phase has thawed.

        Args:
            depth: The phase.
            names: Names of ``module.named_parameters()``.
        """
        self._thawed.add(depth, self._optimization.recorded(names))

    def note_all_groups(self) -> None:
        """Find out of which phase each group is: once, as it lists the module."""
        groups = self._optimization.recorded_groups()
        self._group_phases = [self._thawed.phase_of(group[0]) if group else None for group in groups]

    def note_new_groups(self, depth: int) -> None:
        """Note that a phase has added groups, without listing the module: a further phase costs no more than the first.

        Args:
            depth: The phase.
        """
        count = len(self._optimization.optimizer.param_groups)
        del self._group_phases[count:]
        self._group_phases += [depth] * (count - len(self._group_phases))

    def now(self, progress: PhaseProgress) -> Standing:
        """Tell where the run stands.

        Args:
            progress: The phase being trained.

        Returns:
            Where it stands.
        """
        optimizers = self._trainer.optimizers
        groups = optimizers[0].param_groups if optimizers else []
        first = max(0, len(groups) - MOST_GROUPS)
        phases = chain(self._group_phases[first:], repeat(None))
        rates = [group["lr"] for group in groups]
        return Standing(
            depth=progress.depth,
            final_depth=progress.final_depth,
            trained=self._thawed.trained,
            total=self._thawed.total,
            groups=tuple(
                Group(number, float(rates[number]), phase)
                for number, phase in zip(range(first, len(groups)), phases, strict=False)
            ),
            rate_range=(float(min(rates)), float(max(rates))) if rates else None,
            ends=what_ends(self._criteria.built, progress),
        )

    def begun(
        self,
        progress: PhaseProgress,
        *,
        names: Sequence[str],
        shown_names: Iterable[str],
        ended_by: Iterable[str],
        restored: Restored | None,
    ) -> PhaseBegun:
        """Tell how a phase has begun.

        Args:
            progress: The phase.
            names: What it thawed, as names of ``module.named_parameters()``.
            shown_names: The same as names of the schedule.
            ended_by: The criteria that ended the phase before.
            restored: The checkpoint that was restored; ``None`` without.

        Returns:
            What happened.
        """
        return PhaseBegun(
            standing=self.now(progress),
            epoch=self._trainer.current_epoch,
            names=tuple(shown_names),
            parameters=self._thawed.add(progress.depth, self._optimization.recorded(names)),
            ended_by=tuple(ended_by),
            restored=restored,
        )
