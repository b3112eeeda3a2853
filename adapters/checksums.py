"""Compares the checksums in what ``torch.save`` wrote with what they are of.

It is a zip archive, which holds a checksum of every tensor; ``torch.load`` does not compare them, and loads a weight
with a flipped bit without a word.
"""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO, Final

__all__ = ["FileSlice", "damaged_member"]

#: What is read at once.
_PIECE_BYTES: Final = 2**20


def damaged_member(file: BinaryIO | io.BufferedIOBase) -> str | None:
    """Compare the checksums in an archive.

    What torch has written without one is left out, as it is under ``torch.serialization.set_crc32_options(False)`` or
    ``skip_data()``.

    Args:
        file: A file that is open for reading.

    Returns:
        What does not have the checksum that it was written with; ``None`` where all have, or the file is no archive.

    Raises:
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is a damaged archive.
    """
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.CRC:
                continue  # torch's word for none; of four thousand million tensors one has it as its own
            try:
                with archive.open(info) as member:
                    while member.read(_PIECE_BYTES):
                        pass
            except zipfile.BadZipFile:
                return info.filename.partition("/")[2] or info.filename
    return None


class FileSlice(io.RawIOBase):
    """A part of a file, to be read as if it were one.

    Args:
        file: The file, which stays open when this is closed.
        begin: The offset of the first byte.
        length: How many bytes it has.
    """

    def __init__(self, file: BinaryIO, begin: int, length: int) -> None:
        super().__init__()
        self._file = file
        self._begin = begin
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        """Tell that it can be read.

        Returns:
            That it can.
        """
        return True

    def seekable(self) -> bool:
        """Tell that it has positions.

        Returns:
            That it has.
        """
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position.

        Args:
            offset: How far to go.
            whence: Where from, as for any file.

        Returns:
            The position.

        Raises:
            OSError: It would be before the first byte.
        """
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        if at < 0:
            raise OSError(f"there is no position {at}")
        self._at = at
        return at

    def tell(self) -> int:
        """Give the position.

        Returns:
            How many bytes are before it.
        """
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed has any writable buffer
        """Read from the position on.

        Args:
            buffer: Is filled as far as there is something.

        Returns:
            How many bytes were read.
        """
        self._file.seek(self._begin + self._at)
        read = self._file.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(read)] = read
        self._at += len(read)
        return len(read)
