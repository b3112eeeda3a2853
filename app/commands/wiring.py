"""What several commands share: the container, and class paths given on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from phasewire.app.wired import Wired

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


def new_container() -> Wired:
    """Make an empty container.

    Imports point one way, containers to app to adapters, and the command line lives in app. It is also where a
    program begins, and something has to name the container there: it is named by its path, when a command runs.

    Returns:
        A new ``phasewire.containers.Container``.
    """
    from phasewire.app.class_path import import_attribute

    container_class = cast("Callable[[], Wired]", import_attribute("phasewire.containers:Container"))
    return container_class()


def container_from(config_files: Sequence[Path] | None) -> Wired:
    """Make a container that is configured by files.

    Args:
        config_files: YAML files; a later one overrides an earlier one.

    Returns:
        The container; its ``settings()`` are valid.

    Raises:
        ConfigError: A file cannot be read, or says something that cannot be used.
    """
    container = new_container()
    for path in config_files or ():
        container.config.from_yaml(path)
    container.settings()
    return container


def model_from_text(class_path: str, init_args: str | None) -> Callable[[], object]:
    """Make what builds the model that was named on the command line.

    Args:
        class_path: ``pkg.mod.Class`` or ``pkg.mod:Class``.
        init_args: A YAML or JSON mapping; ``None`` for no arguments.

    Returns:
        A callable that builds the model; it raises as :func:`phasewire.app.class_path.instantiate` does.

    Raises:
        ConfigError: ``init_args`` does not parse or is no mapping.
    """
    from phasewire.app.class_path import instantiate

    spec = {"class_path": class_path, "init_args": mapping_from_text(init_args, "--init-args")}
    return lambda: instantiate(spec, locate=_option_of)


# Any: keys and values are whatever YAML can be; whoever takes them checks them.
def mapping_from_text(text: str | None, option: str) -> dict[Any, Any]:
    """Read a mapping that was given on the command line.

    Args:
        text: A YAML or JSON mapping; ``None`` for an empty one.
        option: The option that gave it, for messages.

    Returns:
        The mapping.

    Raises:
        ConfigError: It does not parse or is no mapping.
    """
    from phasewire.adapters.errors import ConfigError
    from phasewire.app.config_file import parse_yaml

    try:
        return parse_yaml(text or "").mapping()
    except ConfigError as error:
        raise ConfigError(
            error.problem,
            where=", ".join(filter(None, [option, error.where])),
            remedy="Give YAML or JSON such as '{width: 64, depth: 2}'.",
        ) from error


def _option_of(keys: Sequence[str | int]) -> str:
    from phasewire.app.config_file import key_path

    section, *rest = keys or ("class_path",)
    return ", ".join(filter(None, ["--init-args", key_path(rest)])) if section == "init_args" else "CLASS_PATH"


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
