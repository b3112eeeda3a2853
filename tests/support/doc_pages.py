"""The code in the pages of the documentation: found, run as a reader would run it, and compared with what is shown.

A comment above a block, which readers do not see, says what else is expected of it::

    <!-- not run: it downloads a model -->
    <!-- raises: ScheduleError -->      the message is the block after it
    <!-- exit: 2 -->                    commands leave with this code
    <!-- about: 5 -->                   percentages may be off by so many points: they differ between processors

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
from itertools import zip_longest
from pathlib import Path
from textwrap import fill
from unittest import mock

import pytest
from typer.testing import CliRunner

from commands import run
from phasewire.app import PhasewireError
from phasewire.app.cli import app

COMMAND_SECONDS = 120
PAGE_WIDTH = 120
#: What is text to read, and not code: messages, file trees, the forms of commands.
PROSE = frozenset({"", "text"})

_BLOCK = re.compile(
    r"^(?: *<!-- (?P<marker>not run|raises|exit|about): (?P<detail>[^\n]+) -->\n\n?)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_FILE_NAME_ABOVE = re.compile(r"`([\w./]+\.(?:py|ya?ml|toml))`:\n\n\Z")


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
    marker: str | None = None
    """What the comment above it begins with."""
    detail: str = ""
    """What it goes on with."""
    file: str | None = None
    """The name of the file that it is the content of, when the line above ends with one."""

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return self.detail if self.marker == "not run" else None

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
                match["marker"],
                match["detail"] or "",
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
        commands: Whether commands are run, too.
    """

    def __init__(self, page: Path, folder: Path, given: dict[str, object], *, commands: bool = True) -> None:
        self.page = page
        self.folder = folder
        self.commands = commands
        self.namespace = {"__name__": "__main__", **given}

    def follow(self) -> None:
        """Run every block; the first that fails raises, with its place."""
        found = blocks_of(self.page)
        for block, following in zip_longest(found, found[1:]):
            if block.reason is not None or (block.language in PROSE and block.file is None):
                continue
            try:
                if block.marker == "raises":
                    self._compare_error(block, following)
                else:
                    self._run(block)
            except BaseException as error:
                error.add_note(f"in the block of {block.place}")
                raise

    def _compare_error(self, block: Block, following: Block) -> None:
        with pytest.raises(PhasewireError) as raised:
            self._run(block)
        message = str(raised.value)
        assert raised.type.__name__ == block.detail, f"it raises {raised.type.__name__}: {message}"
        self._compare_message(following, message)

    def _compare_message(self, shown: Block, message: str) -> None:
        if _pattern([" ".join(shown.text.split())]).fullmatch(" ".join(message.split()) + "\n"):
            return
        if os.environ.get("PHASEWIRE_WRITE_DOCS"):
            written = "".join(fill(line, PAGE_WIDTH, break_long_words=False) + "\n" for line in message.splitlines())
            self._replace(shown.text, written)
            return
        raise AssertionError(f"{shown.place} shows another message than\n{message}")

    def _run(self, block: Block) -> None:
        if block.file is not None:
            (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.file).write_text(block.text)
        elif block.language == "python":
            code = compile(block.text, f"<{block.place}>", "exec")
            exec(code, self.namespace)  # noqa: S102  # it is in our own documentation
        elif block.language == "console":
            for command in block.commands() if self.commands else []:
                self._compare(
                    block, command, self._printed(command, int(block.detail) if block.marker == "exit" else 0)
                )
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            assert block.language in {"yaml", "yml", "json"}, f"nothing runs {block.language}"

    def _printed(self, command: Command, code: int) -> str:
        words = shlex.split(command.text, comments=True)
        is_plain = not set(command.text) & set("|<>&;")
        if is_plain and words[0] == "phasewire":
            finished = CliRunner().invoke(app, words[1:], env={"NO_COLOR": "1", "COLUMNS": "110"})
            if finished.exception is not None and not isinstance(finished.exception, SystemExit):
                raise finished.exception
            assert finished.exit_code == code, f"{command.text} left with {finished.exit_code}:\n{finished.output}"
            return finished.output if code else finished.stdout
        if is_plain and words[0] == "python" and words[1].endswith(".py"):
            with _printed_and_logged() as printed, mock.patch.object(sys, "argv", words[1:]):
                runpy.run_path(str(self.folder / words[1]), run_name="__main__")
            return printed.getvalue()
        finished = run(["bash", "-ec", command.text], cwd=self.folder, timeout=COMMAND_SECONDS, check=False)
        assert finished.returncode == code, f"{command.text} left with {finished.returncode}:\n{finished.output}"
        return finished.output

    def _compare(self, block: Block, command: Command, printed: str) -> None:
        shown, lines = _without_blanks(command.shown), _without_blanks(printed.splitlines())
        writing = bool(os.environ.get("PHASEWIRE_WRITE_DOCS"))
        points = float(block.detail) if block.marker == "about" and not writing else 0.0
        if not shown or _agree(shown, "\n".join(lines) + "\n", points):
            return
        rest = shown[1:] if shown[0] == "..." else shown
        if writing and "..." not in "".join(rest):
            before = ["...", *lines[-len(rest) :]] if rest is not shown else lines
            self._replace("\n".join(command.shown), "\n".join(before))
            return
        both = "\n".join(["Shown:", *shown, "", "Printed:", *lines])
        raise AssertionError(f"{block.place}: {command.text} prints something else than is shown.\n{both}")

    def _replace(self, shown: str, printed: str) -> None:
        # The first occurrence: what is equal to the letter has been printed by the same.
        self.page.write_text(self.page.read_text().replace(shown, printed, 1))


def _without_blanks(lines: tuple[str, ...] | list[str]) -> list[str]:
    return [line.rstrip() for line in lines if line.strip()]


_PERCENTAGE = re.compile(r"(\d+(?:\.\d+)?)%")


def _agree(shown: list[str], printed: str, points: float) -> bool:
    if not points:
        return bool(_pattern(shown).fullmatch(printed))
    without = [_PERCENTAGE.sub("%", line) for line in shown]
    found = _pattern(without).fullmatch(_PERCENTAGE.sub("%", printed))
    wanted = [float(number) for line in shown for number in _PERCENTAGE.findall(line)]
    given = [float(number) for number in _PERCENTAGE.findall(printed)][-len(wanted) :]
    return bool(found) and all(abs(one - other) <= points for one, other in zip(wanted, given, strict=True))


def _pattern(shown: list[str]) -> re.Pattern[str]:
    parts = [r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n" for line in shown]
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
