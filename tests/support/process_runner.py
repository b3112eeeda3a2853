"""Runs a script whose processes may start others, and leaves none of them behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def run_script(script: Path, *arguments: str, time_limit: float = 120) -> None:
    """Run a Python script in a session of its own, and end the whole session whatever happens.

    Args:
        script: The script; its folder is on its import path.
        arguments: Its command line.
        time_limit: Seconds until it is ended.

    Raises:
        AssertionError: It failed, with what it printed.
        subprocess.TimeoutExpired: It took too long, with what it printed.
    """
    _run(str(script), *arguments, time_limit=time_limit)


def run_module(module: str, *arguments: str, time_limit: float = 120) -> None:
    """Run a module as ``python -m`` does, as :func:`run_script` runs a script.

    Args:
        module: The module.
        arguments: Its command line.
        time_limit: Seconds until it is ended.

    Raises:
        AssertionError: It failed, with what it printed.
        subprocess.TimeoutExpired: It took too long, with what it printed.
    """
    _run("-m", module, *arguments, time_limit=time_limit)


def _run(*command: str, time_limit: float) -> None:
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        # Returns when the last of the processes has ended: they share the pipe.
        printed, _ = process.communicate(timeout=time_limit)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, printed
