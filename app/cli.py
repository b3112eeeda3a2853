"""The ``phasewire`` command: global options, and the commands put together.

Commands import what they need when they run, so that ``--help`` answers without loading torch.
"""

from __future__ import annotations

from typing import Annotated

import typer

from phasewire.app.commands.adapters import adapters_app
from phasewire.app.commands.checkpoint import checkpoint_app
from phasewire.app.commands.config import config_app
from phasewire.app.commands.demo import demo
from phasewire.app.commands.fit import fit
from phasewire.app.commands.plan import plan
from phasewire.app.commands.report import report
from phasewire.app.commands.reporting import ErrorReportingGroup
from phasewire.app.commands.schedule import schedule_app
from phasewire.app.commands.wiring import working_directory_importable

__all__ = ["app", "main"]

app = typer.Typer(
    name="phasewire",
    cls=ErrorReportingGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # Tracebacks are for bugs, where the plain one that everybody can paste is the most use.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(fit)
app.command()(demo)
app.command()(plan)
app.command()(report)
app.add_typer(schedule_app, name="schedule")
app.add_typer(adapters_app, name="adapters")
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(config_app, name="config")


def main() -> None:
    """Run the command line; the entry point of the ``phasewire`` console script."""
    app(prog_name="phasewire")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"phasewire {version('phasewire')}")
        except PackageNotFoundError:
            typer.echo("phasewire, run from a folder that is not installed")
        raise typer.Exit


@app.callback()
def common_options(
    context: typer.Context,
    debug: Annotated[  # noqa: ARG001  # ErrorReportingGroup reads it
        bool, typer.Option("--debug", help="Show the traceback of an error. Give it before the command.")
    ] = False,
    version: Annotated[  # noqa: ARG001  # its callback acts on it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Thaw a pretrained model phase by phase while PyTorch Lightning trains it.

    Begin with `phasewire demo`, which shows it on real data. For your own model, `phasewire config init` writes a
    commented config.yaml, `phasewire plan --config config.yaml` shows what would happen, and `phasewire fit --config
    config.yaml` trains.
    """
    context.with_resource(working_directory_importable())
