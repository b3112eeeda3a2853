"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from plugin_packages import install_plugins, on_the_path

# Machines differ in how long an example takes; what never ends is stopped by pytest-timeout.
settings.register_profile("default", deadline=None)
settings.register_profile("thorough", max_examples=5_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that build and install, so that the others fill the time beside them."""
    items.sort(key=lambda item: "packaging" not in item.path.parts)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def empty_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working directory, so that what a run leaves behind lies there."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def plugin_site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder to which the packages of ``tests/plugins`` are installed, once for all processes of tests."""
    in_several_processes = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    # The folder of the run, in which each process of tests has its own.
    shared = (base.parent if in_several_processes else base) / "plugins"
    with FileLock(f"{shared}.lock", timeout=120):
        if not (installed := shared / "site").exists():
            shared.mkdir()
            install_plugins(repository / "tests" / "plugins", shared)
    return installed


@pytest.fixture
def plugins(plugin_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The packages of ``tests/plugins``, installed as long as the test runs."""
    monkeypatch.setenv("SLOW_START_LOG", str(tmp_path / "slow_start.log"))
    with on_the_path(plugin_site, monkeypatch):
        yield plugin_site
