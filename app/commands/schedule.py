"""``phasewire schedule``: write a schedule to edit, and check one that was edited."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phasewire.app.commands.reporting import echo_warning, show
from phasewire.app.commands.wiring import (
    ConfigFiles,
    InitArgs,
    OnCpu,
    container_from,
    mapping_from_text,
    model_from_text,
)

__all__ = ["schedule_app"]

schedule_app = typer.Typer(no_args_is_help=True, help="Write a schedule to edit, and check one that was edited.")


@schedule_app.command()
def generate(
    model: Annotated[
        str, typer.Argument(metavar="CLASS_PATH", help="The model: pkg.module.Class or pkg.module:Class.")
    ],
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
        str,
        typer.Option(
            metavar="NAME",
            help="What makes it: pairs (two parameters a phase, last layers first), per_block, equal_mass, "
            "discriminative, the name of an installed generator, or module:function.",
        ),
    ] = "pairs",
    options: Annotated[
        str | None, typer.Option(metavar="YAML", help="The options of the generator, such as '{phases: 4}'.")
    ] = None,
    config: ConfigFiles = None,
    on_cpu: OnCpu = False,
) -> None:
    """Write a schedule for a model: two parameters a phase, last layers first, or what another generator makes.

    Example: `phasewire schedule generate my_project.models.Classifier --generator per_block`
    """
    from phasewire.app.plan import build_model
    from phasewire.app.schedule.files import save_schedule
    from phasewire.app.schedule_generators import ModuleNames

    built = build_model(model_from_text(model, init_args), on_meta=not on_cpu)
    schedule = (
        container_from(config)
        .schedule_generators()
        .generate(
            generator,
            mapping_from_text(options, "--options"),
            built,
            ModuleNames(built),
            where="--generator",
            options_where="--options",
        )
    )
    wanted = output or Path(f"{type(built).__name__}_ft_schedule.yaml")
    written = save_schedule(schedule, wanted)
    kept = "" if written == wanted else f" {wanted} holds something else, and was left as it is."
    typer.echo(f"Wrote {written}: {len(schedule.phases)} phases.{kept}")


@schedule_app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The schedule file.")],
    model: Annotated[str, typer.Option(metavar="CLASS_PATH", help="The model: pkg.module.Class or pkg.module:Class.")],
    init_args: InitArgs = None,
    on_cpu: OnCpu = False,
) -> None:
    """Check a schedule file against a model, and show its phases.

    Example: `phasewire schedule validate my.yaml --model my_project.models.Classifier`
    """
    from phasewire.app.plan import build_model, plan_schedule
    from phasewire.app.planning.terminal import table
    from phasewire.app.schedule.files import load_schedule

    schedule = load_schedule(file)
    container = container_from(None)
    plan = plan_schedule(
        build_model(model_from_text(model, init_args), on_meta=not on_cpu),
        schedule,
        container.settings().scheduler,
        container.validator(),
    )
    show(table(plan))
    for warning in plan.warnings:
        echo_warning(warning)
    left_out = plan.total - plan.phases[-1].thawed
    typer.echo(
        f"{file} is valid for {plan.model}: {len(plan.phases)} phases, "
        + (f"{left_out:,} of {plan.total:,} parameters are never thawed." if left_out else "every parameter is thawed.")
    )
