"""What several commands share: the container, and class paths given on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from phasewire.app.given_text import mapping_from_text, model_from_text
from phasewire.app.wired import container_from, new_container

__all__ = [
    "ConfigFiles",
    "InitArgs",
    "OnCpu",
    "container_from",
    "mapping_from_text",
    "model_from_text",
    "new_container",
    "working_directory_importable",
]

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="A YAML file as `config init` writes it. Given several times, later files override earlier "
        "ones key by key.",
    ),
]
InitArgs = Annotated[
    str | None,
    typer.Option(metavar="YAML", help="Arguments of the model's constructor, as YAML or JSON text: '{width: 64}'."),
]
OnCpu = Annotated[
    bool,
    typer.Option("--on-cpu", help="Build the model on the CPU, for a constructor that needs real values."),
]


@contextmanager
def working_directory_importable() -> Iterator[None]:
    """Let class paths name modules of the working directory, as under ``python -m``, while a command runs.

    Yields:
        Nothing.
    """
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
