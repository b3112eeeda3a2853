"""Builds the distribution from a copy of the source tree, and installs it into an empty environment."""

from __future__ import annotations

import shutil
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from commands import Finished, run

NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".hypothesis", ".*_cache", "__pycache__", "*.egg-info", "build", "dist", "runs"
)
BUILD_SECONDS = 120
INSTALL_SECONDS = 600
COMMAND_SECONDS = 180


@dataclass(frozen=True)
class Distribution:
    """What `python -m build` leaves: the sdist, and the wheel built from that sdist."""

    sdist: Path
    wheel: Path

    def sdist_files(self) -> set[str]:
        """Name the files of the sdist, relative to its one top folder."""
        with tarfile.open(self.sdist) as archive:
            return {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}

    def wheel_files(self) -> set[str]:
        """Name the files of the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def read_from_wheel(self, name: str) -> str:
        """Read a text file of the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return archive.read(name).decode("utf-8")


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and how to run what is installed in it."""

    folder: Path

    def run(self, *command: str, cwd: Path) -> Finished:
        """Run a program of the environment, and fail the test when it fails."""
        program, *arguments = command
        return run([self.folder / "bin" / program, *arguments], cwd=cwd, timeout=COMMAND_SECONDS)


def build_distribution(repository: Path, work_folder: Path) -> Distribution:
    """Build the sdist from a copy of the source tree, and the wheel from the sdist.

    Args:
        repository: The source tree.
        work_folder: An empty folder to work in.

    Returns:
        The two archives.
    """
    source, out = work_folder / "source", work_folder / "dist"
    # A copy, because setuptools writes into the tree it builds, and takes up what an earlier build left there.
    shutil.copytree(repository, source, ignore=NOT_SOURCE)
    run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source],
        cwd=work_folder,
        timeout=BUILD_SECONDS,
    )
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Distribution(sdist, wheel)


def install_alone(wheel: Path, extra: str, constraints: Path, folder: Path) -> Environment:
    """Install the wheel with one of its extras, and nothing else, into a new environment.

    Args:
        wheel: The wheel.
        extra: The name of the extra.
        constraints: The file of exact versions.
        folder: The folder of the environment; it does not exist yet.

    Returns:
        The environment.
    """
    run([sys.executable, "-m", "venv", folder], cwd=folder.parent, timeout=BUILD_SECONDS)
    environment = Environment(folder)
    run(
        [
            *(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--constraint", constraints, f"{wheel}[{extra}]"),
        ],
        cwd=folder.parent,
        timeout=INSTALL_SECONDS,
    )
    return environment
