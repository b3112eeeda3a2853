"""Commands that tests run as a user would: with a time limit, and with nothing left running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it wrote (standard output and error together)."""

    returncode: int
    output: str


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    timeout: float,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Finished:
    """Run a command in a process group of its own, all of which is ended when the command is.

    Args:
        command: The program and its arguments.
        cwd: The folder it runs in.
        timeout: The time limit, in seconds.
        env: Variables on top of those of this process; those of `outer_run_variables` are taken away first.
        check: Fail the test when the command fails.

    Returns:
        How it ended.
    """
    __tracebackhide__ = True  # a failure shows the command and its output, not this function
    words = [str(word) for word in command]
    variables = {name: value for name, value in os.environ.items() if name not in outer_run_variables()}
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env={**variables, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as expired:
        so_far = expired.output.decode() if isinstance(expired.output, bytes) else expired.output
        raise AssertionError(f"{' '.join(words)} took longer than {timeout} s; so far it wrote:\n{so_far}") from expired
    finally:
        _end_group(process)
    if check and process.returncode != 0:
        raise AssertionError(f"{' '.join(words)} ended with {process.returncode}:\n{output}")
    return Finished(process.returncode, output)


def outer_run_variables() -> frozenset[str]:
    """Name the variables by which `make`, pytest or a source tree around the tests would reach into a command."""
    return frozenset({"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHONPATH"})


def _end_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):  # the usual case: the whole group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
