"""Finds the tensors in the zip archive that ``torch.save`` writes, and where the archive keeps their checksums."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["CHECKSUM", "DataRecord", "data_records"]

#: How a zip archive writes a checksum.
CHECKSUM: Final = struct.Struct("<I")

#: In a local header: the lengths of the name and of the extra field, which the data follow.
_LOCAL_LENGTHS: Final = struct.Struct("<HH")
_LOCAL_LENGTHS_AT: Final = 26
#: In an entry of the directory at the end: the lengths of the name, the extra field and the comment.
_ENTRY_LENGTHS: Final = struct.Struct("<HHH")
_ENTRY_LENGTHS_AT: Final = 28
_ENTRY_SIZE: Final = 46
_CHECKSUM_IN_ENTRY: Final = 16
#: Begins what follows data whose checksum was not known when their header was written.
_DESCRIPTOR: Final = b"PK\x07\x08"
_DATA: Final = re.compile(r"[^/]+/data/\d+")


@dataclass(frozen=True, slots=True)
class DataRecord:
    """The data of one storage in an archive."""

    begin: int
    """The offset of its first byte."""
    size: int
    """How many bytes it has."""
    checksums: tuple[int, ...]
    """Where its checksum stands: in the directory at the end, and behind the data."""


def data_records(path: Path) -> list[DataRecord]:
    """List the data in a checkpoint that are not empty, by their place.

    Args:
        path: A file that ``torch.save`` has written.

    Returns:
        Where each is.

    Raises:
        OSError: The file cannot be read.
        zipfile.BadZipFile: It is no zip archive, or a damaged one.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = archive.infolist()
        places = _places_of_entries(file, archive.start_dir, len(entries))
        records = [
            _record(file, info, place)
            for info, place in zip(entries, places, strict=True)
            if _DATA.fullmatch(info.filename) and info.file_size
        ]
    return sorted(records, key=lambda record: record.begin)


def _places_of_entries(file: BinaryIO, begin: int, number: int) -> Iterator[int]:
    """Go through the directory of an archive, whose entries are of different lengths."""
    for _ in range(number):
        yield begin
        begin += _ENTRY_SIZE + sum(_unpacked(file, begin + _ENTRY_LENGTHS_AT, _ENTRY_LENGTHS))


def _record(file: BinaryIO, info: zipfile.ZipInfo, entry: int) -> DataRecord:
    lengths_at = info.header_offset + _LOCAL_LENGTHS_AT
    begin = lengths_at + _LOCAL_LENGTHS.size + sum(_unpacked(file, lengths_at, _LOCAL_LENGTHS))
    end = begin + info.file_size
    file.seek(end)
    described = (end + len(_DESCRIPTOR),) if file.read(len(_DESCRIPTOR)) == _DESCRIPTOR else ()
    return DataRecord(begin, info.file_size, (entry + _CHECKSUM_IN_ENTRY, *described))


def _unpacked(file: BinaryIO, place: int, form: struct.Struct) -> tuple[int, ...]:
    file.seek(place)
    return form.unpack(file.read(form.size))
