"""What a user installs: the sdist builds the wheel, and the wheel alone runs the main job."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from email import message_from_string
from pathlib import Path

import pytest

from distribution import Distribution, Environment, build_distribution, install_alone

FOLDERS = ("adapters", "app", "containers")
METADATA = "phasewire-0.1.0.dist-info"
# One of these tests installs torch into an environment of its own.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def distribution(repository: Path) -> Iterator[Distribution]:
    with tempfile.TemporaryDirectory() as folder:
        yield build_distribution(repository, Path(folder))


@pytest.fixture(scope="module")
def environment(distribution: Distribution, repository: Path) -> Iterator[Environment]:
    # Not under tmp_path, of which pytest keeps the last three: an environment takes a gigabyte.
    with tempfile.TemporaryDirectory() as folder:
        yield install_alone(distribution.wheel, "demo", repository / "constraints.txt", Path(folder) / "environment")


def source_files(repository: Path, pattern: str) -> set[str]:
    return {
        path.relative_to(repository).as_posix()
        for folder in FOLDERS
        for path in (repository / folder).rglob(pattern)
        if path.is_file()
    }


def test_every_folder_with_python_files_is_listed_as_a_package(repository: Path) -> None:
    setuptools = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {Path(file).parent for file in source_files(repository, "*.py")}
    assert setuptools["packages"] == sorted(".".join(("phasewire", *folder.parts)) for folder in folders)


@pytest.mark.parametrize("pattern", ["*.py", "*.yaml", "*.j2", "py.typed"])
def test_the_wheel_has_every_file_of_the_packages(pattern: str, distribution: Distribution, repository: Path) -> None:
    in_wheel = {file for file in distribution.wheel_files() if Path(file).match(pattern)}
    assert in_wheel == {f"phasewire/{file}" for file in source_files(repository, pattern)}


def test_the_wheel_has_no_top_level_name_but_phasewire(distribution: Distribution) -> None:
    files = distribution.wheel_files()
    assert {file.split("/")[0] for file in files} == {"phasewire", METADATA}
    assert "phasewire/__init__.py" not in files, "phasewire is a namespace package"


def test_each_part_of_the_wheel_is_marked_as_typed(distribution: Distribution) -> None:
    assert {f"phasewire/{folder}/py.typed" for folder in FOLDERS} <= distribution.wheel_files()


def test_the_wheel_declares_the_command(distribution: Distribution) -> None:
    entry_points = ConfigParser()
    entry_points.read_string(distribution.read_from_wheel(f"{METADATA}/entry_points.txt"))
    assert dict(entry_points["console_scripts"]) == {"phasewire": "phasewire.app.cli:main"}


def test_the_wheel_says_what_it_needs(distribution: Distribution) -> None:
    metadata = message_from_string(distribution.read_from_wheel(f"{METADATA}/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("phasewire", "0.1.0")
    assert (metadata["Requires-Python"], metadata["License-Expression"]) == (">=3.11", "Apache-2.0")
    assert set(metadata.get_all("Provides-Extra")) == {
        "bench",
        "demo",
        "docs",
        "examples",
        "fuzz",
        "lint",
        "parity",
        "plots",
        "safetensors",
        "tensorboard",
        "test",
        "transformer-lens",
    }
    assert f"{METADATA}/licenses/LICENSE" in distribution.wheel_files()


def test_the_sdist_has_what_its_tests_and_builds_need(distribution: Distribution) -> None:
    needed = {"LICENSE", "Makefile", "README.md", "CHANGELOG.md", "config.yaml", "constraints.txt", "pyproject.toml"}
    assert needed | {"tests/packaging/test_distribution.py", "tests/conftest.py"} <= distribution.sdist_files()


def test_the_configuration_that_travels_in_the_wheel_is_that_of_the_repository(repository: Path) -> None:
    assert (repository / "app" / "config.yaml").read_text() == (repository / "config.yaml").read_text(), (
        "the two files are one; after a change: make format"
    )


def test_the_wheel_alone_runs_the_main_job(environment: Environment, empty_dir: Path) -> None:
    output = environment.run("phasewire", "demo", "--seeds", "1", cwd=empty_dir).output
    for way in ("frozen", "everything", "scheduled"):
        assert way in output
    folder = empty_dir / "runs" / "demo"
    assert (folder / "best.ckpt").stat().st_size > 0
    assert (folder / "scheduled_schedule.yaml").is_file()
    assert f"Report:          {folder / 'report.html'}" in output
    assert "<svg" in (folder / "report.html").read_text()
    assert [path.name for path in empty_dir.iterdir()] == ["runs"], "all that it leaves is its run folder"


def test_the_wheel_alone_writes_the_configuration_to_begin_with(
    environment: Environment, empty_dir: Path, repository: Path
) -> None:
    environment.run("phasewire", "config", "init", cwd=empty_dir)
    assert (empty_dir / "config.yaml").read_text() == (repository / "config.yaml").read_text()


def test_the_wheel_alone_runs_as_a_module(environment: Environment, empty_dir: Path) -> None:
    assert "0.1.0" in environment.run("python", "-m", "phasewire.app", "--version", cwd=empty_dir).output


def test_the_demo_extra_brings_only_what_is_needed(environment: Environment, empty_dir: Path) -> None:
    listed = environment.run("python", "-m", "pip", "list", "--format", "json", cwd=empty_dir).output.splitlines()
    installed = {package["name"].lower() for package in json.loads(listed[0])}
    assert "scikit-learn" in installed
    assert not installed & {"pytest", "mypy", "ruff", "transformer-lens", "jsonargparse"}
    assert "No broken requirements" in environment.run("python", "-m", "pip", "check", cwd=empty_dir).output
