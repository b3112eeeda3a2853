"""``phasewire plan``: show what a schedule would do, without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.reporting import echo_warning, stdout_console
from phasewire.app.commands.wiring import ConfigFiles, InitArgs, OnCpu, container_from, model_from_text

if TYPE_CHECKING:
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

    The model is built without storage for its parameters, so a large one costs nothing. Nothing is trained.

    Example: `phasewire plan my_project.models.Classifier --init-args '{width: 64}' --schedule my.yaml`

    Example: `phasewire plan --config config.yaml`
    """
    from phasewire.app.plan import build_model, plan_schedule
    from phasewire.app.schedule.files import load_schedule

    container = container_from(config)
    settings = container.settings()
    source = settings.scheduler.ft_schedule if schedule is None else schedule
    loaded = None if source is None else load_schedule(source)
    if settings.scheduler.custom_strategy_adapters:
        echo_warning(
            "Adapters are chosen when the strategy runs, so the plan uses the module's own parameter names; a schedule "
            "in the names of an adapter cannot be planned."
        )
    built = build_model(_model_builder(model, init_args, container), on_meta=not on_cpu)
    result = plan_schedule(
        built, loaded, settings.scheduler, container.validator(), max_epochs=settings.trainer.get("max_epochs")
    )
    stdout_console().print(result.table())
    if loaded is None:
        typer.echo("No schedule was given: this is the one that would be generated.")
    if result.untrained_phases:
        typer.echo(f"max_depth leaves out the last {result.untrained_phases} phases of the schedule.")
    for warning in result.warnings:
        echo_warning(warning)


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
