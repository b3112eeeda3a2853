"""Tries the new optimizers and lr schedulers of a schedule, so that none fails in the middle of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from warnings import catch_warnings, simplefilter

from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import LBFGS, Optimizer

from phasewire.adapters.errors import ScheduleError
from phasewire.app.phases.optimizer_checks import refuse_overlap, require_usable_lr_scheduler
from phasewire.app.phases.param_groups import phase_groups
from phasewire.app.phases.reinit import construct_lr_scheduler, construct_optimizer

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import LRSchedulerConfig
    from torch.nn import Parameter

    from phasewire.app.schedule.model import LRSchedulerReinit, OptimizerReinit
    from phasewire.app.schedule.validate import ResolvedSchedule

__all__ = ["ReinitTrial"]

#: The first step of many lr schedulers is special.
_TRIED_STEPS: Final = 2

# Any: torch's groups hold options of every type.
Groups = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ReinitTrial:
    """Constructs what the phases of a schedule start anew, and throws it away."""

    schedule: ResolvedSchedule
    """The resolved schedule."""
    depths: range
    """The phases that are still to begin."""
    optimizer: Optimizer
    """The optimizer there is now, with the groups it has."""
    parameters_of: Callable[[int], Mapping[str, Parameter]]
    """Gives the parameters of a phase by name."""
    no_decay: Sequence[str] | None
    """Parts of names of parameters that get no weight decay."""
    allow_untested: bool
    """Whether lr schedulers pass that are not known to work."""
    steps_lr_schedulers: bool
    """Whether Lightning steps lr schedulers; it must know the metric to step some of them with."""

    def run(self) -> None:
        """Construct what differs in kind, with the fewest and with the most groups it will have.

        Raises:
            ConfigError: An lr scheduler is not known to work.
            ScheduleError: A constructor refuses its arguments; or the optimizer cannot hold several groups, or has no
                learning rates; or ``init_pg_lrs`` has more rates than there are groups; or Lightning would step the lr
                scheduler in a way that it cannot be.
        """
        tried_depths = self._depths_to_try()
        if not tried_depths:
            return
        first: Groups = [{"params": group["params"]} for group in self.optimizer.param_groups]
        held = {id(parameter) for group in first for parameter in group["params"]}
        added = {depth: self._groups(depth, held) for depth in self.depths}
        optimizer = Optimizer([*first], {"lr": 0.0, **self.optimizer.defaults})
        for depth in sorted(tried_depths):
            phase, where = self.schedule.phases[depth], f"phase {depth}"
            before = [*first, *chain.from_iterable(added[each] for each in self.depths if each < depth)]
            with_phase = [*before, *added[depth]]
            if phase.new_optimizer is not None:
                optimizer = _tried_optimizer(phase.new_optimizer, before, where)
                later = chain.from_iterable(added[each] for each in self._life_of_optimizer(depth))
                _tried_optimizer(phase.new_optimizer, [*before, *later], where)
            if phase.new_lr_scheduler is not None:
                self._try_lr_scheduler(
                    phase.new_lr_scheduler,
                    optimizer,
                    len(before),
                    with_phase,
                    where,
                    adds_groups=depth + 1 < self.depths.stop,
                )

    def _depths_to_try(self) -> frozenset[int]:
        first_and_last: dict[str, tuple[int, int]] = {}
        for depth in self.depths:
            phase = self.schedule.phases[depth]
            for anew in (phase.new_optimizer, phase.new_lr_scheduler):
                if anew is not None:
                    first, _ = first_and_last.setdefault(repr(anew), (depth, depth))
                    first_and_last[repr(anew)] = (first, depth)
        return frozenset(chain.from_iterable(first_and_last.values()))

    def _life_of_optimizer(self, started: int) -> range:
        """The phases that add groups to an optimizer that a phase starts."""
        phases = self.schedule.phases
        following = range(started + 1, self.depths.stop)
        end = next((depth for depth in following if phases[depth].new_optimizer is not None), self.depths.stop)
        return range(started, end)

    def _groups(self, depth: int, held: AbstractSet[int]) -> Groups:
        parameters = self.parameters_of(depth)
        free = {name: parameter for name, parameter in parameters.items() if id(parameter) not in held}
        return phase_groups(free, list(free), no_decay=self.no_decay)

    def _try_lr_scheduler(
        self,
        reinit: LRSchedulerReinit,
        optimizer: Optimizer,
        existing: int,
        groups: Groups,
        where: str,
        *,
        adds_groups: bool,
    ) -> None:
        where = f"{where}, new_lr_scheduler"
        _check_rates(reinit, existing, len(groups), where)
        holding = Optimizer([{**group, "lr": 1.0, "initial_lr": 1.0} for group in groups], dict(optimizer.defaults))
        config = construct_lr_scheduler(reinit, holding, where=where)
        require_usable_lr_scheduler(
            config.scheduler, where, adds_groups=adds_groups, allow_untested=self.allow_untested
        )
        if self.steps_lr_schedulers:
            _check_stepping(config, where)
        _try_steps(config, where)


def _tried_optimizer(reinit: OptimizerReinit, groups: Groups, where: str) -> Optimizer:
    where = f"{where}, new_optimizer"
    tried = construct_optimizer(reinit, [dict(group) for group in groups], where=where)
    refuse_overlap(tried, where)
    if isinstance(tried, LBFGS):
        raise ScheduleError(
            "LBFGS holds a single parameter group, so no phase can start with it.",
            where=where,
            remedy="Use another optimizer.",
        )
    return tried


def _try_steps(config: LRSchedulerConfig, where: str) -> None:
    """Step an lr scheduler: some take arguments that no step can use."""
    metric = (0.0,) if config.reduce_on_plateau else ()
    try:
        with catch_warnings():
            simplefilter("ignore")  # the optimizer should step first, and this one cannot
            for _ in range(_TRIED_STEPS):
                config.scheduler.step(*metric)
    except Exception as error:
        raise ScheduleError(
            f"{type(config.scheduler).__name__} could not be stepped: {type(error).__name__}: {error}.",
            where=where,
            remedy="Check its init_args.",
        ) from error


def _check_stepping(config: LRSchedulerConfig, where: str) -> None:
    name = type(config.scheduler).__name__
    takes_metric = "metrics" in signature(config.scheduler.step).parameters
    if config.reduce_on_plateau and not takes_metric:
        raise ScheduleError(
            f"reduce_on_plateau steps an lr scheduler with a metric, and {name} takes none.",
            where=f"{where}, pl_lrs_cfg.reduce_on_plateau",
            remedy="Remove the key.",
        )
    if takes_metric and not config.reduce_on_plateau:
        raise ScheduleError(
            f"{name} is stepped with a metric, and reduce_on_plateau is off.",
            where=f"{where}, pl_lrs_cfg.reduce_on_plateau",
            remedy="Remove the key, or set it to true.",
        )
    if config.reduce_on_plateau and config.monitor is None:
        raise ScheduleError(
            f"{name} is stepped with a metric, and none is named.",
            where=where,
            remedy="Name it: pl_lrs_cfg: {monitor: val_loss}.",
        )


def _check_rates(reinit: LRSchedulerReinit, existing: int, groups: int, where: str) -> None:
    rates = existing if reinit.init_pg_lrs is None else len(reinit.init_pg_lrs)
    if rates > groups:
        raise ScheduleError(
            f"init_pg_lrs gives {rates} learning rates, and the optimizer has {groups} parameter groups in this phase.",
            where=where,
            remedy="Give one for each group of the phases before (two a phase where the module defines no_decay).",
        )
    if rates < existing:
        rank_zero_warn(
            f"{where}: init_pg_lrs gives {rates} learning rates, and the phases before have {existing} parameter "
            "groups. The other groups go on with the rates they have."
        )
