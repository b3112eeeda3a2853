"""The side of the prober that asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, Final

__all__ = ["ImportProber", "ImportReport"]

_TIME_LIMIT: Final = 300  # seconds; an import that takes longer is reported as one that does not end
_SERVER: Final = "phasewire.app.import_probe.server"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did."""

    error: str | None = None
    """Why it failed; ``None`` when it did not."""
    absent: bool = False
    """Whether a new process cannot find the module, as with one that a test defines."""
    changes: tuple[str, ...] = ()
    """What it changed in torch for the whole process, one sentence part each."""
    file: str | None = None
    """The file of the module that was imported."""


class ImportProber:
    """Imports modules in other processes, and remembers what came of it. Close it when done."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._reports: dict[tuple[str, ...], ImportReport] = {}
        # A file and not a pipe: nobody reads along, and a pipe that is full would stop the writer.
        self._said = TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # close() closes it

    def report(self, module_name: str, *, time_limit: float = _TIME_LIMIT) -> ImportReport:
        """Import a module in a new process, with the path of this one.

        Args:
            module_name: Its dotted name.
            time_limit: Seconds until an import counts as one that does not end.

        Returns:
            What happened. A module that ends its process, in whatever way, is reported as failed.
        """
        path = [folder or os.getcwd() for folder in sys.path]  # noqa: PTH109  # the path is text
        asked = (module_name, *path)
        if asked not in self._reports:
            self._reports[asked] = self._ask({"module": module_name, "path": path, "seconds": time_limit})
        return self._reports[asked]

    def close(self) -> None:
        """End the process, and what the modules started in it."""
        self._end()
        self._said.close()

    def _ask(self, question: dict[str, object]) -> ImportReport:
        process = self._running()
        self._said.seek(0)
        self._said.truncate()
        answer = _exchange(process, json.dumps(question))
        # Any: what JSON holds.
        told: dict[str, Any] = json.loads(answer) if answer else {"code": process.wait()}
        if "late" in told:
            return ImportReport(error=f"The import did not end within {question['seconds']:g} seconds.")
        if "code" in told:
            self._said.seek(0)
            said = self._said.read().strip().splitlines()[-1:] or ["It said nothing."]
            return ImportReport(error=f"The import ended the process with code {told['code']}. {said[0]}")
        return ImportReport(told["error"], told["absent"], tuple(told["changes"]), told["file"])

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(  # noqa: S603  # this Python, and modules that are imported here too
                [sys.executable, "-m", _SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
            # The prober says when it is ready: what it writes before is not the module's doing.
            _answer(self._process)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was left to write can no longer be
                    pipe.close()


def _exchange(process: subprocess.Popen[str], question: str) -> str:
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it has ended, and so has its answer
            process.stdin.write(f"{question}\n")
            process.stdin.flush()
    return _answer(process)


def _answer(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout is not None else ""


def _kill(process: subprocess.Popen[str]) -> None:
    """End the prober and its forks, which are a group of their own where there are groups."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
