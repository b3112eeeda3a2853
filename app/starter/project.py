"""Writing the project: all of its files, or none."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from phasewire.adapters.base import API_VERSION
from phasewire.adapters.errors import ConfigError
from phasewire.app.entry_points import own_version
from phasewire.app.starter.names import ProjectNames

__all__ = ["write_project"]

#: Where each file stands in the project, and the template it is made from; both are templates.
_FILES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".gitignore": "gitignore.j2",
        "README.md": "README.md.j2",
        "pyproject.toml": "pyproject.toml.j2",
        "src/{{ names.package }}/__init__.py": "init.py.j2",
        "src/{{ names.package }}/adapter.py": "adapter.py.j2",
        "src/{{ names.package }}/py.typed": "py.typed.j2",
        "tests/test_adapter.py": "test_adapter.py.j2",
    }
)


def write_project(names: ProjectNames, folder: Path) -> list[PurePosixPath]:
    """Write a plug-in project.

    Args:
        names: The names in it.
        folder: The folder of the project; made when it is missing, together with those above it.

    Returns:
        The files that were written, relative to the folder.

    Raises:
        ConfigError: The folder holds something, or cannot be written; nothing was written or changed.
    """
    texts = _rendered(names)
    place = folder.absolute()
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise _taken(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.parent / f".{place.name}.{uuid.uuid4().hex}.tmp"
        try:
            _write(texts, draft)
            _publish(draft, place, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"The project cannot be written: {error.strerror or type(error).__name__}.",
            where=str(folder),
            remedy="Give --directory a place that you may write to.",
        ) from error
    return sorted(texts)


def _rendered(names: ProjectNames) -> dict[PurePosixPath, str]:
    # What is made is no page for a browser, in which text would have to be escaped.
    environment = Environment(
        loader=PackageLoader("phasewire.app.starter"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # as above
    )
    values = {"names": names, "api_version": API_VERSION, "phasewire_version": own_version()}
    return {
        PurePosixPath(environment.from_string(place).render(values)): environment.get_template(template).render(values)
        for place, template in _FILES.items()
    }


def _write(texts: Mapping[PurePosixPath, str], folder: Path) -> None:
    for place, text in texts.items():
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")


def _publish(draft: Path, place: Path, folder: Path) -> None:
    """Give the finished draft its place. An empty folder that is there stays, for a shell may stand in it."""
    if not place.exists():
        draft.rename(place)
        return
    moved: list[Path] = []
    try:
        for entry in sorted(draft.iterdir()):
            moved.append(_moved(entry, place / entry.name, folder))  # noqa: PERF401  # a part of it may be put back
    except BaseException:
        for target in moved:
            target.rename(draft / target.name)
        raise


def _moved(entry: Path, target: Path, folder: Path) -> Path:
    # A rename would replace a file that was made meanwhile.
    if target.exists():
        raise _taken(folder)
    return entry.rename(target)


def _taken(folder: Path) -> ConfigError:
    return ConfigError(
        "This is no empty folder, and nothing in it is overwritten.",
        where=str(folder),
        remedy="Move it away, or give another folder with --directory.",
    )
