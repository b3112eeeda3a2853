"""``phasewire plan``: show what a schedule would do, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.configured import model_builder, with_configured_adapter
from phasewire.app.commands.reporting import echo_warning, stdout_console
from phasewire.app.commands.wiring import ConfigFiles, InitArgs, OnCpu, container_from

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.plan import Plan

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
    from phasewire.app.schedule.files import load_schedule

    container = container_from(config)
    settings = container.settings()
    source = settings.scheduler.ft_schedule if schedule is None else schedule
    loaded = None if source is None else load_schedule(source)
    built = build_model(model_builder(model, init_args, container, needed_by="plan"), on_meta=not on_cpu)

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

    result = with_configured_adapter(container, planned)
    stdout_console().print(result.table())
    if loaded is None:
        typer.echo("No schedule was given: this is the one that would be generated.")
    if result.untrained_phases:
        typer.echo(f"max_depth leaves out the last {result.untrained_phases} phases of the schedule.")
    for warning in result.warnings:
        echo_warning(warning)
