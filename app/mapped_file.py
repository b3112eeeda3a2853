"""Finds what is mapped into memory in its file, and lets the system copy it from there to another file.

Memory that is mapped costs a page fault for every few pages when it is read, which takes longer than the copying.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import IO, Final

__all__ = ["MappedFile", "mapped_file"]

_MAPS: Final = Path("/proc/self/maps")
_COMPARED_BYTES: Final = 64


class MappedFile:
    """A file that is mapped into memory.

    Args:
        file: The file, open for reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ranges = list(_ranges_of(file)) if sys.platform == "linux" else []

    def copy(self, data: memoryview, address: int, target: RawIOBase) -> bool:
        """Copy mapped memory to a file, without reading it here.

        Args:
            data: The memory.
            address: Its address.
            target: The file to write to, at its position.

        Returns:
            Whether it was copied; otherwise nothing was written, because where the memory is mapped is not known.
        """
        place = next((at + address - begin for begin, end, at in self._ranges if begin <= address < end), None)
        if place is None or sys.platform != "linux" or not len(data):
            return False
        source = self._file.fileno()
        if os.pread(source, min(_COMPARED_BYTES, len(data)), place) != bytes(data[:_COMPARED_BYTES]):
            return False
        copied = 0
        while copied < len(data):
            sent = os.sendfile(target.fileno(), source, place + copied, len(data) - copied)
            if not sent:
                raise OSError(f"the file ends at {place + copied}, and was longer when it was opened")
            copied += sent
        return True


@contextmanager
def mapped_file(path: Path) -> Iterator[MappedFile]:
    """Open a file that is mapped into memory.

    Args:
        path: The file.

    Yields:
        What copies from it.
    """
    with path.open("rb") as file:
        yield MappedFile(file)


def _ranges_of(file: IO[bytes]) -> Iterator[tuple[int, int, int]]:
    """Give the ranges of memory that a file is mapped to: begin, end, and where in the file the begin is."""
    status = os.fstat(file.fileno())
    try:
        lines = _MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return  # where it cannot be told, it is copied in the ordinary way
    for line in lines:
        addresses, _, offset, device, inode, *_ = line.split(maxsplit=5)
        major, minor = (int(part, 16) for part in device.split(":"))
        if int(inode) == status.st_ino and os.makedev(major, minor) == status.st_dev:
            begin, end = (int(part, 16) for part in addresses.split("-"))
            yield begin, end, int(offset, 16)
