"""An environment as an author of plug-ins has it, and the commands of a page run in it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from commands import Finished, run

PARTS = ("adapters", "app", "containers")
COMMAND_SECONDS = 600


@dataclass(frozen=True)
class AuthorEnvironment:
    """A virtual environment with Phasewire in it, which sees what is installed around the tests."""

    folder: Path
    repository: Path

    def run(self, command: str, *, cwd: Path) -> Finished:
        """Run a line of shell as under the activated environment, with nothing fetched from anywhere."""
        variables = {
            "PATH": os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "VIRTUAL_ENV": str(self.folder),
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads "no" into it as on the command line: this turns isolation off
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "MYPY_CACHE_DIR": str(self.repository / ".cache" / "author-types"),  # torch's take half a minute
            "COLUMNS": "200",
            "OMP_NUM_THREADS": "1",
        }
        return run(["bash", "-ec", command], cwd=cwd, timeout=COMMAND_SECONDS, env=variables, check=False)


def make_author_environment(repository: Path, folder: Path) -> AuthorEnvironment:
    """Make the environment, with an ordinary install of Phasewire: type checkers cannot follow an editable one.

    Args:
        repository: The source tree.
        folder: An empty folder to work in.

    Returns:
        The environment.
    """
    environment = AuthorEnvironment(folder / "environment", repository)
    run([sys.executable, "-m", "venv", "--without-pip", environment.folder], cwd=folder, timeout=COMMAND_SECONDS)
    (site,) = environment.folder.glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    mypy = environment.folder / "bin" / "mypy"
    mypy.write_text(f"#!{environment.folder}/bin/python\nfrom mypy.__main__ import console_entry\nconsole_entry()\n")
    mypy.chmod(0o755)
    source = folder / "source"
    for part in PARTS:
        shutil.copytree(repository / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / file, source)
    installed = environment.run(f"python -m pip install --quiet --no-deps {source}", cwd=folder)
    assert installed.returncode == 0, installed.output
    return environment


@dataclass(frozen=True)
class Command:
    """A command that a page shows, and the lines that it shows as its output."""

    text: str
    shown: tuple[str, ...]


_FENCED = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def steps_of(page: str) -> list[Command | tuple[str, str]]:
    """Give what a reader of a page does, in order: commands, and files to write (name and text).

    A file is named at the end of the line above its block, as in ``Write `train.py`:``.
    """
    steps: list[Command | tuple[str, str]] = []
    for block in _FENCED.finditer(page):
        named = re.search(r"`([\w./]+\.\w+)`:\n\n\Z", page[: block.start()])
        if block["kind"] == "console":
            steps += _commands(block["body"])
        elif named:
            steps.append((named[1], block["body"]))
    return steps


def _commands(body: str) -> list[Command]:
    # A prompt begins a command, and a second prompt carries it on; the rest is what it prints.
    commands: list[tuple[list[str], list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            commands.append(([line[2:]], []))
        elif line == ">" or line.startswith("> "):
            commands[-1][0].append(line[2:])
        else:
            commands[-1][1].append(line)
    return [Command("\n".join(text), tuple(shown)) for text, shown in commands]
