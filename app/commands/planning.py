"""What the commands that plan have in common: the model, the adapter, and the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from phasewire.app.commands.configured import model_builder, with_configured_adapter
from phasewire.app.commands.reporting import echo_warning
from phasewire.app.given_text import mapping_from_text

if TYPE_CHECKING:
    from torch import nn

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.adapters.name_rules import NameRules
    from phasewire.app.planning.values import Plan
    from phasewire.app.schedule.generators import NamedParameters
    from phasewire.app.schedule.model import ClassInit, Schedule
    from phasewire.app.wired import Wired

__all__ = ["Planner"]


class Planner:
    """Plans schedules for one model, which is built once.

    Args:
        container: The configured container.
        model: The model as it was named; ``None`` for that of the configuration.
        needed_by: The command, with the option that names a model where there is one, for messages.
        init_args: Arguments of its constructor, as text.
        built_as: The class to build from a folder or a checkpoint.
        attribute: The attribute to put the model into.
        precision: The Trainer's precision; ``None`` for that of the configuration.
        optimizer: The optimizer, as text; ``None`` for that of the model.
        on_cpu: Build the model on the CPU.
    """

    def __init__(
        self,
        container: Wired,
        model: str | None,
        *,
        needed_by: str,
        init_args: str | None = None,
        built_as: str | None = None,
        attribute: str | None = None,
        precision: str | None = None,
        optimizer: str | None = None,
        on_cpu: bool = False,
    ) -> None:
        self._container = container
        self._build = model_builder(
            model, init_args, container, needed_by=needed_by, built_as=built_as, attribute=attribute
        )
        self._optimizer = None if optimizer is None else _optimizer_named(optimizer)
        self._precision = precision
        self._on_cpu = on_cpu

    @cached_property
    def model(self) -> nn.Module:
        """The model.

        Raises:
            ConfigError: It cannot be built.
        """
        from phasewire.app.plan import build_model

        return build_model(self._build, on_meta=not self._on_cpu, warn=echo_warning)

    def plan(self, schedule: Path | None) -> Plan:
        """Plan a schedule, in the names of the configured adapter where it gives any without a fit.

        Args:
            schedule: The file; ``None`` for the schedule of the configuration, or else one that is generated.

        Returns:
            The plan.

        Raises:
            ScheduleError: The schedule does not fit the model.
            ConfigError: Something that was named cannot be used.
        """
        loaded = self.schedule(schedule)
        return with_configured_adapter(self._container, lambda adapter: self._planned(loaded, adapter))

    def names(self) -> tuple[Mapping[str, nn.Parameter], NameRules]:
        """Give the names that a schedule may use.

        Returns:
            Name to parameter, and what else holds for the names.

        Raises:
            AdapterError: The configured adapter fails.
            ConfigError: The model cannot be built.
        """
        from phasewire.adapters.name_rules import NameRules
        from phasewire.app.planned_fit import names_of_adapter
        from phasewire.app.schedule.validate import shared_parameter_names

        def names(adapter: StrategyAdapter | None) -> tuple[Mapping[str, nn.Parameter], NameRules]:
            if adapter is None:
                return dict(self.model.named_parameters()), NameRules(shared_parameter_names(self.model))
            return names_of_adapter(adapter, self.model, self._container.model_views())

        return with_configured_adapter(self._container, names)

    def schedule(self, file: Path | None) -> Schedule | None:
        """Read a schedule.

        Args:
            file: The file; ``None`` for the schedule of the configuration.

        Returns:
            The schedule; ``None`` where there is none.

        Raises:
            ScheduleError: It cannot be read.
        """
        from phasewire.app.schedule.files import load_schedule

        source = self._container.settings().scheduler.ft_schedule if file is None else file
        return None if source is None else load_schedule(source)

    def is_generated(self, file: Path | None) -> bool:
        """Tell whether a plan is of a schedule that nobody gave."""
        return self.schedule(file) is None

    def name_of(self, file: Path | None) -> str:
        """Name a schedule in a sentence."""
        if file is not None:
            return str(file)
        given = self._container.settings().scheduler.ft_schedule
        return "the generated schedule" if given is None else given if isinstance(given, str) else "ft_schedule"

    def _planned(self, schedule: Schedule | None, adapter: StrategyAdapter | None) -> Plan:
        from phasewire.app.plan import plan_schedule

        settings = self._container.settings()
        return plan_schedule(
            self.model,
            schedule,
            settings.scheduler,
            self._container.validator(),
            max_epochs=settings.trainer.get("max_epochs"),
            precision=settings.trainer.get("precision") if self._precision is None else self._precision,
            optimizer=self._optimizer,
            adapter=adapter,
            model_views=self._container.model_views(),
            generate=self._generate,
        )

    def generate(self, generator: str | None = None, options: str | None = None) -> Schedule:
        """Generate a schedule, in the names of the configured adapter where it gives any without a fit.

        Args:
            generator: Its name; ``None`` for that of the configuration, or else the default one.
            options: Its options, as text; ``None`` for those of the configuration.

        Returns:
            The schedule.

        Raises:
            ConfigError: No generator is called so, or it does not take the options.
            ScheduleError: It fails.
            AdapterError: The configured adapter fails.
        """
        from phasewire.app.planned_fit import PlannedFit
        from phasewire.app.schedule_generators import ModuleNames

        settings, validator = self._container.settings().scheduler, self._container.validator()

        def make(names: NamedParameters) -> Schedule:
            return self._generate(names, generator, options)

        def made(adapter: StrategyAdapter | None) -> Schedule:
            if adapter is None:
                return make(ModuleNames(self.model))
            fit = PlannedFit(
                adapter,
                self.model,
                lambda schedule, named, rules: validator.validate(schedule, named, rules=rules),
                self._container.model_views(),
                settings.base_max_lr,
            )
            return fit.generate(make)

        return with_configured_adapter(self._container, made)

    def _generate(self, names: NamedParameters, generator: str | None = None, options: str | None = None) -> Schedule:
        """Generate as a fit would, where nothing else was named: with the generator of the settings, or the default."""
        settings = self._container.settings().scheduler
        of_settings = generator is None and settings.schedule_generator is not None
        configured = (settings.schedule_generator_cfg or {}) if of_settings else {}
        return self._container.schedule_generators().generate(
            (settings.schedule_generator if of_settings else generator) or "pairs",
            configured if options is None else mapping_from_text(options, "--options"),
            self.model,
            names,
            where="scheduler.schedule_generator" if of_settings else "--generator",
            options_where="scheduler.schedule_generator_cfg" if of_settings and options is None else "--options",
        )


def _optimizer_named(text: str) -> ClassInit:
    from phasewire.app.schedule.model import ClassInit

    return ClassInit(**mapping_from_text(text, "--optimizer")) if "{" in text else ClassInit(text)
