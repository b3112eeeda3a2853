"""``phasewire config``: write a configuration to begin with, and show what several files amount to."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from phasewire.app.commands.wiring import ConfigFiles, container_from

__all__ = ["config_app"]

config_app = typer.Typer(no_args_is_help=True, help="Write a configuration to begin with, and show merged ones.")


@config_app.command()
def init(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")] = Path(
        "config.yaml"
    ),
) -> None:
    """Write a complete configuration: every setting at its default, with a comment.

    Example: `phasewire config init`
    """
    from phasewire.adapters.errors import ConfigError

    # The file at the root of the repository, which travels in the package.
    text = files("phasewire.app").joinpath("config.yaml").read_text(encoding="utf-8")
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(
            "The file exists, and is not overwritten.",
            where=str(output),
            remedy="Move it away, or give another name with --output.",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"The file cannot be written: {error.strerror}.",
            where=str(output),
            remedy="Give --output a file in a folder that exists and that you may write to.",
        ) from error
    typer.echo(f"Wrote {output}.")


@config_app.command()
def show(config: ConfigFiles = None) -> None:
    """Show the merged result of all --config files as YAML, defaults included.

    Example: `phasewire config show --config config.yaml --config more-epochs.yaml`
    """
    from phasewire.app.config_file import dump_yaml

    settings = container_from(config).settings()
    typer.echo(dump_yaml(settings.model_dump(), escape_env=True), nl=False)
