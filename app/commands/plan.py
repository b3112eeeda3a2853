"""``phasewire plan``: show what a schedule would do, without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from phasewire.app.commands.planning import Planner
from phasewire.app.commands.reporting import FOUND_EXIT_CODE, echo_json, echo_warning, show
from phasewire.app.commands.wiring import (
    AsJson,
    Attribute,
    BuiltAs,
    ConfigFiles,
    InitArgs,
    ModelArgument,
    OnCpu,
    container_from,
)

if TYPE_CHECKING:
    from phasewire.app.planning.values import Plan

__all__ = ["plan"]

#: Characters of a line of the picture where there is no terminal.
_PIPED_PICTURE: Final = 120


def plan(
    model: ModelArgument = None,
    init_args: InitArgs = None,
    built_as: BuiltAs = None,
    attribute: Attribute = None,
    config: ConfigFiles = None,
    schedule: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A schedule file; by default that of --config, or else the schedule that would be generated.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="The Trainer's precision, such as bf16-true; by default that of --config, or 32-true."
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="The optimizer of phase 0: a class path, or '{class_path: torch.optim.SGD, init_args: {momentum: "
            "0.9}}'; by default that of the model's configure_optimizers.",
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Also draw the plan into a file: .svg, .png or .html. May be given several times. An existing file is "
            "replaced.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only say whether the schedule is valid for the model; exit with 1 if it is not."),
    ] = False,
    diff: Annotated[
        Path | None,
        typer.Option(metavar="OTHER", help="Show what another schedule would do differently, phase by phase."),
    ] = None,
    as_json: AsJson = False,
    on_cpu: OnCpu = False,
) -> None:
    """Show the phases of a schedule: what each thaws, its learning rate and memory, and when it ends.

    The model is built without storage for its parameters, so a large one costs nothing. Nothing is trained. Memory is
    that of gradients and optimizer on one device; activations come in addition. With an adapter in --config the
    schedule is in its names; a TransformerBridge, which reads weights, needs --on-cpu.

    Example: `phasewire plan my_project.models.Classifier --init-args '{width: 64}' --schedule my.yaml`

    Example: `phasewire plan ./Llama-70B --precision bf16-true --out plan.html`

    Example: `phasewire plan --config config.yaml --check`
    """
    from phasewire.adapters.errors import ConfigError, ScheduleError

    if check and diff is not None:
        raise ConfigError(
            "--check looks at one schedule, and --diff compares two.",
            where="--check, --diff",
            remedy="Give one of them; to check the other schedule, name it by --schedule.",
        )
    planner = Planner(
        container_from(config),
        model,
        needed_by="plan",
        init_args=init_args,
        built_as=built_as,
        attribute=attribute,
        precision=precision,
        optimizer=optimizer,
        on_cpu=on_cpu,
    )
    write = _writer(out or [])
    try:
        result = planner.plan(schedule)
        other = None if diff is None else planner.plan(diff)
    except ScheduleError as error:
        if not check:
            raise
        _report_invalid(error, as_json=as_json)
        raise typer.Exit(FOUND_EXIT_CODE) from error
    names = (planner.name_of(schedule), str(diff))
    if check:
        _report_valid(result, names[0], as_json=as_json)
    elif other is not None:
        _show_diff(result, other, names, as_json=as_json)
    elif as_json:
        _show_json(result)
    else:
        _show(result, generated=planner.is_generated(schedule))
    # What differs is a list of phases, which has no place for warnings.
    if not as_json or other is not None:
        for warning in dict.fromkeys((*result.warnings, *(() if other is None else other.warnings))):
            echo_warning(warning)
    write(result, names[0])


def _show(result: Plan, *, generated: bool) -> None:
    from rich.console import Console

    from phasewire.app.planning.terminal import picture, table
    from phasewire.app.planning.words import remarks

    console = Console()
    show(table(result, width=console.width if console.is_terminal else None))
    typer.echo()
    show(picture(result, width=console.width if console.is_terminal else _PIPED_PICTURE, plain=not console.is_terminal))
    said = ["No schedule was given: this is the one that would be generated."] if generated else []
    for remark in (*said, *remarks(result)):
        typer.echo(remark)


def _show_json(result: Plan) -> None:
    from phasewire.app.planning.as_json import plan_as_json

    echo_json(plan_as_json(result))


def _show_diff(result: Plan, other: Plan, names: tuple[str, str], *, as_json: bool) -> None:
    from phasewire.app.planning.diff import diff_as_json, diff_tree

    if as_json:
        echo_json(diff_as_json(result, other))
    else:
        show(diff_tree(result, other, names))


def _report_valid(result: Plan, name: str, *, as_json: bool) -> None:
    from phasewire.app.planning.words import phase_count

    if as_json:
        echo_json({"valid": True, "error": None, "warnings": list(result.warnings)})
        return
    typer.echo(f"{name} is valid for {result.model}: {phase_count(len(result.phases))}.")


def _report_invalid(error: Exception, *, as_json: bool) -> None:
    if as_json:
        echo_json({"valid": False, "error": str(error), "warnings": []})
        return
    typer.secho("Not valid: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(str(error), err=True)


def _writer(files: list[Path]) -> Callable[[Plan, str], None]:
    """Make what draws a plan into files; whether it can is seen before anything is planned."""
    if not files:
        return lambda _plan, _name: None
    from phasewire.app.planning.drawing import PlanFiles

    drawing = PlanFiles(files)

    def write(result: Plan, name: str) -> None:
        for file in drawing.write(result, name):
            typer.echo(f"Wrote {file}", err=True)

    return write
