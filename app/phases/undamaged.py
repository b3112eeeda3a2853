"""Tells a checkpoint whose bytes have changed since it was written.

A checkpoint of torch is a zip archive, which holds a checksum of every tensor; ``torch.load`` does not compare them, and
loads a weight with a flipped bit without a word.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import torch

from phasewire.adapters.errors import CheckpointError
from phasewire.app.atomic_save import is_local

__all__ = ["Signature", "require_undamaged", "signature_of"]

#: What the system tells of a file, and changes with it: device, number, size in bytes, time of the last change.
Signature = tuple[int, int, int, int]


def signature_of(path: str | os.PathLike[str]) -> Signature | None:
    """Tell what changes when a file does.

    Args:
        path: The file.

    Returns:
        What the system tells; ``None`` if it is no file of this machine.
    """
    if not is_local(path) or not Path(path).is_file():
        return None
    told = Path(path).stat()
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


def require_undamaged(path: str | os.PathLike[str]) -> None:
    """Compare the checksums in a checkpoint with what they are of.

    Remote files, folders of shards, and files that are no archives are left to what reads them; and all are where
    ``torch.serialization.set_crc32_options(False)`` lets torch leave the checksums out.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: One differs.
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is a damaged archive.
    """
    if not is_local(path) or not Path(path).is_file() or not torch.serialization.get_crc32_options():
        return
    with Path(path).open("rb") as file:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"The checkpoint is damaged: {damaged.partition('/')[2] or damaged} in it does not have the checksum that "
            "it was written with.",
            where=os.fspath(path),
            remedy="Give another checkpoint, such as an earlier one or a copy, and have a look at the disk.",
        )
