"""What the commands that plan have in common: the model, the adapter, and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from phasewire.app.commands.reporting import echo_warning

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
        init_args: str | None = None,
        built_as: str | None = None,
        attribute: str | None = None,
        precision: str | None = None,
        optimizer: str | None = None,
        on_cpu: bool = False,
    ) -> None:
        self._container = container
        self._build = _model_builder(model, init_args, built_as, attribute, container)
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

        return build_model(self._build, on_meta=not self._on_cpu)

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
        from phasewire.app.planned_fit import NeedsFitError

        loaded = self.schedule(schedule)
        try:
            return self._planned(loaded, self.adapter())
        except NeedsFitError as error:
            echo_warning(f"{error} The plan uses the module's own parameter names.")
            return self._planned(loaded, None)

    def names(self) -> tuple[Mapping[str, nn.Parameter], NameRules]:
        """Give the names that a schedule may use.

        Returns:
            Name to parameter, and what else holds for the names.

        Raises:
            AdapterError: The configured adapter fails.
            ConfigError: The model cannot be built.
        """
        from phasewire.adapters.name_rules import NameRules
        from phasewire.app.planned_fit import NeedsFitError, names_of_adapter
        from phasewire.app.schedule.validate import shared_parameter_names

        adapter = self.adapter()
        if adapter is not None:
            try:
                return names_of_adapter(adapter, self.model, self._container.model_views())
            except NeedsFitError as error:
                echo_warning(f"{error} The names are the module's own.")
        return dict(self.model.named_parameters()), NameRules(shared_parameter_names(self.model))

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

    def adapter(self) -> StrategyAdapter | None:
        """Build the adapter that the configuration maps to its strategy, if it maps any.

        Returns:
            A new adapter.

        Raises:
            AdapterError: It cannot be found, loaded or built.
        """
        settings = self._container.settings()
        mapping = settings.scheduler.custom_strategy_adapters
        if not mapping:
            return None
        strategy, devices = (settings.trainer.get(key, "auto") for key in ("strategy", "devices"))
        record = self._container.resolver().planned(mapping, strategy=strategy, devices=devices)
        if record is None:
            echo_warning(
                f"Which adapter the strategy {strategy!r} gets is known when it runs. The plan uses the module's own "
                "parameter names."
            )
            return None
        return record(**(settings.scheduler.strategy_adapter_cfg or {}))

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

    def _generate(self, names: NamedParameters) -> Schedule:
        """Generate the schedule as a fit would: with the generator that the settings name, or the default one."""
        settings = self._container.settings().scheduler
        return self._container.schedule_generators().generate(
            settings.schedule_generator or "pairs",
            settings.schedule_generator_cfg or {},
            self.model,
            names,
            where="scheduler.schedule_generator",
            options_where="scheduler.schedule_generator_cfg",
        )


def _optimizer_named(text: str) -> ClassInit:
    from phasewire.app.given_text import mapping_from_text
    from phasewire.app.schedule.model import ClassInit

    return ClassInit(**mapping_from_text(text, "--optimizer")) if "{" in text else ClassInit(text)


def _model_builder(
    model: str | None, init_args: str | None, built_as: str | None, attribute: str | None, container: Wired
) -> Callable[[], object]:
    from phasewire.adapters.errors import ConfigError
    from phasewire.app.planning.sources import model_named

    if model is not None:
        return model_named(model, init_args, built_as=built_as, attribute=attribute)
    if container.settings().model is None:
        raise ConfigError(
            "This needs a model.",
            remedy="Name its class, as in 'phasewire plan my_project.models.Classifier' or '--model "
            "my_project.models.Classifier', or give --config FILE with a model section.",
        )
    for option, given in (("--init-args", init_args), ("--class", built_as), ("--attribute", attribute)):
        if given is not None:
            raise ConfigError(
                "The model and its arguments come from --config here.",
                where=option,
                remedy="Change the model section in a further --config file, or name the class on the command line.",
            )
    return container.model
