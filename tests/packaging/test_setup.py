"""The files that set the project up: exact versions, the Makefile, and the script that CI runs."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from commands import run


def exact_versions(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {}
    for requirement in requirements:
        (version,) = requirement.specifier
        assert version.operator == "==", f"{requirement} is no exact version"
        versions[canonicalize_name(requirement.name)] = version.version
    return versions


def declared_requirements(repository: Path) -> list[Requirement]:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(line) for line in [*project["dependencies"], *(line for extra in extras for line in extra)]]


def test_every_requirement_has_an_exact_version_that_satisfies_it(repository: Path) -> None:
    versions = exact_versions(repository)
    for requirement in declared_requirements(repository):
        if requirement.name != "phasewire":
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), str(requirement)


def test_the_run_time_requirements_have_a_lower_bound(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        assert ">=" in line, line


def test_the_tested_torch_is_the_one_the_design_names(repository: Path) -> None:
    assert exact_versions(repository)["torch"] == "2.13.0"


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt", "Makefile", ".ci/run"])
def test_no_package_index_is_named(file: str, repository: Path) -> None:
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", (repository / file).read_text())


def test_ci_runs_the_tests(repository: Path) -> None:
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    run(["bash", "-n", script], cwd=repository, timeout=20)
    assert script.read_text().splitlines()[-1] == "make test"


def test_make_help_lists_the_two_commands(repository: Path) -> None:
    output = run(["make", "help"], cwd=repository, timeout=20).output
    assert "make run" in output
    assert "make test" in output


@pytest.mark.parametrize("python", ["", "false"])
def test_a_python_that_is_too_old_is_refused_with_what_to_do(python: str, repository: Path, tmp_path: Path) -> None:
    command = ["make", "run", f"PYTHON={python}", f"VENV={tmp_path / 'environment'}"]
    finished = run(command, cwd=repository, timeout=20, check=False)
    assert finished.returncode != 0
    assert "Phasewire needs Python 3.11 or newer" in finished.output
    assert "make PYTHON=/path/to/python3.11 run" in finished.output
    assert not (tmp_path / "environment").exists()


def test_the_oldest_versions_are_one_for_each_name_that_every_bound_allows(repository: Path) -> None:
    printed = run([sys.executable, "tests/oldest_versions.py"], cwd=repository, timeout=60).output.splitlines()
    oldest = dict(line.split("==") for line in printed)
    assert len(oldest) == len(printed)
    for requirement in declared_requirements(repository):
        if requirement.name in oldest:
            assert requirement.specifier.contains(oldest[requirement.name]), requirement
