"""Writing files that people may have edited: whole or not at all, and never over other content."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from phasewire.adapters.errors import ConfigError, PhasewireError
from phasewire.app.given_path import given_path

__all__ = ["write_new_text"]


def write_new_text(path: str | os.PathLike[str], text: str, *, error: type[PhasewireError] = ConfigError) -> Path:
    """Write a file whole or not at all, and never over one that says something else.

    Args:
        path: The file to write, UTF-8; its folder is made when it is missing.
        text: What to write.
        error: The class to raise.

    Returns:
        The file that now holds the text: ``path``, or, where that is taken by other content, the first free or equal
        of ``<stem>_1<suffix>``, ``<stem>_2<suffix>``, ...

    Raises:
        PhasewireError: The file cannot be written, or ``path`` is a folder.
    """
    wanted = Path(path)
    given_path(path, error=error)
    content = text.encode()
    try:
        if wanted.is_dir():
            raise error("This is a folder.", where=str(wanted), remedy="Name a file in it.")
        draft = wanted.with_name(f".{wanted.name}.{uuid.uuid4().hex}.tmp")
        wanted.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(content)
            return next(
                candidate for candidate in _numbered(wanted) if _publish(draft, candidate) or _holds(candidate, content)
            )
        finally:
            draft.unlink(missing_ok=True)
    except OSError as cause:
        problem = f"The file cannot be written: {cause.strerror or type(cause).__name__}."
        raise error(problem, where=str(wanted), remedy="Choose another place.") from cause


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(1):
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")


def _publish(draft: Path, path: Path) -> bool:
    """Give the finished draft its name unless something has that name: a link fails where a rename would replace."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:
        # Some file systems have no hard links. An exclusive write replaces nothing either.
        try:
            with path.open("xb") as file:
                file.write(draft.read_bytes())
        except FileExistsError:
            return False
    return True


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
