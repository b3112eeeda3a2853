"""Installs the packages of ``tests/plugins`` into a folder, and lets a test see them as installed."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest


def install_plugins(sources: Path, work_folder: Path) -> Path:
    """Build and install all packages below a folder with pip, from copies, without a network.

    Args:
        sources: The folder of the packages.
        work_folder: An empty folder to work in.

    Returns:
        The folder they were installed to; it belongs on ``sys.path``.
    """
    copies, target = work_folder / "sources", work_folder / "site"
    # setuptools leaves build folders beside the sources.
    shutil.copytree(sources, copies, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    packages = sorted(str(file.parent) for file in copies.glob("*/pyproject.toml"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *options, "--target", str(target), *packages]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return target


@contextmanager
def on_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a folder on ``sys.path``, and forget afterwards what was imported from it.

    Args:
        folder: A folder as ``pip install --target`` leaves it.
        monkeypatch: Takes the folder off the path when the test is over.

    Yields:
        The folder.
    """
    monkeypatch.syspath_prepend(folder)
    try:
        yield folder
    finally:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(folder)):
                del sys.modules[name]
        importlib.invalidate_caches()


@contextmanager
def distribution_on_the_path(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    group: str,
    offers: Mapping[str, str],
    modules: Mapping[str, str],
) -> Iterator[Path]:
    """Write a distribution as an installer leaves it, version 1.0, and put it on ``sys.path``.

    Args:
        folder: A folder to write to.
        monkeypatch: Takes the folder off the path when the test is over.
        name: The name of the distribution.
        group: The entry-point group it offers something in.
        offers: Name to ``module:attribute``.
        modules: Name of a module to its source.

    Yields:
        The folder.
    """
    information = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    information.mkdir(parents=True)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(f"{offer} = {value}" for offer, value in offers.items())
    (information / "entry_points.txt").write_text(f"[{group}]\n{lines}\n")
    with on_the_path(folder, monkeypatch):
        yield folder
