"""The code in the pages of the documentation: found, run as a reader would run it, and compared with what is shown.

A block is not run where the page says so, in a comment that readers do not see::

    <!-- not run: it downloads a model -->

A shown output is compared line by line; ``...`` stands for anything within a line, and alone for any lines.
With PHASEWIRE_WRITE_DOCS=1, what a command really prints is written into the page where it differs.
"""

from __future__ import annotations

import io
import logging
import os
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from commands import run
from phasewire.app.cli import app

COMMAND_SECONDS = 120
#: What is text to read, and not code: messages, file trees, the forms of commands.
PROSE = frozenset({"", "text"})

_BLOCK = re.compile(
    r"^(?:(?P<marker> *)<!-- not run: (?P<reason>[^\n]+) -->\n\n?)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_FILE_NAME_ABOVE = re.compile(r"`([\w./]+\.\w+)`[^\n`]*:\n\n\Z")


@dataclass(frozen=True)
class Command:
    """A command that a page shows, and the lines that it shows as its output."""

    text: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    text: str
    line: int
    reason: str | None = None
    """Why it is not run."""
    file: str | None = None
    """The name of the file that it is the content of, when the line above ends with one."""

    @property
    def place(self) -> str:
        return f"{self.page.name}, line {self.line}"

    def commands(self) -> list[Command]:
        """A prompt begins a command, and ``>`` carries it on; the rest is what it prints."""
        found: list[tuple[list[str], list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(([line[2:]], []))
            elif found and (line == ">" or line.startswith("> ")):
                found[-1][0].append(line[2:])
            else:
                found[-1][1].append(line)
        return [Command("\n".join(text), tuple(shown)) for text, shown in found]


def blocks_of(page: Path) -> list[Block]:
    """Find the fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        named = _FILE_NAME_ABOVE.search(text[: match.start()])
        lines = match["body"].splitlines()
        found.append(
            Block(
                page,
                match["language"],
                "".join(line.removeprefix(match["indent"]) + "\n" for line in lines),
                text[: match.start("language")].count("\n") + 1,
                match["reason"],
                named[1] if named else None,
            )
        )
    return found


class PageRun:
    """A page, followed from its first line to its last in one folder and one namespace.

    Args:
        page: The page.
        folder: The working directory, which has what the page takes for granted.
        given: The names that its Python takes for granted.
    """

    def __init__(self, page: Path, folder: Path, given: dict[str, object]) -> None:
        self.page = page
        self.folder = folder
        self.namespace = {"__name__": "__main__", **given}
        self.ran: list[Block] = []

    def follow(self) -> None:
        """Run every block; the first that fails raises, with its place."""
        for block in blocks_of(self.page):
            if block.reason is not None or block.language in PROSE:
                continue
            try:
                self._run(block)
            except BaseException as error:
                error.add_note(f"in the block of {block.place}")
                raise
            self.ran.append(block)

    def _run(self, block: Block) -> None:
        if block.file is not None:
            (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.file).write_text(block.text)
        elif block.language == "python":
            code = compile(block.text, f"<{block.place}>", "exec")
            exec(code, self.namespace)  # noqa: S102  # it is in our own documentation
        elif block.language == "console":
            for command in block.commands():
                self._compare(block, command, self._printed(command))
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            assert block.language in {"yaml", "yml", "json"}, f"nothing runs {block.language}"

    def _printed(self, command: Command) -> str:
        words = shlex.split(command.text, comments=True)
        is_plain = not set(command.text) & set("|<>&;")
        if is_plain and words[0] == "phasewire":
            finished = CliRunner().invoke(app, words[1:], env={"NO_COLOR": "1", "COLUMNS": "110"})
            if finished.exception is not None and not isinstance(finished.exception, SystemExit):
                raise finished.exception
            assert finished.exit_code == 0, f"{command.text} left with {finished.exit_code}:\n{finished.output}"
            return finished.stdout
        if is_plain and words[0] == "python" and words[1].endswith(".py"):
            with _printed_and_logged() as printed, mock.patch.object(sys, "argv", words[1:]):
                runpy.run_path(str(self.folder / words[1]), run_name="__main__")
            return printed.getvalue()
        return run(["bash", "-ec", command.text], cwd=self.folder, timeout=COMMAND_SECONDS).output

    def _compare(self, block: Block, command: Command, printed: str) -> None:
        shown, lines = _without_blanks(command.shown), _without_blanks(printed.splitlines())
        if not shown or _pattern(shown).fullmatch("\n".join(lines) + "\n"):
            return
        if os.environ.get("PHASEWIRE_WRITE_DOCS") and "..." not in "".join(shown):
            text = self.page.read_text()
            # The first occurrence: outputs that are equal to the letter are of the same command.
            self.page.write_text(text.replace("\n".join(command.shown), "\n".join(lines), 1))
            return
        both = "\n".join(["Shown:", *shown, "", "Printed:", *lines])
        raise AssertionError(f"{block.place}: {command.text} prints something else than is shown.\n{both}")


def _without_blanks(lines: tuple[str, ...] | list[str]) -> list[str]:
    return [line.rstrip() for line in lines if line.strip()]


def _pattern(shown: list[str]) -> re.Pattern[str]:
    parts = [
        r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n" for line in shown
    ]
    return re.compile("".join(parts))


@contextmanager
def _printed_and_logged() -> Iterator[io.StringIO]:
    """Collect what is printed and what Lightning and Phasewire log, in the order in which it comes."""
    printed = io.StringIO()
    handler, logger = logging.StreamHandler(printed), logging.getLogger("lightning.pytorch")
    logger.addHandler(handler)
    try:
        with redirect_stdout(printed):
            yield printed
    finally:
        logger.removeHandler(handler)
