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
    "AsJson",
    "Attribute",
    "BuiltAs",
    "ConfigFiles",
    "InitArgs",
    "ModelArgument",
    "ModelOption",
    "OnCpu",
    "ScheduleFile",
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
    typer.Option(
        metavar="YAML",
        help="Arguments of the model's constructor, as YAML or JSON text: '{width: 64}'. For a folder, changes to its "
        "config.json.",
    ),
]
BuiltAs = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="CLASS",
        help="The class to build from a folder (such as AutoModelForSequenceClassification) or from a checkpoint "
        "(pkg.module.Class).",
    ),
]
Attribute = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The attribute of your module that holds the model: the names of its parameters then begin with NAME.",
    ),
]
_MODEL_HELP = "The model: pkg.module.Class, the folder of a Hugging Face model, or a checkpoint of Lightning"
ModelArgument = Annotated[
    str | None, typer.Argument(metavar="MODEL", help=f"{_MODEL_HELP}; by default that of --config.", show_default=False)
]
ModelOption = Annotated[
    str | None, typer.Option(metavar="MODEL", help=f"{_MODEL_HELP}; by default that of --config.", show_default=False)
]
ScheduleFile = Annotated[Path, typer.Argument(metavar="FILE", help="The schedule file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a machine to read.")]
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
