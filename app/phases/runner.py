"""Trains one module through one schedule: thaws phases, keeps the optimizer in line, and decides when to move on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn

from phasewire.adapters import rank_zero
from phasewire.adapters.base import StrategyAdapter, thaw_parameters
from phasewire.adapters.errors import AdapterError, did_you_mean
from phasewire.adapters.sharded_checkpoints import ShardedCheckpoints
from phasewire.adapters.transitions import PhaseProgress
from phasewire.app.lightning_seams import forget_compiled_code
from phasewire.app.phases.adapter_calls import calling, require_names
from phasewire.app.phases.criteria import EpochCriterion
from phasewire.app.phases.load_hooks import is_given_checkpoints
from phasewire.app.phases.module_parameters import ModuleParameters
from phasewire.app.phases.optimization import PhaseOptimization
from phasewire.app.phases.optimizer_checks import require_usable_optimizer
from phasewire.app.phases.restore import restore_best
from phasewire.app.phases.rollback import ThawedState, runs_code_of_others
from phasewire.app.phases.run_standing import RunStanding
from phasewire.app.phases.schedule_changes import changes_between, record_of, require_resumable
from phasewire.app.phases.state import PhaseState, installed_versions
from phasewire.app.phases.strategy_support import support_for
from phasewire.app.phases.thaw import layers_to_thaw, layers_with_running_stats, resume_running_stats
from phasewire.app.watching.criterion_words import ended_by_words
from phasewire.app.watching.standing import PhaseBegun, Restored, Standing

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch.nn import Parameter

    from phasewire.app.phases.companions import Companions
    from phasewire.app.phases.phase_criteria import PhaseCriteria
    from phasewire.app.phases.saved_state import SavedState
    from phasewire.app.phases.thaw import BatchNorm
    from phasewire.app.schedule.validate import ResolvedSchedule
    from phasewire.app.settings import SchedulerSettings
    from phasewire.app.watching.fit_watch import FitWatch

__all__ = ["PhaseRunner"]


class PhaseRunner:
    """Takes a module through the phases of a resolved schedule during one fit.

    Args:
        trainer: The Trainer that fits.
        module: The module being tuned; it is complete and frozen.
        adapter: The connected adapter.
        schedule: The resolved schedule.
        settings: The settings of the scheduler.
        companions: The callbacks the run works with.
        criteria: Decide that a phase is over.
        watch: Tells people how it goes.
        saved_state: Tells that there is nothing to restore.

    Attributes:
        schedule: The resolved schedule.
        has_ended_training: A criterion has ended the last phase, and with it the training.
        resume_remark: What there is to say of the checkpoint that was resumed.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        adapter: StrategyAdapter,
        schedule: ResolvedSchedule,
        settings: SchedulerSettings,
        companions: Companions,
        criteria: PhaseCriteria,
        watch: FitWatch,
        *,
        saved_state: SavedState,
    ) -> None:
        self.schedule = schedule
        self.has_ended_training = False
        self.resume_remark = ""
        self._trainer = trainer
        self._module = module
        self._adapter = adapter
        self._settings = settings
        self._companions = companions
        self._criteria = criteria
        self._watch = watch
        self._saved_state = saved_state
        self._ended_by: list[str] = []
        self._support = support_for(trainer.strategy)
        # Once: a schedule of 50,000 phases takes a second.
        self._state = PhaseState(schedule=record_of(schedule), versions=installed_versions())
        self._parameters = ModuleParameters(module)
        self._undo: ThawedState | None = None
        self._optimization = PhaseOptimization(
            trainer,
            module,
            schedule,
            self._module_names,
            parameters=self._parameters,
            adapter=adapter,
            apply_lambdas=settings.apply_lambdas_new_pgs,
        )
        self._standing = RunStanding(trainer, module, self._optimization, criteria)

    # -- what it knows -------------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """The phase being trained, from 0."""
        return self._state.depth

    @property
    def final_depth(self) -> int:
        """The last phase that will be trained: the schedule's, unless ``max_depth`` comes before it."""
        wanted = self._settings.max_depth
        return self.schedule.final_depth if wanted == -1 else min(wanted, self.schedule.final_depth)

    def final_phase_begins_by(self) -> int | None:
        """Tell when the last phase begins at the latest.

        Returns:
            The epoch; ``None`` when no epoch ends one of the phases before.
        """
        if not self._criteria.uses(EpochCriterion):
            return None
        epoch = self._state.started_at_epoch
        for phase in self.schedule.phases[self.depth : self.final_depth]:
            if phase.max_transition_epoch < 0:
                return None
            epoch = max(epoch + 1, phase.max_transition_epoch)
        return epoch

    def snapshot(self) -> PhaseState:
        """Give the state to store in a checkpoint.

        Returns:
            The state, with the groups the optimizer has now.
        """
        return PhaseState(
            depth=self._state.depth,
            started_at_epoch=self._state.started_at_epoch,
            schedule=self._state.schedule,
            versions=self._state.versions,
            begun=self._state.begun,
            criteria=self._criteria.snapshot(self.depth),
            optimization=self._optimization.snapshot(),
        )

    def recorded_schedule(self) -> list[dict[str, Any]]:
        """Give the phases as plain values."""
        return self._state.schedule

    def standing(self) -> Standing:
        """Tell where the run stands, for people."""
        return self._standing.now(self._progress())

    def begun(self) -> PhaseBegun:
        """Tell in which phase the fit begins, for people.

        Returns:
            The phase.
        """
        self._standing.note_all_groups()
        return self._begun(self._module_names(self.depth), None)

    def _begun(self, names: list[str], restored: Restored | None) -> PhaseBegun:
        return self._standing.begun(
            self._progress(),
            names=names,
            shown_names=self._logical(names),
            ended_by=self._ended_by,
            restored=restored,
        )

    def begin(self) -> None:
        """Note that training begins in phase 0, with the optimizer as the schedule wants it."""
        self._state.begun = True
        self._state.started_at_epoch = self._trainer.current_epoch

    def begin_training(self) -> None:
        """Act when training begins.

        Criteria begin that have not resumed the phase, and a training that had ended when it was saved ends again.
        """
        self._criteria.begin_new(self._progress())
        self._end_training_if_over()

    # -- the beginning of a fit ----------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Freeze every parameter of the module."""
        self._support.before_thaw()
        self._adapter.fts_handle.freeze_before_training(self._module)

    def thaw_phase_zero(self) -> None:
        """Thaw the parameters the first phase trains."""
        names = self._module_names(0)
        self._thaw(names, init_thaw=True)
        self._standing.note_thawed(0, names)

    def extend_max_epochs(self) -> None:
        """Let the last phase run to the highest epoch of the schedule, when it has one of its own.

        That the greater of ``max_epochs`` and the schedule's epochs rules is the documented behaviour of FTS.
        """
        epochs = [phase.max_transition_epoch for phase in self.schedule.phases[: self.final_depth + 1]]
        limit = self._trainer.max_epochs
        if not self._criteria.uses(EpochCriterion):
            return
        if epochs[-1] < 0 or limit is None or limit < 0 or max(epochs) <= limit:
            return
        rank_zero.info(
            f"max_epochs was raised from {limit} to {max(epochs)}, because the schedule lets its last phase train "
            "until then. To end earlier, lower max_transition_epoch of the last phase, or leave it out."
        )
        self._trainer.fit_loop.max_epochs = max(epochs)

    def check_optimizer(self) -> None:
        """Make sure that groups can be added to what the module configured.

        Raises:
            ConfigError: They cannot; see :func:`require_usable_optimizer`.
        """
        allow_untested = self._settings.allow_untested
        require_usable_optimizer(
            self._trainer, self._module, adds_groups=self.final_depth > 0, allow_untested=allow_untested
        )

    def try_new_optimizers(self) -> None:
        """Make sure that the optimizers and lr schedulers that phases start with can be constructed.

        Raises:
            ConfigError: An lr scheduler is not known to work.
            ScheduleError: One cannot be constructed, or could not do its work.
        """
        known = self._named_parameters()

        def parameters_of(depth: int) -> dict[str, Parameter]:
            with calling(self._adapter, "fts_optim_inspect"):
                names = self._adapter.fts_optim_inspect(list(self.schedule.phases[depth].params))
            return {name: known[name] for name in names if name in known}

        self._optimization.try_new(
            range(self.depth + 1, self.final_depth + 1), parameters_of, allow_untested=self._settings.allow_untested
        )

    def check_phase_zero(self) -> None:
        """See that the optimizer holds the parameters of phase 0 and no others, and mend or report it if not."""
        scheduled = set(map(self._optimization.name_of, self._module_names(0)))
        held = [name for names in self._optimization.group_names() for name in names]
        if len(held) == len(scheduled) and set(held) == scheduled:
            return
        if self._settings.enforce_phase0_params:
            with calling(self._adapter, "phase0_optimizer_override"):
                self._adapter.phase0_optimizer_override()
            rank_zero.info(
                "configure_optimizers gave the optimizer other parameters than those of phase 0. It holds exactly "
                "these now, in groups with its default options; later phases add theirs. To keep groups of your own, "
                "give it only parameters with requires_grad=True."
            )
            return
        extra = self._readable(name for name in held if name not in scheduled)
        missing = self._readable(scheduled.difference(held))
        rank_zero_warn(
            "The optimizer does not hold exactly the parameters of phase 0, and enforce_phase0_params=False leaves it "
            f"so: what phase 0 thaws is trained only if the optimizer holds it. Not in phase 0: {extra or 'none'}. Not "
            f"in the optimizer: {missing or 'none'}. Give the optimizer the parameters with requires_grad=True, or "
            "leave enforce_phase0_params on."
        )

    def rebuild_phase_zero_groups(self) -> None:
        """Make the optimizer hold the parameters of phase 0 and no others."""
        wanted = frozenset(self._module_names(0))
        for name, parameter in self._module.named_parameters():
            # The module may have thawed more than phase 0 while it configured the optimizer.
            parameter.requires_grad = name in wanted
        self._optimization.hold_phase_zero()

    def resume(self, saved: PhaseState) -> None:
        """Go to the phase a checkpoint was written in; Lightning then loads the states of optimizer and schedulers.

        Args:
            saved: The state read from the checkpoint.

        Raises:
            CheckpointError: The phases up to that one are not those of the schedule, or lie beyond ``max_depth``; or
                the module lacks a parameter that the optimizer held.
        """
        self._require_same_phases(saved)
        self._state.begun = True
        self._state.depth = saved.depth
        self._state.started_at_epoch = saved.started_at_epoch
        self.thaw_to_depth()
        self._optimization.resume(saved.optimization)
        self._support.after_thaw()
        self._resume_criteria(saved)
        now = self._state.versions
        others = [f"{name} {was} (now {now.get(name)})" for name, was in saved.versions.items() if was != now.get(name)]
        self.resume_remark = (
            f" The checkpoint was written with {', '.join(others)}: the last bits may differ." if others else ""
        )

    # -- from phase to phase -------------------------------------------------------------------------------------

    def phase_is_over(self) -> bool:
        """Tell whether the next epoch belongs to the next phase; all processes get the same answer.

        Returns:
            Whether to move on, now that an epoch begins.
        """
        epoch = self._trainer.current_epoch
        # Epoch 0 is no exception to a max_transition_epoch of 0, which lets phase 0 end before it trains.
        if self.depth >= self.final_depth or (0 < epoch == self._state.started_at_epoch):
            return False
        self._ended_by = self._criteria.ending(self._progress())
        return self._support.agree(bool(self._ended_by))

    def look(self) -> None:
        """Let the criteria look at the metrics, now that a validation or an epoch without one is done."""
        self._criteria.look(self._progress(), self._support.agree)
        self._end_training_if_over()

    def advance(self) -> None:
        """Move on to the next phase, or fail and stay in this one."""
        before = replace(self._state)
        self._state.depth += 1
        self._state.started_at_epoch = self._trainer.current_epoch
        undo = self._undo = ThawedState()
        has_foreign_hooks = runs_code_of_others(self._adapter)
        if has_foreign_hooks:
            undo.note(self._module.parameters(), layers_with_running_stats(self._module))
        is_plain = not has_foreign_hooks and not self._settings.restore_best
        try:
            with self._optimization.kept_on_failure(self._state.depth, is_plain=is_plain):
                self.step()
        except BaseException as error:
            error.add_note(
                f"Phase {self._state.depth} did not begin, and the run stays in phase {before.depth}. Once the cause "
                "is mended, resume from the newest checkpoint with fit(ckpt_path=...), which begins the phase again."
            )
            self._state = before
            undo.put_back()
            raise
        finally:
            self._undo = None
        self._criteria.begin_phase(self._progress())

    def step(self) -> None:
        """Restore the best checkpoint if that is wanted, then thaw and optimize the phase at :attr:`depth`."""
        self._support.before_thaw()
        restored = self._restore_best()
        thawed = self._module_names(self.depth)
        self._thaw(thawed)
        self._standing.note_thawed(self.depth, thawed)
        self._optimization.begin_phase(self.depth)
        self._support.after_thaw()
        forget_compiled_code(self._module)
        self.tell_thawed()
        self._standing.note_new_groups(self.depth)
        self._watch.phase_began(self._begun(thawed, restored))

    def tell_thawed(self) -> None:
        """Tell the adapter that the parameters of the phase are thawed, and in the optimizer."""
        with calling(self._adapter, "on_phase_thawed"):
            self._adapter.on_phase_thawed(self.depth)

    def thaw_to_depth(self, depth: int | None = None) -> None:
        """Thaw every phase up to a depth.

        Args:
            depth: The last phase to thaw; the current one by default.
        """
        self._support.before_thaw()
        phases = range((self.depth if depth is None else depth) + 1)
        names = {phase: self._module_names(phase) for phase in phases}
        # All at once: one pass over the module, however many phases there are.
        self._thaw([name for of_phase in names.values() for name in of_phase])
        for phase, of_phase in names.items():
            self._standing.note_thawed(phase, of_phase)

    def _progress(self) -> PhaseProgress:
        return PhaseProgress(
            self._trainer,
            depth=self.depth,
            final_depth=self.final_depth,
            began_at_epoch=self._state.started_at_epoch,
            max_transition_epoch=self.schedule.phases[self.depth].max_transition_epoch,
        )

    def _end_training_if_over(self) -> None:
        if self.depth < self.final_depth or not self._criteria.is_over or self.has_ended_training:
            return
        self.has_ended_training = self._trainer.should_stop = True
        ended_by = ended_by_words(self._criteria.over)
        rank_zero.info(f"Training ends with phase {self.depth}, the last one, because {ended_by} ended it.")

    def _resume_criteria(self, saved: PhaseState) -> None:
        changes = self._criteria.resume(saved.criteria, self.depth)
        if changes:
            rank_zero_warn(
                f"Training goes on in phase {self.depth} with other transition criteria than those of the checkpoint: "
                f"{'; '.join(changes)}. What is new begins in the middle of the phase, and knows nothing of before."
            )

    def _require_same_phases(self, saved: PhaseState) -> None:
        now = self._state.schedule
        started_by = {
            "new_optimizer": saved.optimization.optimizer_phase,
            "new_lr_scheduler": saved.optimization.lr_scheduler_phase,
        }
        require_resumable(saved.schedule, now, depth=saved.depth, final_depth=self.final_depth, started_by=started_by)
        changes = changes_between(saved.schedule, now)
        if changes:
            rank_zero_warn(
                f"Training goes on in phase {saved.depth} with another schedule than that of the checkpoint. Changed: "
                f"{'; '.join(changes)}. What has begun keeps the optimizer, groups and rates that the checkpoint holds."
            )

    # -- steps ---------------------------------------------------------------------------------------------------

    def _restore_best(self) -> Restored | None:
        checkpoint = self._companions.checkpoint
        if not self._settings.restore_best or checkpoint is None:
            return None
        path = self._support.as_first_process(checkpoint.best_model_path)
        if not path:
            rank_zero_warn(
                f"Phase {self.depth} begins without restoring: no best checkpoint was saved yet, so it goes on from "
                "the weights there are. Make phases long enough for a validation, or set restore_best=False."
            )
            return None
        begins_anew = self.schedule.phases[self.depth].new_optimizer is not None
        optimization = None if begins_anew else self._optimization
        must_read = is_given_checkpoints(self._trainer, self._adapter)
        already = None if must_read else self._saved_state.current(path)
        epoch, depth = restore_best(self._trainer, self._adapter, path, optimization, already=already)
        score = None if checkpoint.best_model_score is None else float(checkpoint.best_model_score)
        return Restored(path, epoch, depth, checkpoint.monitor, score)

    def _thaw(self, names: list[str], *, init_thaw: bool = False) -> None:
        adapter, tracks_when_frozen = self._adapter, self._settings.frozen_bn_track_running_stats
        parameters = self._parameters.named(names)
        layers = [] if tracks_when_frozen else self._layers_to_thaw(names)
        if self._undo is not None:
            self._undo.note(parameters.values(), layers)
        execute = adapter.exec_ft_phase
        if getattr(execute, "func", execute) is StrategyAdapter.base_ft_phase:
            # It would look at all parameters, to name those thawed before, which is of no use here.
            options = getattr(execute, "keywords", {}) | {"init_thaw": init_thaw}
            thaw_parameters(parameters, **options)
        else:
            with calling(adapter, "exec_ft_phase"):
                execute(self._module, thaw_pl=names, init_thaw=init_thaw)
        resume_running_stats(layers)

    def _layers_to_thaw(self, names: list[str]) -> list[BatchNorm]:
        adapter = self._adapter
        if not isinstance(adapter, ShardedCheckpoints):
            return layers_to_thaw(self._module, names)
        return layers_to_thaw(self._module, adapter.recorded_names(names), name_of=adapter.recorded_module_name)

    def _module_names(self, depth: int) -> list[str]:
        with calling(self._adapter, "fts_optim_transform"):
            given = self._adapter.fts_optim_transform(list(self.schedule.phases[depth].params))
        # Two names of a schedule may stand for one parameter.
        names = list(dict.fromkeys(require_names(self._adapter, "fts_optim_transform", given, where=f"phase {depth}")))
        known = self._parameters.named(names)
        unknown = [name for name in names if name not in known]
        if unknown:
            known = self._named_parameters()
            raise AdapterError(
                f"{type(self._adapter).__name__}.fts_optim_transform gave {unknown[0]!r}, which is no parameter of "
                f"the module. {did_you_mean(unknown[0], known)}".rstrip(),
                where=f"phase {depth}",
                remedy="The hook must give names of pl_module.named_parameters().",
            )
        return names

    # -- what it works on ----------------------------------------------------------------------------------------

    def _named_parameters(self) -> dict[str, Parameter]:
        return dict(self._module.named_parameters())

    def _readable(self, names: Iterable[str]) -> str:
        return ", ".join(sorted(self._logical(list(names))))

    def _logical(self, names: list[str]) -> list[str]:
        with calling(self._adapter, "logical_param_translation"):
            return self._adapter.logical_param_translation(names)
