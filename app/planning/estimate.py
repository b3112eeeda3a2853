"""What each phase of a schedule comes to: memory, and learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from phasewire.app.planning.footprint import FootprintCounter
from phasewire.app.planning.optimizers import ParameterKind, PlannedOptimizer, new_optimizer
from phasewire.app.planning.rates import GroupRates
from phasewire.app.planning.values import PlannedPhase

if TYPE_CHECKING:
    from torch import nn

    from phasewire.app.planning.precision import TrainedType
    from phasewire.app.schedule.model import ClassInit, OptimizerReinit
    from phasewire.app.schedule.resolved import ResolvedPhase

__all__ = ["Estimate"]


class Estimate:
    """Works out what each phase comes to, as the phases before it left things.

    Args:
        optimizer: The optimizer of phase 0; ``None`` where it is not known.
        groups: The group of each parameter in that optimizer.
        named: The parameters that can be trained, by name.
        trained_type: Tells in which type they are trained.
        has_no_decay: Whether each phase has a second group, without weight decay.
    """

    def __init__(
        self,
        optimizer: PlannedOptimizer | None,
        groups: Mapping[str, int],
        named: Mapping[str, nn.Parameter],
        trained_type: TrainedType,
        *,
        has_no_decay: bool,
    ) -> None:
        self._optimizers = [] if optimizer is None else [optimizer]
        self._started: dict[int, PlannedOptimizer] = {}
        self._groups = groups
        self._named = named
        self._trained_type = trained_type
        self._groups_a_phase = 2 if has_no_decay else 1
        self._footprint = FootprintCounter(optimizer)
        self._rates = None if optimizer is None else GroupRates(optimizer.rates)
        self._thawed = 0

    @property
    def problems(self) -> list[str]:
        """Why the state of an optimizer is not known."""
        return [optimizer.problem for optimizer in self._optimizers if optimizer.problem is not None]

    def begin(self, depth: int, phase: ResolvedPhase, names: Sequence[str], *, moves_on: str) -> PlannedPhase:
        """Begin the next phase.

        Args:
            depth: Its number.
            phase: The phase.
            names: The names of the parameters that it thaws and can train.
            moves_on: When it ends, in words.

        Returns:
            What it comes to.

        Raises:
            ScheduleError: A new optimizer refused its arguments.
        """
        parameters = sum(self._named[name].numel() for name in names)
        self._thawed += parameters
        if phase.new_optimizer is not None:
            self._start_optimizer(depth, phase.new_optimizer)
        self._footprint.thaw(self._kinds(names))
        new_rates, all_rates = self._begin_groups(depth, phase, len(names))
        started = [init.class_path for init in _started_anew(phase)]
        return PlannedPhase(
            depth=depth,
            names=len(names),
            parameters=parameters,
            thawed=self._thawed,
            gradient_bytes=self._footprint.gradient_bytes,
            optimizer_bytes=self._footprint.optimizer_bytes,
            group_rates=new_rates,
            all_rates=all_rates,
            begins_with=tuple(started),
            moves_on=moves_on,
        )

    def _kinds(self, names: Sequence[str]) -> Iterator[ParameterKind]:
        for name in names:
            parameter = self._named[name]
            yield ParameterKind(
                tuple(parameter.shape), self._trained_type.of(parameter.dtype), self._groups.get(name, 0)
            )

    def _start_optimizer(self, depth: int, reinit: OptimizerReinit) -> None:
        # A setting gives every phase the same one.
        if id(reinit) not in self._started:
            self._started[id(reinit)] = new_optimizer(reinit, where=f"phase {depth}, new_optimizer")
            self._optimizers.append(self._started[id(reinit)])
        optimizer = self._started[id(reinit)]
        self._groups = {}
        self._footprint.replace_optimizer(optimizer)
        if self._rates is not None:
            self._rates.start_optimizer(optimizer.rates[0])

    def _begin_groups(
        self, depth: int, phase: ResolvedPhase, names: int
    ) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
        count = self._groups_a_phase if names else 0
        if self._rates is None:
            return () if phase.lr is None else (phase.lr,) * count, None
        new = self._rates.rates if depth == 0 else self._rates.add(count, phase.lr)
        if phase.new_lr_scheduler is None:
            return new, None
        if not self._rates.start_lr_scheduler(phase.new_lr_scheduler):
            return new, None
        every = self._rates.rates
        # A schedule may have thousands of groups in each of thousands of phases, and few rates.
        return every[len(every) - len(new) :], tuple(dict.fromkeys(every))


def _started_anew(phase: ResolvedPhase) -> Iterator[ClassInit]:
    if phase.new_optimizer is not None:
        yield phase.new_optimizer.optimizer_init
    if phase.new_lr_scheduler is not None:
        yield phase.new_lr_scheduler.lr_scheduler_init
