"""What the container can be told: one field per key of ``config.yaml``, typed, frozen, and unknown keys refused."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError, ValidationInfo

from phasewire.adapters.errors import did_you_mean
from phasewire.app.config_file import key_path
from phasewire.app.criteria_settings import checked_criteria
from phasewire.app.discovery import DEFAULT_GROUP
from phasewire.app.reinit_settings import reinit_problems
from phasewire.app.schedule.model import Schedule
from phasewire.app.settings_problems import as_error, problems_of

__all__ = ["ClassSpec", "DiscoverySettings", "SchedulerSettings", "Settings"]


def _level_number(level: object) -> object:
    if not isinstance(level, str):
        return level
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        near = did_you_mean(level.upper(), levels) or f"The levels are {', '.join(levels)}, and numbers."
        raise ValueError(f"There is no logging level {level!r}. {near}")
    return levels[level.upper()]


def _where(keys: Sequence[str | int]) -> str:
    return f"FinetuningScheduler, {key_path(keys)}"


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _criteria(value: object, info: ValidationInfo) -> object:
    return checked_criteria(value, epoch_transitions_only=info.data.get("epoch_transitions_only", False))


def _nothing_is_empty(value: object) -> object:
    # "scheduler:" with every line under it commented out is null in YAML.
    return {} if value is None else value


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=False,
        # "model" is the name of a section.
        protected_namespaces=(),
    )


class SchedulerSettings(_Section):
    """The settings of :class:`~phasewire.app.FinetuningScheduler`, by the names and defaults of the FTS package."""

    # Any: a schedule that is written out is checked where it is made a Schedule, phase by phase.
    ft_schedule: str | os.PathLike[str] | Mapping[Any, Any] | InstanceOf[Schedule] | None = None
    """The schedule: a file, its content, or a :class:`~phasewire.app.Schedule`; ``None`` generates one, two parameters
    a phase."""
    max_depth: int = Field(default=-1, ge=-1)
    """The last phase to train, from 0; -1 trains all."""
    base_max_lr: float | None = Field(default=1e-5, gt=0, allow_inf_nan=False)
    """The learning rate of phases that give none; ``None`` takes that of phase 0."""
    restore_best: bool = True
    """Restore the best checkpoint before each new phase."""
    gen_ft_sched_only: bool = False
    """Write the default schedule and leave, without training."""
    epoch_transitions_only: bool = False
    """Phases end by ``max_transition_epoch`` alone, without early stopping."""
    # Any, here and below: the arguments of a class that is the user's choice.
    reinit_optim_cfg: Mapping[str, Any] | None = None
    """The optimizer that every phase after the first starts with, in place of its ``new_optimizer``."""
    reinit_lr_cfg: Mapping[str, Any] | None = None
    """The lr scheduler that every phase after the first starts with, in place of its ``new_lr_scheduler``."""
    strategy_adapter_cfg: Mapping[str, Any] | None = None
    """The options of the strategy adapter."""
    custom_strategy_adapters: Mapping[str, str | type] | None = None
    """Strategy flag (or ``auto``) to adapter: a name, ``module:Class``, ``module.Class``, or the class."""
    allow_untested: bool = False
    """Allow strategies and lr schedulers that are not known to work."""
    apply_lambdas_new_pgs: bool = False
    """Multiply the learning rate of new groups by the newest lambda of the lr scheduler."""
    logging_level: Annotated[int, BeforeValidator(_level_number)] = Field(default=logging.INFO, ge=0)
    """The level of Phasewire's loggers: a number, or a name such as ``DEBUG``."""
    enforce_phase0_params: bool = True
    """Make the optimizer hold exactly the parameters of phase 0."""
    frozen_bn_track_running_stats: bool = True
    """Let frozen batch norm layers update their running statistics."""
    log_dir: str | os.PathLike[str] | None = None
    """The folder for schedules; ``None`` takes that of the Trainer's logger."""
    schedule_generator: str | None = None
    """Makes the schedule where none is given: a name, ``module:function`` or ``module.function``; ``None`` leaves it to
    the adapter."""
    schedule_generator_cfg: Mapping[str, Any] | None = None
    """The options of the generator."""
    # Any: the options of a criterion are its own.
    transition_criteria: Annotated[
        tuple[str | type | Mapping[str | type, Mapping[str, Any] | None], ...] | None, BeforeValidator(_criteria)
    ] = None
    """What ends a phase: names, ``module:Class``, ``module.Class`` or classes, one with options as a mapping to them;
    ``None`` for early stopping and epochs."""
    progress_bar: bool = True
    """Show the phase, and what ends it, in the Trainer's progress bar."""
    log_phase_metrics: bool = True
    """Give phase, trained parameters and learning rates to the Trainer's loggers, once an epoch."""
    run_record: bool = True
    """Append what happens to ``phasewire_run.jsonl`` in the log folder."""

    @classmethod
    def checked(cls, **settings: object) -> SchedulerSettings:
        """Validate the arguments of the callback.

        Args:
            settings: The fields.

        Returns:
            The settings.

        Raises:
            ConfigError: A field does not exist, or its value has a wrong type or is out of range; all such problems at
                once.
        """
        try:
            checked = cls.model_validate(settings)
        except ValidationError as error:
            problems = problems_of(error, cls, settings)
            raise as_error(problems, _where) from error
        problems = list(reinit_problems(settings))
        if problems:
            raise as_error(problems, _where)
        return checked


#: Names in a list, which YAML and code give as one, kept so that they cannot be changed.
_Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class DiscoverySettings(_Section):
    """Where adapters are looked for, and whose plug-ins may be used."""

    group: str = Field(default=DEFAULT_GROUP, min_length=1)
    """The entry-point group that plug-ins announce their adapters in."""
    enabled: bool = True
    """Use the plug-ins of other packages at all."""
    allow: _Names | None = None
    """The distributions whose plug-ins may be used; ``None`` for all."""
    deny: _Names = ()
    """The distributions whose plug-ins may not be used, whatever ``allow`` says."""
    allow_paths: _Names | None = None
    """The modules, with what is below them, that ``module:Class`` may name as a plug-in; ``None`` for all."""


class ClassSpec(_Section):
    """An object to build, in Lightning's notation."""

    class_path: str
    """The class: ``package.module.Class`` or ``package.module:Class``."""
    init_args: Annotated[dict[str, Any], BeforeValidator(_nothing_is_empty)] = Field(default_factory=dict)
    """The arguments of its constructor; a mapping with ``class_path`` among them is built first."""


class Settings(_Section):
    """A whole configuration."""

    scheduler: Annotated[SchedulerSettings, BeforeValidator(_nothing_is_empty)] = SchedulerSettings()
    """The callback."""
    discovery: Annotated[DiscoverySettings, BeforeValidator(_nothing_is_empty)] = DiscoverySettings()
    """Where adapters are looked for."""
    model: ClassSpec | None = None
    """The LightningModule, for runs that YAML describes whole."""
    datamodule: ClassSpec | None = None
    """The LightningDataModule, for the same."""
    # Any: the Trainer's own signature and annotations say what it takes.
    trainer: Annotated[dict[str, Any], BeforeValidator(_nothing_is_empty)] = Field(default_factory=dict)
    """Keywords of :class:`lightning.pytorch.Trainer`; objects among them as ``{class_path, init_args}``."""
    seed_everything: int | None = Field(default=None, ge=0, le=2**32 - 1)
    """Seeds Python, NumPy and torch before anything is built; ``None`` leaves them as they are."""
