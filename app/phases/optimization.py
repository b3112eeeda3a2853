"""Keeps the optimizer and the lr schedulers of a fit in line with the phases of the schedule."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.adapters.sharded_checkpoints import ShardedCheckpoints
from phasewire.app.phases.module_parameters import HeldParameters, ModuleParameters
from phasewire.app.phases.param_groups import (
    GroupNames,
    LearningRates,
    add_phase_groups,
    default_rate,
    extend_lr_schedulers,
    group_names,
    rebuild_groups,
    restart_with_groups,
)
from phasewire.app.phases.reinit import attach, construct_lr_scheduler, construct_optimizer, set_starting_rates
from phasewire.app.phases.rollback import optimizers_kept_on_failure
from phasewire.app.phases.state import OptimizationState

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.schedule.model import OptimizerReinit
    from phasewire.app.schedule.validate import ResolvedSchedule

__all__ = ["PhaseOptimization"]


class PhaseOptimization:
    """The optimizer and the lr schedulers of one fit.

    They are those that the module configures, until a phase starts with new ones.

    Args:
        trainer: The Trainer that fits.
        module: The module being tuned.
        schedule: The resolved schedule.
        names_of: Gives the module's names of the parameters of a phase.
        parameters: Finds the module's parameters by name.
        adapter: The connected adapter, which may record other names than those the module has now.
        apply_lambdas: Multiply the rate of new groups by the newest lambda of an lr scheduler that has lambdas.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        schedule: ResolvedSchedule,
        names_of: Callable[[int], list[str]],
        *,
        parameters: ModuleParameters,
        adapter: StrategyAdapter,
        apply_lambdas: bool,
    ) -> None:
        self._trainer = trainer
        self._module = module
        self._schedule = schedule
        self._names_of: Callable[[int], list[str]] = lambda depth: list(map(self.name_of, names_of(depth)))
        self._names_in_module = names_of
        self._parameters = parameters
        self._held = HeldParameters()
        self._adapter = adapter
        self._apply_lambdas = apply_lambdas
        self._state = OptimizationState()

    # -- what there is -------------------------------------------------------------------------------------------

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer of the phase being trained."""
        return self._trainer.optimizers[0]

    @property
    def lr_schedulers(self) -> list[LRScheduler]:
        """The lr schedulers of the phase being trained."""
        return [config.scheduler for config in self._trainer.lr_scheduler_configs]

    def name_of(self, name: str) -> str:
        """Give the name under which a parameter is known here, which is also the one that a checkpoint holds.

        Args:
            name: A name of ``module.named_parameters()``.

        Returns:
            The name without what wrappers put in, because another run may wrap other parts; an adapter that records
            names itself is given them as they are.
        """
        return name if isinstance(self._adapter, ShardedCheckpoints) else unwrapped_name(name)

    def group_names(self) -> GroupNames:
        """Name the parameters of every group of the optimizer.

        Returns:
            For every group, the names of its parameters in the group's order.

        Raises:
            ConfigError: The optimizer holds a tensor that is no parameter of the module.
        """
        return group_names(self.optimizer, self._named_parameters())

    def recorded_groups(self) -> GroupNames:
        """Name the parameters of every group as a checkpoint records them.

        Returns:
            For every group, the names of its parameters before the module was wrapped; nothing without an optimizer.
        """
        return [self.recorded(names) for names in self.group_names()] if self._trainer.optimizers else []

    def recorded(self, names: Sequence[str]) -> list[str]:
        """Give the names that a checkpoint records.

        Args:
            names: Names of ``module.named_parameters()``.

        Returns:
            The names before the module was wrapped.
        """
        adapter = self._adapter
        return adapter.recorded_names(names) if isinstance(adapter, ShardedCheckpoints) else list(names)

    def snapshot(self) -> OptimizationState:
        """Give what a checkpoint must tell, so that the optimizer's state can be loaded from it.

        Returns:
            The state.
        """
        return OptimizationState(
            groups=self.recorded_groups(),
            optimizer_phase=self._state.optimizer_phase,
            lr_scheduler_phase=self._state.lr_scheduler_phase,
            lr_scheduler_groups=self._state.lr_scheduler_groups,
            without_decay=list(self._state.without_decay),
        )

    def try_new(
        self,
        depths: range,
        parameters_of: Callable[[int], Mapping[str, Parameter]],
        *,
        allow_untested: bool,
    ) -> None:
        """Construct every new optimizer and lr scheduler of the schedule once, and throw it away.

        Args:
            depths: The phases that are still to begin.
            parameters_of: Gives the parameters of a phase by name.
            allow_untested: Let lr schedulers pass that are not known to work.

        Raises:
            ConfigError: An lr scheduler is not known to work.
            ScheduleError: One cannot be constructed, or could not do its work.
        """
        from phasewire.app.phases.reinit_trial import ReinitTrial  # most fits have nothing to try

        ReinitTrial(
            self._schedule,
            depths,
            self.optimizer,
            parameters_of,
            no_decay=self._no_decay,
            allow_untested=allow_untested,
            steps_lr_schedulers=self._module.automatic_optimization,
        ).run()

    # -- from phase to phase -------------------------------------------------------------------------------------

    def hold_phase_zero(self) -> None:
        """Make the optimizer hold the parameters of phase 0 and no others, as if it had been configured so."""
        restart_with_groups(
            self.optimizer, self.lr_schedulers, self._named_parameters(), self._names_of(0), no_decay=self._no_decay
        )

    def begin_phase(self, depth: int) -> None:
        """Add the parameters of a phase, and start the optimizer and the lr scheduler anew where the phase says so.

        Args:
            depth: The phase that begins.

        Raises:
            ScheduleError: A new optimizer or lr scheduler refused its arguments.
        """
        phase = self._schedule.phases[depth]
        if phase.new_optimizer is not None:
            self._replace_optimizer(phase.new_optimizer, depth, with_own_rate=self._groups_with_own_rate(depth))
        self._add_groups(depth)
        if phase.new_lr_scheduler is not None:
            set_starting_rates(phase.new_lr_scheduler, self.optimizer)
            self._replace_lr_schedulers(depth)

    @contextmanager
    def kept_on_failure(self, depth: int, *, is_plain: bool) -> Iterator[None]:
        """Put everything back but the weights and what the optimizer learned, if the block fails.

        Args:
            depth: The phase that the block begins.
            is_plain: The block restores no checkpoint, and runs no code of others that could change groups.
        """
        phase = self._schedule.phases[depth]
        only_adds = is_plain and phase.new_optimizer is None and phase.new_lr_scheduler is None
        before = replace(self._state)
        try:
            with optimizers_kept_on_failure(self._trainer, only_adds_groups=only_adds):
                yield
        except BaseException:
            self._state = before
            raise

    def take_over(self, saved: OptimizationState, load: Callable[[], None]) -> None:
        """Go back to the optimizer's state in a checkpoint of this run, and keep the rates of now.

        The groups of phases that the checkpoint does not know stay, with no state. If the optimizer was started anew
        since then, it starts anew once more: the state that it has belongs to weights that are no longer there.

        Args:
            saved: What :meth:`snapshot` gave when the checkpoint was written.
            load: Loads the optimizer's state from the checkpoint.

        Raises:
            CheckpointError: The module lacks a parameter that the optimizer held.
        """
        newest, groups = LearningRates(self.optimizer), self.optimizer.param_groups
        if saved.optimizer_phase == self._state.optimizer_phase:
            rebuild_groups(self.optimizer, [], self._named_parameters(), self._names_of_recorded(saved.groups))
            load()
            for group in groups[len(saved.groups) :]:
                self.optimizer.add_param_group(group)
        else:
            self._replace_optimizer(self._new_optimizer_of(self._state.optimizer_phase), self._state.optimizer_phase)
        newest.put_back(self.optimizer)

    def resume(self, saved: OptimizationState) -> None:
        """Make optimizer and lr schedulers into which Lightning can load the states of a checkpoint.

        Args:
            saved: What :meth:`snapshot` gave when the checkpoint was written.

        Raises:
            CheckpointError: The module lacks a parameter that the optimizer held, or the schedule starts no new
                optimizer or lr scheduler where the run did.
        """
        names = self._names_of_recorded(saved.groups)
        rebuild_groups(self.optimizer, self.lr_schedulers, self._named_parameters(), names)
        if saved.optimizer_phase:
            self._replace_optimizer(self._new_optimizer_of(saved.optimizer_phase), saved.optimizer_phase)
        self._state.without_decay = list(saved.without_decay)
        if saved.lr_scheduler_phase:
            groups = self.optimizer.param_groups
            self.optimizer.param_groups = groups[: saved.lr_scheduler_groups]
            self._replace_lr_schedulers(saved.lr_scheduler_phase)
            self.optimizer.param_groups = groups
            extend_lr_schedulers(self.lr_schedulers, len(groups), base_lr=default_rate(self.optimizer))

    # -- steps ---------------------------------------------------------------------------------------------------

    def _add_groups(self, depth: int) -> None:
        lr = self._schedule.phases[depth].lr
        first_group = self.optimizer.param_groups[0]
        named = self._parameters.named(self._names_in_module(depth))
        add_phase_groups(
            self.optimizer,
            self.lr_schedulers,
            {self.name_of(name): parameter for name, parameter in named.items()},
            held=self._held.ids(self.optimizer),
            lr=first_group.get("initial_lr", first_group["lr"]) if lr is None else lr,
            no_decay=self._no_decay,
            apply_lambdas=self._apply_lambdas,
        )
        self._held.note_added(self.optimizer)

    def _replace_optimizer(self, reinit: OptimizerReinit, depth: int, *, with_own_rate: Collection[int] = ()) -> None:
        """Construct an optimizer with the groups and rates of the one there is, and none of its other options.

        The groups numbered in ``with_own_rate`` take the new optimizer's rate as their initial one.
        """
        old = self.optimizer
        newest = LearningRates(old)
        self._state.without_decay = self._groups_without_decay(old)
        new = construct_optimizer(reinit, self._regrouped(old), where=f"phase {depth}, new_optimizer")
        own = [group["initial_lr"] for group in new.param_groups]
        newest.put_back(new)
        for index in with_own_rate:
            new.param_groups[index]["initial_lr"] = own[index]
        attach(self.lr_schedulers, new)
        self._trainer.strategy.optimizers = [new]
        self._state.optimizer_phase = depth

    def _regrouped(self, old: Optimizer) -> list[dict[str, Any]]:  # Any: torch's groups hold options of every type
        groups: list[dict[str, Any]] = [
            {key: group[key] for key in ("params", "param_names") if key in group} for group in old.param_groups
        ]
        for index in self._state.without_decay:
            groups[index]["weight_decay"] = 0.0
        return groups

    def _groups_without_decay(self, old: Optimizer) -> list[int]:
        """Number the groups that are exempt from weight decay: by their names, or because only others have it.

        Those that were exempt under the optimizer before stay so: an optimizer without any decay shows none.
        """
        exempt = set(self._state.without_decay)
        parts = self._no_decay or ()
        has_decay = any(group.get("weight_decay") for group in (old.defaults, *old.param_groups))
        for index, (group, names) in enumerate(zip(old.param_groups, self.group_names(), strict=True)):
            by_name = parts and all(any(part in name for part in parts) for name in names)
            if by_name or (has_decay and group.get("weight_decay") == 0):
                exempt.add(index)
        return sorted(exempt)

    def _groups_with_own_rate(self, depth: int) -> list[int]:
        """Number the groups of phase 0, which start from a new optimizer's rate unless a phase gave them another."""
        earlier = (phase.new_lr_scheduler for phase in self._schedule.phases[1:depth])
        given = max((len(reinit.init_pg_lrs or ()) for reinit in earlier if reinit is not None), default=0)
        first = frozenset(self._names_of(0))
        return [
            index
            for index, names in enumerate(self.group_names())
            if index >= given and any(name in first for name in names)
        ]

    def _replace_lr_schedulers(self, depth: int) -> None:
        reinit = self._schedule.phases[depth].new_lr_scheduler
        if reinit is None:
            raise _not_started_anew("lr scheduler", depth)
        config = construct_lr_scheduler(reinit, self.optimizer, where=f"phase {depth}, new_lr_scheduler")
        self._trainer.strategy.lr_scheduler_configs = [config]
        self._state.lr_scheduler_phase = depth
        self._state.lr_scheduler_groups = len(self.optimizer.param_groups)

    def _new_optimizer_of(self, depth: int) -> OptimizerReinit:
        reinit = self._schedule.phases[depth].new_optimizer
        if reinit is None:
            raise _not_started_anew("optimizer", depth)
        return reinit

    def _names_of_recorded(self, groups: GroupNames) -> GroupNames:
        adapter = self._adapter
        return [adapter.names_of_recorded(g) for g in groups] if isinstance(adapter, ShardedCheckpoints) else groups

    def _named_parameters(self) -> dict[str, Parameter]:
        return {self.name_of(name): parameter for name, parameter in self._module.named_parameters()}

    @property
    def _no_decay(self) -> Sequence[str] | None:
        # Any module may define it: the names (or parts of names) that get no weight decay.
        return getattr(self._module, "no_decay", None)


def _not_started_anew(what: str, depth: int) -> CheckpointError:
    return CheckpointError(
        f"When the checkpoint was written, phase {depth} had started a new {what}, and in the schedule it does not.",
        remedy="Resume with the same schedule, reinit_optim_cfg and reinit_lr_cfg.",
    )
