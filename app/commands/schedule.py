"""``phasewire schedule``: write a schedule to edit, and check one that was edited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.configured import model_builder, with_configured_adapter
from phasewire.app.commands.reporting import echo_warning, stdout_console
from phasewire.app.commands.wiring import ConfigFiles, InitArgs, OnCpu, container_from, mapping_from_text

if TYPE_CHECKING:
    from torch import nn

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.plan import Plan
    from phasewire.app.schedule.generators import NamedParameters
    from phasewire.app.schedule.model import Schedule
    from phasewire.app.wired import Wired

__all__ = ["schedule_app"]

schedule_app = typer.Typer(no_args_is_help=True, help="Write a schedule to edit, and check one that was edited.")


@schedule_app.command()
def generate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="CLASS_PATH",
            help="The model: pkg.module.Class or pkg.module:Class; by default that of --config.",
            show_default=False,
        ),
    ] = None,
    init_args: InitArgs = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write; by default `ClassName_ft_schedule.yaml`. An existing file with other content is "
            "kept, and a numbered name taken.",
            show_default=False,
        ),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What makes it: pairs (two parameters a phase, last layers first), per_block, equal_mass, "
            "discriminative, the name of an installed generator, or module:function; by default that of --config, or "
            "else pairs.",
            show_default=False,
        ),
    ] = None,
    options: Annotated[
        str | None, typer.Option(metavar="YAML", help="The options of the generator, such as '{phases: 4}'.")
    ] = None,
    config: ConfigFiles = None,
    on_cpu: OnCpu = False,
) -> None:
    """Write a schedule for a model: two parameters a phase, last layers first, or what another generator makes.

    With an adapter in --config the schedule is in its names; a TransformerBridge, which reads weights, needs --on-cpu.

    Example: `phasewire schedule generate my_project.models.Classifier --generator per_block`
    """
    from phasewire.app.plan import build_model
    from phasewire.app.schedule.files import save_schedule

    container = container_from(config)
    built = build_model(model_builder(model, init_args, container, needed_by="schedule generate"), on_meta=not on_cpu)
    schedule = _generated(built, container, generator, options)
    wanted = output or Path(f"{type(built).__name__}_ft_schedule.yaml")
    written = save_schedule(schedule, wanted)
    kept = "" if written == wanted else f" {wanted} holds something else, and was left as it is."
    typer.echo(f"Wrote {written}: {len(schedule.phases)} phases.{kept}")


@schedule_app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The schedule file.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS_PATH",
            help="The model: pkg.module.Class or pkg.module:Class; by default that of --config.",
            show_default=False,
        ),
    ] = None,
    init_args: InitArgs = None,
    config: ConfigFiles = None,
    on_cpu: OnCpu = False,
) -> None:
    """Check a schedule file against a model, and show its phases.

    With an adapter in --config the schedule is in its names; a TransformerBridge, which reads weights, needs --on-cpu.

    Example: `phasewire schedule validate my.yaml --model my_project.models.Classifier`
    """
    from phasewire.app.plan import build_model, plan_schedule
    from phasewire.app.schedule.files import load_schedule

    schedule = load_schedule(file)
    container = container_from(config)
    settings = container.settings()
    build = model_builder(model, init_args, container, needed_by="schedule validate", option="--model")
    built = build_model(build, on_meta=not on_cpu)

    def planned(adapter: StrategyAdapter | None) -> Plan:
        return plan_schedule(
            built,
            schedule,
            settings.scheduler,
            container.validator(),
            max_epochs=settings.trainer.get("max_epochs"),
            adapter=adapter,
            model_views=container.model_views(),
        )

    plan = with_configured_adapter(container, planned)
    stdout_console().print(plan.table())
    for warning in plan.warnings:
        echo_warning(warning)
    left_out = plan.total - plan.phases[-1].thawed
    typer.echo(
        f"{file} is valid for {plan.model}: {len(plan.phases)} phases, "
        + (f"{left_out:,} of {plan.total:,} parameters are never thawed." if left_out else "every parameter is thawed.")
    )


def _generated(built: nn.Module, container: Wired, generator: str | None, options: str | None) -> Schedule:
    from phasewire.app.planned_fit import PlannedFit
    from phasewire.app.schedule_generators import ModuleNames

    settings = container.settings().scheduler
    of_config = generator is None and settings.schedule_generator is not None
    chosen = (settings.schedule_generator if of_config else generator) or "pairs"
    given = mapping_from_text(options, "--options")

    def generate(names: NamedParameters) -> Schedule:
        return container.schedule_generators().generate(
            chosen,
            given if options is not None or not of_config else settings.schedule_generator_cfg or {},
            built,
            names,
            where="scheduler.schedule_generator" if of_config else "--generator",
            options_where="scheduler.schedule_generator_cfg" if of_config and options is None else "--options",
        )

    def made(adapter: StrategyAdapter | None) -> Schedule:
        if adapter is None:
            return generate(ModuleNames(built))
        validator = container.validator()
        fit = PlannedFit(
            adapter,
            built,
            lambda schedule, named, rules: validator.validate(schedule, named, rules=rules),
            container.model_views(),
            settings.base_max_lr,
        )
        return fit.generate(generate)

    return with_configured_adapter(container, made)
