"""Tells a checkpoint whose bytes have changed since it was written.

A checkpoint of torch is a zip archive, which holds a checksum of every tensor; ``torch.load`` does not compare them,
and loads a weight with a flipped bit without a word.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Final

from phasewire.adapters.errors import CheckpointError
from phasewire.app.atomic_save import is_local

__all__ = ["SavedFiles", "require_undamaged"]

# What the system tells of a file, and changes with it: device, number, size in bytes, time of the last change.
_Signature = tuple[int, int, int, int]
#: What is read at once.
_PIECE_BYTES: Final = 2**20


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

    Remote files, folders of shards, and files that are no archives are left to what reads them; so is all that torch
    has written without a checksum, under ``torch.serialization.set_crc32_options(False)`` or ``skip_data()``.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: One differs.
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is a damaged archive.
    """
    if _signature_of(path) is None:
        return
    with Path(path).open("rb") as file:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            damaged = _damaged_member(archive)
    if damaged is not None:
        raise CheckpointError(
            f"The checkpoint is damaged: {damaged.partition('/')[2] or damaged} in it does not have the checksum that "
            "it was written with.",
            where=os.fspath(path),
            remedy="Give another checkpoint, such as an earlier one or a copy, and have a look at the disk.",
        )


def _damaged_member(archive: zipfile.ZipFile) -> str | None:
    for info in archive.infolist():
        if not info.CRC:
            continue  # torch's word for none; of four thousand million tensors one has it as its own
        try:
            with archive.open(info) as member:
                while member.read(_PIECE_BYTES):
                    pass
        except zipfile.BadZipFile:
            return info.filename
    return None


def _signature_of(path: str | os.PathLike[str]) -> _Signature | None:
    if not is_local(path) or not Path(path).is_file():
        return None
    told = Path(path).stat()
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns
