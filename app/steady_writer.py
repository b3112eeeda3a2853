"""Writes what is large to a file, without a buffer between and without a long wait at the end."""

from __future__ import annotations

import io
import os
import sys
from typing import Final, cast

__all__ = ["SteadyWriter"]

#: What is written at once. For more, the system looks for memory that lies in one piece, and may look for long.
_PIECE_BYTES: Final = 2**20
#: After how much the disk begins with it.
_BEGUN_BYTES: Final = 2**25


class SteadyWriter:
    """Writes to a file.

    Args:
        file: The file; what it has buffered is written first.
    """

    def __init__(self, file: io.BufferedWriter) -> None:
        file.flush()
        # The buffer would be filled over and over.
        self._raw = cast("io.RawIOBase", file.raw)

    def write(self, data: memoryview) -> None:
        """Write bytes at the position of the file.

        Args:
            data: The bytes.
        """
        begun = self._raw.tell()
        written = waiting = 0
        while written < len(data):
            written += self._raw.write(data[written : written + _PIECE_BYTES]) or 0
            if written - waiting >= _BEGUN_BYTES or written == len(data):
                _begin_to_store(self._raw.fileno(), begun + waiting, written - waiting)
                waiting = written

    def write_at(self, place: int, data: memoryview) -> None:
        """Write bytes somewhere in the file.

        Args:
            place: Where.
            data: The bytes.
        """
        self._raw.seek(place)
        self.write(data)


if sys.platform == "linux":

    def _begin_to_store(descriptor: int, place: int, length: int) -> None:
        """Let the disk begin, so that little is left when all is written: Linux does so when it drops what it holds."""
        os.posix_fadvise(descriptor, place, length, os.POSIX_FADV_DONTNEED)

else:

    def _begin_to_store(descriptor: int, place: int, length: int) -> None:
        """Do nothing: other systems have no such call, or do something else by it."""
