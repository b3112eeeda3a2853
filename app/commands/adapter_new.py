"""``phasewire adapters new``: a plug-in project to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["new_adapter"]


def new_adapter(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the adapter, such as my_adapter; users will write it.")
    ],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            metavar="FOLDER",
            help="The folder of the project, absent or empty; by default one with the name of the adapter, here.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the project of a new adapter: an installable package with the entry point, tests and a README.

    Its tests pass as they are; docs/writing-an-adapter.md goes on from there.

    Example: `phasewire adapters new my_adapter`
    """
    from phasewire.app.discovery import DiscoveryService
    from phasewire.app.starter import ProjectNames, write_project

    names = ProjectNames.of(name, DiscoveryService())
    folder = directory or Path(names.adapter)
    files = write_project(names, folder)
    lines = [f"Wrote the adapter {names.adapter!r} ({names.class_name}) to {folder}:", *(f"  {file}" for file in files)]
    lines += ["Next:", f"  cd {folder}", "  python -m pip install --editable '.[dev]'", "  python -m pytest"]
    typer.echo("\n".join(lines))
