"""The record of a run: a file of JSON lines that is only ever appended to, one line for each thing that happened.

``docs/report.md`` lists the events and their fields. A line is written by one call, so that a run that is killed leaves
at most its last line unfinished; a run that goes on in the same folder begins a line of its own.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phasewire.adapters.errors import ConfigError

__all__ = ["RECORD_FORMAT", "RECORD_NAME", "RunRecord", "StoredRecord", "read_record"]

#: The name of the file in the log folder.
RECORD_NAME: Final = "phasewire_run.jsonl"

#: The version of the format, which the event ``fit_began`` tells.
RECORD_FORMAT: Final = 1

# Any: the fields of an event are plain values of several types.
Event = dict[str, Any]


class RunRecord:
    """Appends events to the record in a folder.

    Args:
        folder: The log folder; it is made when the first event is written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / RECORD_NAME

    def append(self, event: str, fields: Mapping[str, object]) -> None:
        """Write one event, with the time of now.

        Args:
            event: What happened.
            fields: Plain values; what is none is written as text.

        Raises:
            OSError: The file cannot be written.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        content = {"event": event, "time": now, **{name: _plain(value) for name, value in fields.items()}}
        line = json.dumps(content, allow_nan=False, default=str).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b", buffering=0) as file:
            line = (b"\n" if _ends_within_a_line(file) else b"") + line
            while line:
                line = line[file.write(line) or 0 :]


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """What a record holds."""

    path: Path
    """The file."""
    events: tuple[Event, ...]
    """Its events, in the order in which they were written."""
    unreadable: int
    """How many lines could not be read, such as one that a killed process left unfinished."""


def read_record(path: Path) -> StoredRecord:
    """Read a record.

    Args:
        path: The file.

    Returns:
        Its events; lines that are no event are counted.

    Raises:
        ConfigError: The file cannot be read, or is of a newer format.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(
            f"The record of the run cannot be read: {error.strerror}.",
            where=str(path),
            remedy="Make the file readable for you, or name another run folder.",
        ) from error
    events, unreadable = [], 0
    for event in map(_event_of, filter(str.strip, lines)):
        if event is None:
            unreadable += 1
            continue
        events.append(event)
        if event.get("format", RECORD_FORMAT) != RECORD_FORMAT:
            raise ConfigError(
                f"The record has format {event['format']!r}, and this release of Phasewire reads {RECORD_FORMAT}.",
                where=str(path),
                remedy="Use the release that wrote it, or a newer one.",
            )
    return StoredRecord(path, tuple(events), unreadable)


def _event_of(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):  # the second if brackets stand within brackets a thousand times
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _plain(value: object) -> object:
    """Write numbers that JSON does not have as text, so that every reader of JSON lines can read the file."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _ends_within_a_line(file: io.FileIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
