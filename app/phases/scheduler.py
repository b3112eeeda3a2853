"""The callback that people put into a Trainer: it listens to Lightning and asks its parts."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from phasewire.adapters import rank_zero
from phasewire.adapters.errors import ConfigError, PhasewireError
from phasewire.adapters.lightning_seams import saves_model_parallel_shards, unwrapped_name
from phasewire.app.checkpoint import SCHEDULER_STATE_KEY, CheckpointTranslator
from phasewire.app.lightning_seams import is_metric_synchronised, strategy_flag
from phasewire.app.model_views import ModelViews
from phasewire.app.phases.adapter_calls import calling
from phasewire.app.phases.argument_types import Criteria, GivenSchedule, Options
from phasewire.app.phases.companions import refuse_a_second
from phasewire.app.phases.fit_session import FitSession, PlainSchedule
from phasewire.app.phases.kept_files import KeptFiles
from phasewire.app.phases.other_callbacks import refuse_conflicting
from phasewire.app.phases.put_back import logging_at
from phasewire.app.phases.saved_state import SavedState
from phasewire.app.phases.schedule_source import log_folder
from phasewire.app.phases.thaw import freeze
from phasewire.app.phases.translated_strategy import checkpoint_adapter, translate_checkpoints_of
from phasewire.app.resolver import AdapterResolver
from phasewire.app.schedule.files import load_schedule, save_schedule
from phasewire.app.schedule.generate import generate_default
from phasewire.app.schedule.validate import ScheduleValidator
from phasewire.app.schedule_generators import ScheduleGenerators
from phasewire.app.settings import SchedulerSettings
from phasewire.app.transition_criteria import TransitionCriteria

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.adapters.name_rules import NameRules
    from phasewire.adapters.scheduler_handle import CheckpointIO
    from phasewire.adapters.views import ModelView
    from phasewire.app.phases.runner import PhaseRunner
    from phasewire.app.strategy_seam import StrategySeam

__all__ = ["FinetuningScheduler"]


class FinetuningScheduler(Callback):
    """Thaws a pretrained module phase by phase while Lightning trains it.

    The settings have the names and defaults of the ``finetuning-scheduler`` package. The parts it works with can be
    given; :class:`phasewire.containers.Container` does so from a YAML file.

    Args:
        ft_schedule: The schedule: a path, a dict as in the file, or a :class:`~phasewire.app.Schedule`. Without one, a
            default schedule is generated: two parameters a phase, last layers first.
        max_depth: The last phase to train, from 0; -1 trains all.
        base_max_lr: The learning rate of the groups of phases that give none; ``None`` takes that of phase 0.
        restore_best: Restore the best checkpoint before each new phase.
        gen_ft_sched_only: Write the default schedule and leave, without training, by ``SystemExit(0)``.
        epoch_transitions_only: Phases end by ``max_transition_epoch`` alone, without early stopping.
        reinit_optim_cfg: The optimizer that every phase after the first starts with, in the form of ``new_optimizer``.
        reinit_lr_cfg: The lr scheduler that every phase after the first starts with, in the form of
            ``new_lr_scheduler``.
        strategy_adapter_cfg: The options of the adapter.
        custom_strategy_adapters: Strategy flag (or ``"auto"``) to adapter: an entry-point name, ``module:Class``,
            ``module.Class``, or the class.
        allow_untested: Allow strategies and lr schedulers that are not known to work.
        apply_lambdas_new_pgs: Multiply the learning rate of new groups by the newest lambda of the lr scheduler.
        logging_level: The level of Phasewire's loggers: a number, or a name such as ``"DEBUG"``.
        enforce_phase0_params: Make the optimizer hold exactly the parameters of phase 0.
        frozen_bn_track_running_stats: Let frozen batch norm layers update their running statistics.
        log_dir: The folder for schedules; by default that of the Trainer's logger.
        schedule_generator: Makes the schedule where none is given: ``"per_block"``, ``"equal_mass"``,
            ``"discriminative"``, ``"pairs"``, the name of an installed generator, or ``module:function``. By default
            the adapter does.
        schedule_generator_cfg: The options of the generator.
        transition_criteria: What ends a phase: ``"early_stopping"``, ``"epochs"``, ``"plateau"``, the name of an
            installed criterion, ``module:Class``, or the class; one with options as ``{"plateau": {"window": 3}}``. By
            default early stopping and epochs.
        progress_bar: Show the phase, and what ends it, in the Trainer's progress bar.
        log_phase_metrics: Give phase, trained parameters and learning rates to the Trainer's loggers, once an epoch.
        run_record: Append what happens to ``phasewire_run.jsonl`` in the log folder, for ``phasewire report``.
        resolver: Chooses the adapter.
        validator: Resolves the schedule.
        translator: Passes checkpoints through the adapter.
        schedule_generators: Finds the generator.
        criteria: Finds the transition criteria.
        model_views: Finds the model view that an adapter names.

    Raises:
        ConfigError: A setting has a wrong type or value.
    """

    def __init__(
        self,
        ft_schedule: GivenSchedule = None,
        max_depth: int = -1,
        base_max_lr: float | None = 1e-5,
        restore_best: bool = True,
        gen_ft_sched_only: bool = False,
        epoch_transitions_only: bool = False,
        reinit_optim_cfg: Options = None,
        reinit_lr_cfg: Options = None,
        strategy_adapter_cfg: Options = None,
        custom_strategy_adapters: Options = None,
        allow_untested: bool = False,
        apply_lambdas_new_pgs: bool = False,
        logging_level: int | str = logging.INFO,
        enforce_phase0_params: bool = True,
        frozen_bn_track_running_stats: bool = True,
        log_dir: str | os.PathLike[str] | None = None,
        *,
        schedule_generator: str | None = None,
        schedule_generator_cfg: Options = None,
        transition_criteria: Criteria = None,
        progress_bar: bool = True,
        log_phase_metrics: bool = True,
        run_record: bool = True,
        resolver: AdapterResolver | None = None,
        validator: ScheduleValidator | None = None,
        translator: CheckpointTranslator | None = None,
        schedule_generators: ScheduleGenerators | None = None,
        criteria: TransitionCriteria | None = None,
        model_views: ModelViews | None = None,
    ) -> None:
        super().__init__()
        self.settings = SchedulerSettings.checked(
            ft_schedule=ft_schedule,
            max_depth=max_depth,
            base_max_lr=base_max_lr,
            restore_best=restore_best,
            gen_ft_sched_only=gen_ft_sched_only,
            epoch_transitions_only=epoch_transitions_only,
            reinit_optim_cfg=reinit_optim_cfg,
            reinit_lr_cfg=reinit_lr_cfg,
            strategy_adapter_cfg=strategy_adapter_cfg,
            custom_strategy_adapters=custom_strategy_adapters,
            allow_untested=allow_untested,
            apply_lambdas_new_pgs=apply_lambdas_new_pgs,
            logging_level=logging_level,
            enforce_phase0_params=enforce_phase0_params,
            frozen_bn_track_running_stats=frozen_bn_track_running_stats,
            log_dir=log_dir,
            schedule_generator=schedule_generator,
            schedule_generator_cfg=schedule_generator_cfg,
            transition_criteria=transition_criteria,
            progress_bar=progress_bar,
            log_phase_metrics=log_phase_metrics,
            run_record=run_record,
        )
        self._resolver = resolver or AdapterResolver()
        self._validator = validator or ScheduleValidator()
        self._translator = translator or CheckpointTranslator()
        self._generators = schedule_generators or ScheduleGenerators()
        self._criteria = criteria or TransitionCriteria()
        self._model_views = model_views or ModelViews()
        self._trainer: pl.Trainer | None = None
        self._adapter: StrategyAdapter | None = None
        self._seam: StrategySeam | None = None
        self._fit: FitSession | None = None

    # Any: the attributes of an object hold values of every type.
    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy is made of: the settings and the parts, and nothing of a run."""
        of_a_run = dict.fromkeys(("_trainer", "_adapter", "_seam", "_fit"))
        kept = {name: value for name, value in vars(self).items() if name not in ("log", "log_dict")}  # the module's
        return kept | of_a_run

    def has_saved(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether this run has saved a checkpoint at a place, whatever has become of it.

        Args:
            path: The place.
        """
        return self._fit is not None and self._fit.kept_files.has_saved(path)

    # -- what an adapter may use of fts_handle: phasewire.adapters.scheduler_handle tells all of it ---------------

    @property
    def trainer(self) -> pl.Trainer:
        """The Trainer that runs.

        Raises:
            ConfigError: No Trainer has run yet.
        """
        if self._trainer is None:
            raise ConfigError(
                "The FinetuningScheduler is not in a running Trainer yet.",
                remedy="Add it to Trainer(callbacks=[...]) and call fit.",
            )
        return self._trainer

    @property
    def pl_module(self) -> pl.LightningModule:
        """The module being tuned."""
        return self.trainer.lightning_module

    @property
    def strategy_adapter(self) -> StrategyAdapter:
        """The connected adapter.

        Raises:
            ConfigError: No Trainer has run yet.
        """
        if self._adapter is None:
            raise ConfigError(
                "The FinetuningScheduler has no adapter before a Trainer runs.",
                remedy="Add it to Trainer(callbacks=[...]) and call fit.",
            )
        return self._adapter

    @property
    def ft_schedule(self) -> PlainSchedule:
        """The schedule as a plain dict, ``params`` expanded once it is valid; empty before a fit."""
        return {} if self._fit is None else self._fit.plain_schedule

    @ft_schedule.setter
    def ft_schedule(self, schedule: PlainSchedule) -> None:
        self._session().plain_schedule = schedule

    @property
    def curr_depth(self) -> int:
        """The phase being trained, from 0."""
        runner = self._runner
        return 0 if runner is None else runner.depth

    @property
    def max_depth(self) -> int:
        """The last phase that will be trained; the setting, before the schedule is known."""
        runner = self._runner
        return self.settings.max_depth if runner is None else runner.final_depth

    @property
    def depth_remaining(self) -> int:
        """How many phases are still to come."""
        runner = self._runner
        return 0 if runner is None else max(0, runner.final_depth - runner.depth)

    @property
    def epoch_transitions_only(self) -> bool:
        """Whether phases end by epochs alone."""
        return self.settings.epoch_transitions_only

    @property
    def restore_best(self) -> bool:
        """Whether the best checkpoint is restored between phases."""
        return self.settings.restore_best

    @property
    def log_dir(self) -> str | None:
        """The folder for schedules; call it on all ranks."""
        if self._trainer is None:
            return None if self.settings.log_dir is None else os.fspath(self.settings.log_dir)
        return log_folder(self._trainer, self.settings.log_dir)

    def freeze_before_training(self, pl_module: pl.LightningModule) -> None:
        """Freeze every parameter of a module.

        Args:
            pl_module: The module to freeze.
        """
        freeze(pl_module, track_running_stats=self.settings.frozen_bn_track_running_stats)

    def step(self) -> None:
        """Begin the phase at :attr:`curr_depth`: restore, thaw, extend the optimizer."""
        self._session().running().step()

    def thaw_to_depth(self, depth: int | None = None) -> None:
        """Thaw all phases up to a depth.

        Args:
            depth: The last phase to thaw; the current one by default.
        """
        self._session().running().thaw_to_depth(depth)

    def should_transition(self, trainer: pl.Trainer) -> bool:
        """Tell whether the current phase is over, at the start of an epoch."""
        return self._session().running().phase_is_over()

    def save_schedule(self, name: str, schedule: PlainSchedule, folder: str | os.PathLike[str]) -> Path | None:
        """Write a schedule as YAML, on rank 0, over no file with another content."""
        return save_schedule(schedule, Path(folder) / name) if self.trainer.is_global_zero else None

    def load_yaml_schedule(self, path: str | os.PathLike[str]) -> PlainSchedule:
        """Read a schedule file."""
        return load_schedule(path).to_dict()

    # -- what the defaults of StrategyAdapter ask for ------------------------------------------------------------

    @property
    def strategy_checkpoint_io(self) -> CheckpointIO:
        """The strategy's own state-dict methods, behind the translator."""
        if self._seam is None:
            raise ConfigError(
                "The FinetuningScheduler is not in a running Trainer yet.",
                remedy="Checkpoint hooks of an adapter work while a Trainer runs.",
            )
        return self._seam

    def default_schedule(self, names: Sequence[str]) -> PlainSchedule:
        """Give the default schedule for named parameters: two a phase, last ones first."""
        return generate_default(list(map(unwrapped_name, names))).to_dict()

    def find_model_view(self, reference: str, *, where: str) -> type[ModelView]:
        """Look a model view up, under the rules of trust."""
        return self._model_views.record_of(reference, where=where).load(where=where)

    def validate_schedule(self, rules: NameRules | None = None) -> tuple[int, int]:
        """Resolve the schedule against the names the adapter gives."""
        return self._session().validate_schedule(rules)

    def begin_phase_zero(self) -> None:
        """Thaw the parameters of phase 0."""
        self._session().running().thaw_phase_zero()

    def rebuild_phase0_groups(self) -> None:
        """Make the optimizer hold the parameters of phase 0 and no others."""
        self._session().running().rebuild_phase_zero_groups()

    def is_metric_unsynchronised(self, monitor: str) -> bool:
        """Tell whether processes may hold different values of a metric."""
        return not is_metric_synchronised(self.trainer, monitor)

    # -- Lightning's hooks ---------------------------------------------------------------------------------------

    #: The key of this callback's state in a checkpoint. Lightning asks for it at every hook, so it is no property.
    state_key: str = SCHEDULER_STATE_KEY

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Connect the adapter and put the translator into the strategy's path, at every stage.

        For a fit, also find the callbacks to work with. The schedule follows when the module is complete.

        Raises:
            PhasewireError: Something in the configuration cannot be used.
        """
        refuse_a_second(FinetuningScheduler, trainer)
        if self._seam is not None:
            self._seam.remove()
        self._trainer = trainer
        put_back_level = logging_at(self.settings.logging_level)
        try:
            self._seam = self._set_up_parts(trainer, stage)
        except BaseException:
            put_back_level()
            raise
        self._seam.at_removal(put_back_level)
        if stage == TrainerFn.FITTING:
            self._seam.at_removal(self._session().put_back)
            self._session().find_companions(self)
            with calling(self.strategy_adapter, "on_before_init_fts"):
                self.strategy_adapter.on_before_init_fts()

    def _set_up_parts(self, trainer: pl.Trainer, stage: str) -> StrategySeam:
        self._connect_adapter(trainer)
        fitting = stage == TrainerFn.FITTING
        if fitting:
            refuse_conflicting(trainer, self.strategy_adapter)
            self._fit = FitSession(
                trainer, self.strategy_adapter, self.settings, self._validator, self._generators, self._criteria
            )
        return translate_checkpoints_of(
            trainer.strategy,
            self.strategy_adapter,
            self._translator,
            set_up_fit=self._session().set_up_strategy if fitting else None,
            kept_files=self._session().kept_files if fitting else KeptFiles(),
            saved_state=self._session().saved_state if fitting else SavedState(),
        )

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the optimizer against phase 0, or go to the phase a checkpoint was written in.

        Raises:
            PhasewireError: An optimizer or lr scheduler cannot be used, or the checkpoint does not fit the schedule.
        """
        with calling(self.strategy_adapter, "on_before_fts_fit_start"):
            self.strategy_adapter.on_before_fts_fit_start()
        self._session().begin_fit()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Catch up on what Lightning leaves out of a resumed fit, and look at callbacks that plan in ``on_fit_start``.

        Raises:
            ConfigError: One cannot work with the phases.
        """
        self._session().begin_training()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Catch up on what Lightning leaves out of a resumed fit."""
        self._session().end_training()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the checkpoints whose removal was put off."""
        if self._seam is not None:
            self._session().end_fit(self._seam.remove_checkpoint)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move on to the next phase when the current one is over."""
        self._session().begin_epoch(lambda: self.should_transition(trainer))

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Do what the start of the epoch does where Lightning leaves it out.

        It does so in the first epoch after a resume from a checkpoint that was saved at the last batch of an epoch.
        """
        if batch_idx == 0:
            self.on_train_epoch_start(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the metrics, once they are logged."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._session().end_validation()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the metrics, once they are logged."""
        self._session().end_epoch()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Tell that the fit has failed, and in which of several processes."""
        if self._fit is not None and trainer.state.fn == TrainerFn.FITTING:
            self._fit.fail(exception)
        if self._runner is None or trainer.world_size == 1 or isinstance(exception, PhasewireError):
            return
        exception.add_note(
            f"This is process {trainer.global_rank} of {trainer.world_size}, in phase {self.curr_depth}. If it lost a "
            "connection or waited too long, another process has failed or hangs: look at what that one said. Once the "
            "cause is mended, resume all of them from the newest checkpoint with fit(ckpt_path=...)."
        )

    # The progress is written and read in these hooks, not in state_dict: Lightning refuses a second callback that has
    # one in words that say nothing of schedules, before ours can.

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the progress through the schedule; and when the run is over, how the checkpoint was written."""
        if self._adapter is not None and self._seam is not None and self._seam.is_removed:
            # The run is over, so Lightning asked the strategy itself, and saves by it.
            adapter = checkpoint_adapter(self._adapter, shards=saves_model_parallel_shards(trainer.strategy))
            checkpoint["state_dict"] = self._translator.collect(adapter)
            self._translator.sign(checkpoint, adapter)
        if self._fit is not None and self._fit.runner is not None:
            # A subclass may have a state of its own.
            states = checkpoint["callbacks"]
            states[SCHEDULER_STATE_KEY] = states.get(SCHEDULER_STATE_KEY, {}) | self._fit.record()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the progress through the schedule from a checkpoint that a fit resumes; nothing outside ``fit``."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._session().resume(checkpoint["callbacks"][SCHEDULER_STATE_KEY], checkpoint)

    # -- setting up ----------------------------------------------------------------------------------------------

    def _connect_adapter(self, trainer: pl.Trainer) -> None:
        build = self._resolver.resolve(
            trainer.strategy,
            flag=strategy_flag(trainer),
            custom_strategy_adapters=self.settings.custom_strategy_adapters,
            allow_untested=self.settings.allow_untested,
        )
        self._adapter = build(**(self.settings.strategy_adapter_cfg or {}))
        with calling(self._adapter, "connect"):
            self._adapter.connect(self)
        rank_zero.debug(f"{type(self._adapter).__name__} is connected.")

    @property
    def _runner(self) -> PhaseRunner | None:
        return None if self._fit is None else self._fit.runner

    def _session(self) -> FitSession:
        if self._fit is None:
            raise ConfigError("No schedule is being trained.", remedy="Call trainer.fit first.")
        return self._fit
