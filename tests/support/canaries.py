"""Objects that create a file when a pickle of them is loaded as pickles are: harmless stand-ins for any other code."""

from __future__ import annotations

from pathlib import Path


class Canary:
    """Asks whoever unpickles it to make a file.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.file,)
