"""Where the parts of a schedule stand: file, line, phase and index, for messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phasewire.adapters.errors import PhasewireError, ScheduleError
from phasewire.app.config_file import YamlDocument, key_path, load_yaml
from phasewire.app.schedule.values import phase_number

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Places", "ScheduleFile"]


@dataclass(frozen=True, slots=True)
class ScheduleFile:
    """A file that a schedule was read from, and its state then.

    The node tree that knows the lines takes far more memory than the schedule, and only a message needs it. So it is
    not kept during a run but read again; a file that was changed since then gives no lines rather than wrong ones.
    """

    path: Path
    """As it was given."""
    modified_ns: int
    """When it was last changed, in nanoseconds since the epoch."""
    size: int
    """In bytes."""

    @classmethod
    def at(cls, path: Path) -> ScheduleFile | None:
        """Note the state of a file.

        Args:
            path: The file.

        Returns:
            The note; ``None`` when there is no such file.
        """
        try:
            state = path.stat()
        except OSError:
            return None
        return cls(path, state.st_mtime_ns, state.st_size)

    def reopened(self) -> YamlDocument | None:
        """Read the file again.

        Returns:
            The document; ``None`` when the file is no longer the one that was read.
        """
        if ScheduleFile.at(self.path) != self:
            return None
        try:
            return load_yaml(self.path, error=ScheduleError)
        except PhasewireError:
            # It was readable once, and a message about something else must not fail for want of a line number.
            return None


class Places:
    """Describes places in one schedule.

    Args:
        file: The file the schedule was read from, if any.
        document: The file's content, where it is at hand; otherwise it is read when the first line is asked for.
    """

    def __init__(self, file: ScheduleFile | None = None, document: YamlDocument | None = None) -> None:
        self.file = file
        self._document = document
        self._is_opened = document is not None
        self._keys_as_given: dict[int, Hashable] | None = None

    def phase(self, depth: int, *keys: str | int) -> str:
        """Describe a place in a phase.

        Args:
            depth: The number of the phase.
            keys: The keys and indexes below it.

        Returns:
            Such as ``"mine.yaml, line 12, phase 3, params[0]"``, without what is not known.
        """
        line = self._line(self._key_as_given(depth), *keys)
        return ", ".join([*self._file_parts(line), f"phase {depth}", *([key_path(keys)] if keys else [])])

    def key(self, key: Hashable) -> str | None:
        """Describe the place of a key that is no phase.

        Args:
            key: A key of the schedule.

        Returns:
            Such as ``"mine.yaml, line 12"``; ``None`` when there is no file.
        """
        return ", ".join(self._file_parts(self._line(key))) or None

    def whole(self) -> str | None:
        """Describe the whole schedule.

        Returns:
            The file; ``None`` when there is none.
        """
        return ", ".join(self._file_parts(None)) or None

    def _file_parts(self, line: int | None) -> list[str]:
        if self.file is None:
            return []
        return [str(self.file.path)] if line is None else [str(self.file.path), f"line {line}"]

    def _line(self, *keys: Hashable) -> int | None:
        document = self._opened()
        if document is None:
            return None
        for end in range(len(keys), 0, -1):
            # The keys of the phases may be text, floats, or what is refused later; the document finds any of them.
            position = document.position_of(keys[:end])  # type: ignore[arg-type]  # see above
            if position is not None:
                return position.line
        return None

    def _opened(self) -> YamlDocument | None:
        if not self._is_opened and self.file is not None:
            self._document = self.file.reopened()
        self._is_opened = True
        return self._document

    def _key_as_given(self, depth: int) -> Hashable:
        if self._keys_as_given is None:
            document = self._opened()
            keys = document.values if document is not None and isinstance(document.values, dict) else ()
            self._keys_as_given = {number: key for key in keys if (number := phase_number(key)) is not None}
        return self._keys_as_given.get(depth, depth)
