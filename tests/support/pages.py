"""Pages of the documentation whose commands are run: their files, their commands, and what they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner, Result

#: A terminal of some width without colours, as the pages show it.
TERMINAL = {"TTY_COMPATIBLE": "1", "NO_COLOR": "1"}


def write_files(page: str, folder: Path) -> list[str]:
    """Write the files of a page, each a block after its name, and give their names."""
    files = re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for name, text in files:
        (folder / name).write_text(text)
    return [name for name, _ in files]


def commands(page: str) -> list[tuple[str, list[str]]]:
    """The commands of a page, and the lines that it shows for each."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            found.append((command, lines(output)))
    return found


def run_command(command: str, width: int) -> Result:
    """Run a command of ``phasewire`` in a terminal."""
    from phasewire.app.cli import app

    return CliRunner().invoke(app, shlex.split(command)[1:], env={**TERMINAL, "COLUMNS": str(width)})


def printed(result: Result) -> list[str]:
    """The lines that a command printed."""
    return lines(result.stdout.splitlines())


def lines(shown: list[str]) -> list[str]:
    """Lines without control characters, spaces at the end, and those that are empty."""
    plain = (re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in shown)
    return [line for line in plain if line]
