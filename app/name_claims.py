"""Names of files that a process is about to save, claimed so that no other process takes them meanwhile."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from phasewire.app.atomic_save import claim_path, is_local

__all__ = ["NameClaims"]


class NameClaims:
    """Claims names, and gives the claims up when the files are saved.

    A claim is a hidden file beside the name that is locked as long as it holds, so that it ends with the process. One
    that a killed process left is removed by the next save of that file. Where files cannot be locked, and under
    Windows, every claim succeeds, as if there were no other process.
    """

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    @property
    def held(self) -> tuple[str, ...]:
        """The names that are claimed."""
        return tuple(self._held)

    def claim(self, path: str | os.PathLike[str]) -> bool:
        """Claim a name.

        Args:
            path: The file that will be saved; its folder need not be there.

        Returns:
            Whether no other process holds it. Where the folder cannot be written to, the save will tell.
        """
        name = os.fspath(path)
        if sys.platform == "win32" or not is_local(name) or name in self._held:
            return True
        place = claim_path(Path(name))
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _locked(place)
        except OSError:
            return True
        if descriptor is not None:
            self._held[name] = descriptor
        return descriptor is not None

    def release(self, path: str | os.PathLike[str] | None = None) -> None:
        """Give up a claim.

        Args:
            path: The file; all claims if ``None``.
        """
        for name in list(self._held) if path is None else [os.fspath(path)]:
            descriptor = self._held.pop(name, None)
            if descriptor is not None:
                claim_path(Path(name)).unlink(missing_ok=True)
                os.close(descriptor)


if sys.platform != "win32":
    import fcntl

    def _locked(place: Path) -> int | None:
        """Lock a file, which is made where it is missing; ``None`` if another process has done so."""
        while True:
            descriptor = os.open(place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except OSError:
                return descriptor  # a file system without locks
            if _is_there(place, descriptor):
                return descriptor
            os.close(descriptor)  # its holder has just removed it

    def _is_there(place: Path, descriptor: int) -> bool:
        try:
            return os.path.samestat(place.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False
