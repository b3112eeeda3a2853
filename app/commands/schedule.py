"""``phasewire schedule``: write a schedule to edit, and see what one that was edited says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phasewire.app.commands.planning import Planner
from phasewire.app.commands.reporting import echo_warning, show
from phasewire.app.commands.schedule_reading import explain, lint
from phasewire.app.commands.wiring import (
    Attribute,
    BuiltAs,
    ConfigFiles,
    InitArgs,
    ModelArgument,
    ModelOption,
    OnCpu,
    ScheduleFile,
    container_from,
)

__all__ = ["schedule_app"]

schedule_app = typer.Typer(
    no_args_is_help=True, help="Write a schedule to edit, complete and check it in an editor, and see what it says."
)


@schedule_app.command()
def generate(
    model: ModelArgument = None,
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
    schema: Annotated[
        bool,
        typer.Option(
            "--schema/--no-schema",
            help="Also write the JSON Schema beside the schedule, by which editors complete and check it.",
        ),
    ] = True,
    config: ConfigFiles = None,
    built_as: BuiltAs = None,
    attribute: Attribute = None,
    on_cpu: OnCpu = False,
) -> None:
    """Write a schedule for a model: two parameters a phase, last layers first, or what another generator makes.

    With an adapter in --config the schedule is in its names; a TransformerBridge, which reads weights, needs --on-cpu.

    Example: `phasewire schedule generate my_project.models.Classifier --generator per_block`
    """
    from phasewire.app.schedule.files import save_schedule
    from phasewire.app.schedule.json_schema import SCHEMA_FILE, write_schema

    planner = Planner(
        container_from(config), model, init_args=init_args, built_as=built_as, attribute=attribute, on_cpu=on_cpu
    )
    made = planner.generate(generator, options)
    wanted = output or Path(f"{type(planner.model).__name__}_ft_schedule.yaml")
    schema_path = write_schema(wanted.parent) if schema else None
    written = save_schedule(made, wanted, schema=schema_path)
    kept = "" if written == wanted else f" {wanted} holds something else, and was left as it is."
    typer.echo(f"Wrote {written}: {len(made.phases)} phases.{kept}")
    if schema and schema_path is None:
        echo_warning(
            f"{wanted.parent / SCHEMA_FILE} holds something else, and was left as it is: editors get no schema."
        )


@schedule_app.command()
def validate(
    file: ScheduleFile,
    model: ModelOption = None,
    init_args: InitArgs = None,
    built_as: BuiltAs = None,
    attribute: Attribute = None,
    config: ConfigFiles = None,
    on_cpu: OnCpu = False,
) -> None:
    """Check a schedule file against a model, and show its phases.

    With an adapter in --config the schedule is in its names; a TransformerBridge, which reads weights, needs --on-cpu.

    Example: `phasewire schedule validate my.yaml --model my_project.models.Classifier`
    """
    from phasewire.app.planning.terminal import table

    plan = Planner(
        container_from(config), model, init_args=init_args, built_as=built_as, attribute=attribute, on_cpu=on_cpu
    ).plan(file)
    show(table(plan))
    for warning in plan.warnings:
        echo_warning(warning)
    left_out = plan.total - plan.phases[-1].thawed
    typer.echo(
        f"{file} is valid for {plan.model}: {len(plan.phases)} phases, "
        + (f"{left_out:,} of {plan.total:,} parameters are never thawed." if left_out else "every parameter is thawed.")
    )


@schedule_app.command()
def schema(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write, in place of what it holds; by default the terminal."),
    ] = None,
) -> None:
    """Write the JSON Schema of schedule files, by which editors complete and check them.

    A schedule names it in its first line, relative to itself:

    `# yaml-language-server: $schema=./phasewire-schedule.schema.json`

    Example: `phasewire schedule schema --out phasewire-schedule.schema.json`
    """
    from phasewire.adapters.errors import ConfigError
    from phasewire.app.schedule.json_schema import schema_text

    if out is None:
        typer.echo(schema_text(), nl=False)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(schema_text())
    except OSError as error:
        raise ConfigError(
            f"The file cannot be written: {error.strerror}.", where=f"--out {out}", remedy="Choose another place."
        ) from error
    typer.echo(f"Wrote {out}")


schedule_app.command()(explain)
schedule_app.command()(lint)
