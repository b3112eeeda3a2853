"""Tries the new optimizers and lr schedulers of a schedule, so that none fails in the middle of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import LBFGS, Optimizer

from phasewire.adapters.errors import ScheduleError
from phasewire.app.phases.optimizer_checks import require_supported_lr_scheduler
from phasewire.app.phases.param_groups import phase_groups
from phasewire.app.phases.reinit import construct_lr_scheduler, construct_optimizer

if TYPE_CHECKING:
    from torch.nn import Parameter

    from phasewire.app.schedule.model import LRSchedulerReinit, OptimizerReinit
    from phasewire.app.schedule.validate import ResolvedSchedule

__all__ = ["ReinitTrial"]

# Any: torch's groups hold options of every type.
Groups = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ReinitTrial:
    """Constructs what the phases of a schedule start anew, and throws it away."""

    schedule: ResolvedSchedule
    """The resolved schedule."""
    final_depth: int
    """The last phase to train."""
    optimizer: Optimizer
    """The optimizer that the module configured, with the groups of phase 0."""
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
            ScheduleError: A constructor refuses its arguments; or the optimizer cannot hold several groups; or
                ``init_pg_lrs`` has more rates than there are groups; or there is no metric to step with.
        """
        depths = self._depths_to_try()
        if not depths:
            return
        first: Groups = [{"params": group["params"]} for group in self.optimizer.param_groups]
        held = {id(parameter) for group in first for parameter in group["params"]}
        later = [self._groups(depth, held) for depth in range(1, max(depths) + 1)]
        tried = Optimizer([*first], dict(self.optimizer.defaults))
        for depth in sorted(depths):
            phase, where = self.schedule.phases[depth], f"phase {depth}"
            before = [*first, *chain.from_iterable(later[: depth - 1])]
            if phase.new_optimizer is not None:
                tried = _tried_optimizer(phase.new_optimizer, before, where)
            if phase.new_lr_scheduler is not None:
                with_phase = [*before, *later[depth - 1]]
                self._try_lr_scheduler(phase.new_lr_scheduler, tried, len(before), with_phase, where)

    def _depths_to_try(self) -> frozenset[int]:
        first_and_last: dict[str, tuple[int, int]] = {}
        for depth, phase in enumerate(self.schedule.phases[: self.final_depth + 1]):
            for anew in (phase.new_optimizer, phase.new_lr_scheduler):
                if anew is not None:
                    first, _ = first_and_last.setdefault(repr(anew), (depth, depth))
                    first_and_last[repr(anew)] = (first, depth)
        return frozenset(chain.from_iterable(first_and_last.values()))

    def _groups(self, depth: int, held: AbstractSet[int]) -> Groups:
        parameters = self.parameters_of(depth)
        free = {name: parameter for name, parameter in parameters.items() if id(parameter) not in held}
        return phase_groups(free, list(free), no_decay=self.no_decay)

    def _try_lr_scheduler(
        self, reinit: LRSchedulerReinit, optimizer: Optimizer, existing: int, groups: Groups, where: str
    ) -> None:
        where = f"{where}, new_lr_scheduler"
        _check_rates(reinit, existing, len(groups), where)
        holding = Optimizer([dict(group) for group in groups], dict(optimizer.defaults))
        config = construct_lr_scheduler(reinit, holding, where=where)
        require_supported_lr_scheduler(type(config.scheduler), where, allow_untested=self.allow_untested)
        if self.steps_lr_schedulers and config.reduce_on_plateau and config.monitor is None:
            raise ScheduleError(
                f"{type(config.scheduler).__name__} is stepped with a metric, and none is named.",
                where=where,
                remedy="Name it: pl_lrs_cfg: {monitor: val_loss}.",
            )


def _tried_optimizer(reinit: OptimizerReinit, groups: Groups, where: str) -> Optimizer:
    where = f"{where}, new_optimizer"
    tried = construct_optimizer(reinit, [dict(group) for group in groups], where=where)
    if isinstance(tried, LBFGS):
        raise ScheduleError(
            "LBFGS holds a single parameter group, so no phase can start with it.",
            where=where,
            remedy="Use another optimizer.",
        )
    return tried


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
