"""Tells a checkpoint whose bytes have changed since it was written."""

from __future__ import annotations

import os
from pathlib import Path

from phasewire.adapters.checksums import damaged_member
from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.lightning_seams import SHARDS_METADATA
from phasewire.app.atomic_save import is_local

__all__ = ["SavedFiles", "require_undamaged"]

# What the system tells of a file, and changes with it: device, number, size in bytes, time of the last change.
_Signature = tuple[int, int, int, int]


class SavedFiles:
    """The files that a run has saved: what nobody has touched since then needs no look at every byte of it."""

    def __init__(self) -> None:
        self._signatures: dict[str, _Signature | None] = {}

    def note(self, path: str | os.PathLike[str]) -> None:
        """Note a file that was saved just now.

        Args:
            path: Where it is.
        """
        self._signatures[os.fspath(path)] = _signature_of(path)

    def require_undamaged(self, path: str | os.PathLike[str]) -> None:
        """Compare the checksums in a checkpoint, as :func:`require_undamaged` does, if it was changed since.

        Args:
            path: The checkpoint.

        Raises:
            CheckpointError: It is damaged.
            OSError: The file cannot be read.
        """
        signature = _signature_of(path)
        if signature is None or signature != self._signatures.get(os.fspath(path)):
            require_undamaged(path)


def require_undamaged(path: str | os.PathLike[str]) -> None:
    """Compare the checksums in a checkpoint with what they are of.

    Remote files and files that are no archives are left to what reads them, and so are the shards in a folder, whose
    other content is looked at; what has no checksum, :func:`~phasewire.adapters.checksums.damaged_member` tells.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: One differs.
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is a damaged archive.
    """
    if not is_local(path):
        return
    whole = Path(path) / SHARDS_METADATA if Path(path).is_dir() else Path(path)
    if not whole.is_file():
        return
    with whole.open("rb") as file:
        damaged = damaged_member(file)
    if damaged is not None:
        raise CheckpointError(
            f"The checkpoint is damaged: {damaged} in it does not have the checksum that it was written with.",
            where=str(whole),
            remedy="Give another checkpoint, such as an earlier one or a copy, and have a look at the disk.",
        )


def _signature_of(path: str | os.PathLike[str]) -> _Signature | None:
    if not is_local(path) or not Path(path).is_file():
        return None
    told = Path(path).stat()
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns
