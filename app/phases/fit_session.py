"""One fit of a module through a schedule: what there is from its setup to its end, and what its checkpoints tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from phasewire.adapters.errors import AdapterError, ConfigError, ScheduleError
from phasewire.adapters.name_rules import NameRules
from phasewire.adapters.sharding import class_name
from phasewire.app.lightning_seams import refuses_several_optimizers, restore_optimizer_state
from phasewire.app.phases.adapter_calls import calling
from phasewire.app.phases.catch_up import CatchUp
from phasewire.app.phases.companions import Companions, find_companions
from phasewire.app.phases.criteria import EarlyStoppingCriterion, EpochCriterion
from phasewire.app.phases.kept_files import KeptFiles
from phasewire.app.phases.load_hooks import is_given_checkpoints
from phasewire.app.phases.optimizer_checks import several_optimizers
from phasewire.app.phases.other_callbacks import refuse_averaging_across_phases
from phasewire.app.phases.phase_criteria import PhaseCriteria, looks_at_epoch_end
from phasewire.app.phases.put_back import remembered
from phasewire.app.phases.runner import PhaseRunner
from phasewire.app.phases.saved_state import SavedState
from phasewire.app.phases.schedule_source import (
    generate_schedule_file,
    log_folder,
    obtain_schedule,
    save_repaired_schedule,
    save_used_schedule,
)
from phasewire.app.phases.state import PhaseState
from phasewire.app.reinit_settings import with_reinit_settings
from phasewire.app.schedule.model import Schedule
from phasewire.app.schedule.resolved import ResolvedSchedule
from phasewire.app.schedule.validate import ScheduleValidator, shared_parameter_names
from phasewire.app.trainer_attributes import is_dry_run
from phasewire.app.watching.fit_watch import FitWatch

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.phases.callbacks import Phases
    from phasewire.app.schedule_generators import ScheduleGenerators
    from phasewire.app.settings import SchedulerSettings
    from phasewire.app.transition_criteria import TransitionCriteria

__all__ = ["FitSession", "PlainSchedule"]

# Any: the values of a plain schedule are those of the schedule file.
PlainSchedule = dict[int, dict[str, Any]]


class FitSession:
    """Takes one fit from its setup to its end.

    Args:
        trainer: The Trainer that fits.
        adapter: The connected adapter.
        settings: The settings of the scheduler.
        validator: Resolves the schedule.
        generators: Makes a schedule, where the settings name a generator and no schedule.
        criteria: Finds what decides that a phase is over.

    Raises:
        PhasewireError: A transition criterion is not found, or cannot be built.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        adapter: StrategyAdapter,
        settings: SchedulerSettings,
        validator: ScheduleValidator,
        generators: ScheduleGenerators,
        criteria: TransitionCriteria,
    ) -> None:
        self.plain_schedule: PlainSchedule = {}
        self.kept_files = KeptFiles()
        self.saved_state = SavedState()
        self._trainer = trainer
        self._adapter = adapter
        self._settings = settings
        self._validator = validator
        self._generators = generators
        self._criteria = PhaseCriteria.of(settings, criteria)
        self._watch = FitWatch(trainer, settings)
        self._log_folder = ""
        self._runner: PhaseRunner | None = None
        self._companions: Companions | None = None
        self._given: Schedule | None = None
        self._resolved: ResolvedSchedule | None = None
        self._saved: PhaseState | None = None
        self._catch_up = CatchUp()
        self._checked_monitors: set[str] = set()
        self._epoch_begun = -1
        self._has_begun = False
        self._put_back: Callable[[], None] | None = None

    @property
    def runner(self) -> PhaseRunner | None:
        """What takes the module through the phases; ``None`` before the schedule is resolved."""
        return self._runner

    def running(self) -> PhaseRunner:
        """Give what takes the module through the phases.

        Raises:
            ConfigError: The schedule is not resolved yet.
        """
        if self._runner is None:
            raise ConfigError("No schedule is being trained.", remedy="Call trainer.fit first.")
        return self._runner

    # -- setting up ----------------------------------------------------------------------------------------------

    def find_companions(self, phases: Phases) -> None:
        """Find the callbacks to work with, or add them.

        Args:
            phases: The :class:`~phasewire.app.FinetuningScheduler`.

        Raises:
            ConfigError: There are several candidates, or one cannot do its work.
        """
        if self._settings.gen_ft_sched_only:
            return
        self._companions = find_companions(
            self._trainer,
            early_stopping=self._criteria.uses(EarlyStoppingCriterion),
            watched=self._criteria.watched,
            epoch_transitions_only=self._settings.epoch_transitions_only,
            restore_best=self._settings.restore_best,
        )
        self._companions.begin_run(phases, self._trainer, self._trainer.lightning_module)
        self.kept_files.begin(self._trainer, self._companions.checkpoint)
        self.saved_state.begin(
            self._trainer,
            self._companions.checkpoint if self._settings.restore_best else None,
            may_be_asked=self._may_begin_without_reading,
        )

    def _may_begin_without_reading(self) -> bool:
        """Tell whether a phase is to come whose best checkpoint no code of others is given."""
        runner = self._runner
        if runner is None or runner.depth >= runner.final_depth:
            return False
        return not is_given_checkpoints(self._trainer, self._adapter)

    def set_up_strategy(self, trainer: pl.Trainer, set_up: Callable[[pl.Trainer], None]) -> None:
        """Prepare the phases, now that the module is complete, and let the strategy set up after that.

        Args:
            trainer: The Trainer.
            set_up: The strategy's own ``setup``.

        Raises:
            SystemExit: Only a schedule was to be generated.
            PhasewireError: The schedule cannot be used, or the module configures several optimizers.
        """
        self._prepare_phases()
        try:
            set_up(trainer)
        except RuntimeError as error:
            if not refuses_several_optimizers(error):
                raise
            raise several_optimizers(trainer.lightning_module) from error

    def validate_schedule(self, rules: NameRules | None = None) -> tuple[int, int]:
        """Resolve the schedule against the names that the adapter gives.

        Args:
            rules: What else holds for these names; without, that tied parameters have the second names that the module
                gives them.

        Returns:
            The deepest phase, and the highest ``max_transition_epoch``.

        Raises:
            ScheduleError: The schedule does not fit the module.
        """
        if self._given is None:
            raise ConfigError("There is no schedule to validate yet.", remedy="Call trainer.fit first.")
        # An adapter may have edited the plain schedule before it asks for the default validation.
        edited = self.plain_schedule != self._given.to_dict()
        with calling(self._adapter, "get_named_params_for_schedule_validation"):
            named_parameters = self._adapter.get_named_params_for_schedule_validation()
        self._resolved = self._validator.validate(
            Schedule.from_mapping(self.plain_schedule) if edited else self._given,
            named_parameters,
            base_max_lr=self._settings.base_max_lr,
            epoch_transitions_only=self._criteria.are_all(EpochCriterion),
            epochs_end_phases=self._criteria.uses(EpochCriterion),
            max_epochs=self._trainer.max_epochs,
            rules=rules or NameRules(shared_parameter_names(self._trainer.lightning_module)),
        )
        self.plain_schedule = self._resolved.to_dict()
        return self._resolved.final_depth, self._resolved.highest_transition_epoch

    def put_back(self) -> None:
        """Put back what the schedule changed on the Trainer and the module, besides what it trains."""
        put_back, self._put_back = self._put_back, None
        if put_back is not None:
            put_back()

    def _prepare_phases(self) -> None:
        """Obtain and resolve the schedule, then freeze the module and thaw phase 0."""
        trainer, module = self._trainer, self._trainer.lightning_module
        folder = log_folder(trainer, self._settings.log_dir)
        if self._settings.gen_ft_sched_only:
            generate_schedule_file(trainer, self._generate_schedule, folder)
            raise SystemExit(0)
        try:
            schedule = self._resolve_schedule(folder)
        except ScheduleError as error:
            if trainer.is_global_zero:
                save_repaired_schedule(error, self._settings.ft_schedule, folder)
            raise
        if self._companions is None:
            raise ConfigError("The Trainer was not set up for a fit.", remedy="Call trainer.fit.")
        self._runner = PhaseRunner(
            trainer,
            module,
            self._adapter,
            schedule,
            self._settings,
            self._companions,
            self._criteria,
            self._watch,
            saved_state=self.saved_state,
        )
        self._put_back = remembered(trainer, module)
        if not is_dry_run(trainer):
            self._runner.extend_max_epochs()
        self._runner.freeze()
        with calling(self._adapter, "on_after_init_fts"):
            self._adapter.on_after_init_fts()

    def _resolve_schedule(self, folder: str) -> ResolvedSchedule:
        self._given = obtain_schedule(self._trainer, self._generate_schedule, self._settings.ft_schedule, folder)
        self.plain_schedule = self._given.to_dict()
        with calling(self._adapter, "validate_ft_sched"):
            self._adapter.validate_ft_sched()
        resolved = self._resolved
        if resolved is None or resolved.to_dict() != self.plain_schedule:
            # An adapter that validates by itself leaves the plain schedule as it wants it trained.
            resolved = ResolvedSchedule.from_dict(self.plain_schedule, base_max_lr=self._settings.base_max_lr)
        resolved = with_reinit_settings(resolved, self._settings)
        for warning in resolved.warnings:
            rank_zero_warn(warning)
        self.plain_schedule = resolved.to_dict()
        return resolved

    def _generate_schedule(self, folder: str) -> os.PathLike[str] | None:
        """Write a generated schedule: that of the generator in the settings, or else the adapter's."""
        settings, module = self._settings, self._trainer.lightning_module
        if settings.schedule_generator is None:
            with calling(self._adapter, "gen_ft_schedule"):
                path = self._adapter.gen_ft_schedule(folder)
            if path is None and self._trainer.is_global_zero:
                raise AdapterError(
                    f"{type(self._adapter).__name__}.gen_ft_schedule gave no path, so there is no schedule to train.",
                    remedy="Let the hook return the path of the file it wrote, or give ft_schedule.",
                )
            return path
        schedule = self._generators.generate(
            settings.schedule_generator,
            settings.schedule_generator_cfg or {},
            module,
            self._adapter,
            where="schedule_generator",
            options_where="schedule_generator_cfg",
        )
        name = f"{class_name(module)}_ft_schedule.yaml"
        return self._adapter.fts_handle.save_schedule(name, schedule.to_dict(), folder)

    # -- training ------------------------------------------------------------------------------------------------

    def begin_fit(self) -> None:
        """Check the optimizer against phase 0, or go to the phase a checkpoint was written in.

        Raises:
            PhasewireError: An optimizer or lr scheduler cannot be used, or the checkpoint does not fit the schedule.
        """
        runner, trainer = self.running(), self._trainer
        self._has_begun = True
        runner.check_optimizer()
        if self._saved is None:
            runner.check_phase_zero()
            runner.begin()
        else:
            runner.resume(self._saved)
        runner.try_new_optimizers()
        if not trainer.strategy.restore_checkpoint_after_setup:
            runner.tell_thawed()
        self._log_folder = folder = log_folder(trainer, self._settings.log_dir)  # asks all ranks
        writes = trainer.is_global_zero and not is_dry_run(trainer)
        if self._settings.ft_schedule is not None and self._given is not None and writes:
            save_used_schedule(self._given, trainer.lightning_module, folder)

    def begin_training(self) -> None:
        """Catch up on what Lightning leaves out of a resumed fit, and look at callbacks that plan in ``on_fit_start``.

        Raises:
            ConfigError: One cannot work with the phases.
        """
        self._catch_up.begin(self._trainer)
        if self._trainer.strategy.restore_checkpoint_after_setup:
            # Only now is it known which phase that is: a checkpoint is read after begin_fit.
            self.running().tell_thawed()
        if self._saved is not None and self._trainer.ckpt_path is not None:
            self.kept_files.resume(self._trainer.ckpt_path, self._saved.put_off)
        runner = self.running()
        runner.begin_training()
        self._watch.begin(
            runner.begun(),
            adapter=self._adapter,
            schedule=runner.recorded_schedule(),
            checkpoint=None if self._companions is None else self._companions.checkpoint,
            folder=self._log_folder,
            resumed=self._saved is not None,
            remark=runner.resume_remark,
        )
        if runner.depth < runner.final_depth:
            refuse_averaging_across_phases(self._trainer, runner.final_depth, runner.final_phase_begins_by())

    def begin_epoch(self, is_over: Callable[[], bool]) -> None:
        """Move on to the next phase when the current one is over; does nothing the second time in an epoch.

        Args:
            is_over: Tells whether it is.
        """
        if self._trainer.current_epoch == self._epoch_begun:
            return
        self._epoch_begun = self._trainer.current_epoch
        self._catch_up.settle(self._trainer)
        self._watch.note_epoch()
        if is_over():
            self.running().advance()
        if self._watch.wants_standing:  # to list all groups of the optimizer takes time
            self._watch.epoch_begins(self.running().standing())

    def end_validation(self) -> None:
        """Look at the metrics after a validation."""
        if self._trainer.sanity_checking:
            return
        self._check_monitors()
        if not looks_at_epoch_end(self._trainer):
            self.running().look()

    def _check_monitors(self) -> None:
        """Let the adapter check the monitored metrics once they are logged."""
        monitors = set(self._criteria.watched)
        if self._companions is not None:
            monitors |= self._companions.monitors
        logged = monitors.intersection(self._trainer.callback_metrics)
        for monitor in logged - self._checked_monitors:
            self._checked_monitors.add(monitor)
            with calling(self._adapter, "on_validate_monitor_metric"):
                self._adapter.on_validate_monitor_metric(monitor)

    def end_epoch(self) -> None:
        """Look at the metrics at the end of an epoch, and note what Lightning leaves out there."""
        self._check_monitors()
        if looks_at_epoch_end(self._trainer):
            self.running().look()
        self._catch_up.note_epoch_end(self._trainer)
        self._watch.epoch_ended()

    def end_training(self) -> None:
        """Catch up on what Lightning leaves out of a resumed fit, and tell that training has ended."""
        self._catch_up.settle(self._trainer)
        stopping = None if self._companions is None else self._companions.early_stopping
        if not self._trainer.should_stop:
            self._watch.end("finished", "max_epochs or max_steps was reached")
        elif self.running().has_ended_training:
            self._watch.end("finished", "a transition criterion ended the last phase")
        elif stopping is not None and stopping.ended_run:
            self._watch.end("finished", f"early stopping on {stopping.monitor}")
        else:
            self._watch.end("stopped", "another callback, or a signal, asked the Trainer to stop")

    def fail(self, error: BaseException) -> None:
        """Tell that training has failed.

        Args:
            error: What stopped it.
        """
        asked_for = isinstance(error, KeyboardInterrupt | SystemExit | SIGTERMException)
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        self._watch.end("stopped" if asked_for else "failed", reason)

    def end_fit(self, remove: Callable[[str], object]) -> None:
        """Remove the checkpoints whose removal was put off.

        Args:
            remove: Removes a file.
        """
        self._catch_up.settle(self._trainer)
        # A Timer, too, stops a training, which is to be resumed.
        stopping = None if self._companions is None else self._companions.early_stopping
        ended = self.running().has_ended_training or (stopping is not None and stopping.ended_run)
        is_over = ended or not self._trainer.should_stop
        self.kept_files.release(remove, is_over=is_over)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    # Any, here and below: the values of a checkpoint are of several types.
    def record(self) -> dict[str, Any]:
        """Tell what a run that resumes needs to know.

        Returns:
            Plain values.

        Raises:
            ConfigError: The schedule is not resolved yet.
        """
        state = self.running().snapshot()
        state.loop, state.put_off = self._catch_up.record(self._trainer), self.kept_files.put_off
        return state.to_dict()

    def resume(self, saved: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
        """Take what :meth:`record` told, before Lightning restores its loops.

        Args:
            saved: What was told.
            checkpoint: The whole checkpoint; the progress of its loops is changed where Lightning would leave a
                validation out.

        Raises:
            CheckpointError: It is no such record.
        """
        path = self._trainer.ckpt_path
        state = PhaseState.from_dict(saved, where=None if path is None else str(path))
        self._saved = state if state.begun else None
        if state.begun:
            self._catch_up.resume(state.loop, checkpoint)
        if self._has_begun and state.begun:
            # Some strategies read a checkpoint when the fit has begun, in phase 0.
            self.running().resume(state)
        if not self._trainer.strategy.lightning_restore_optimizer:
            restore_optimizer_state(self._trainer)
