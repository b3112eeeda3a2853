"""Paths that were given as text, which may name no file that could be."""

from __future__ import annotations

import os
from pathlib import Path

from phasewire.adapters.errors import PhasewireError

__all__ = ["given_path"]


def given_path(path: str | os.PathLike[str], *, error: type[PhasewireError]) -> Path:
    """Make a path of what was given.

    Args:
        path: The path; a leading ``~`` is the home folder.
        error: The class to raise.

    Returns:
        The path.

    Raises:
        PhasewireError: It holds a NUL character, or begins with the home folder of nobody.
    """
    try:
        found = Path(path).expanduser()
    except RuntimeError as cause:
        raise error(
            f"There is no home folder for {os.fspath(path)!r}.", where=str(path), remedy="Write the path without '~'."
        ) from cause
    if "\0" in str(found):
        raise error(
            f"{os.fspath(path)!r} holds a NUL character, which no path may.",
            where=repr(path),
            remedy="Correct the path.",
        )
    return found
