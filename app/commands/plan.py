"""``phasewire plan``: show what a schedule would do, without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.reporting import echo_warning, stdout_console
from phasewire.app.commands.wiring import ConfigFiles, InitArgs, OnCpu, container_from, model_from_text

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.plan import Plan
    from phasewire.app.wired import Wired

__all__ = ["plan"]


def plan(
    model: Annotated[
        str | None,
        typer.Argument(metavar="CLASS_PATH", help="The model: pkg.module.Class; by default that of --config."),
    ] = None,
    init_args: InitArgs = None,
    config: ConfigFiles = None,
    schedule: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A schedule file; by default that of --config, or else the schedule that would be generated.",
            show_default=False,
        ),
    ] = None,
    on_cpu: OnCpu = False,
) -> None:
    """Show the phases of a schedule: parameters, share of the model, learning rate, and when each moves on.

    The model is built without storage for its parameters, so a large one costs nothing. Nothing is trained. With an
    adapter in --config the schedule is in its names; a TransformerBridge, which reads weights, needs --on-cpu.

    Example: `phasewire plan my_project.models.Classifier --init-args '{width: 64}' --schedule my.yaml`

    Example: `phasewire plan --config config.yaml`
    """
    from phasewire.app.plan import build_model, plan_schedule
    from phasewire.app.planned_fit import NeedsFitError
    from phasewire.app.schedule.files import load_schedule

    container = container_from(config)
    settings = container.settings()
    source = settings.scheduler.ft_schedule if schedule is None else schedule
    loaded = None if source is None else load_schedule(source)
    built = build_model(_model_builder(model, init_args, container), on_meta=not on_cpu)

    def planned(adapter: StrategyAdapter | None) -> Plan:
        return plan_schedule(
            built,
            loaded,
            settings.scheduler,
            container.validator(),
            max_epochs=settings.trainer.get("max_epochs"),
            adapter=adapter,
            model_views=container.model_views(),
        )

    try:
        result = planned(_adapter_of(container))
    except NeedsFitError as error:
        echo_warning(f"{error} The plan uses the module's own parameter names.")
        result = planned(None)
    stdout_console().print(result.table())
    if loaded is None:
        typer.echo("No schedule was given: this is the one that would be generated.")
    if result.untrained_phases:
        typer.echo(f"max_depth leaves out the last {result.untrained_phases} phases of the schedule.")
    for warning in result.warnings:
        echo_warning(warning)


def _adapter_of(container: Wired) -> StrategyAdapter | None:
    """Build the adapter that the configuration maps to its strategy, if it maps any."""
    settings = container.settings()
    mapping = settings.scheduler.custom_strategy_adapters
    if not mapping:
        return None
    strategy, devices = (settings.trainer.get(key, "auto") for key in ("strategy", "devices"))
    record = container.resolver().planned(mapping, strategy=strategy, devices=devices)
    if record is None:
        echo_warning(
            f"Which adapter the strategy {strategy!r} gets is known when it runs. The plan uses the module's own "
            "parameter names."
        )
        return None
    return record(**(settings.scheduler.strategy_adapter_cfg or {}))


def _model_builder(model: str | None, init_args: str | None, container: Wired) -> Callable[[], object]:
    from phasewire.adapters.errors import ConfigError

    if model is not None:
        return model_from_text(model, init_args)
    if container.settings().model is None:
        raise ConfigError(
            "plan needs a model.",
            remedy="Name its class, as in 'phasewire plan my_project.models.Classifier', or give --config FILE with a "
            "model section.",
        )
    if init_args is not None:
        raise ConfigError(
            "The model and its arguments come from --config here.",
            where="--init-args",
            remedy="Change model.init_args in a further --config file, or name the class on the command line.",
        )
    return container.model
