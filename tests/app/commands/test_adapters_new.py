"""``phasewire adapters new``: names, and what is written or not."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from phasewire.adapters import ConfigError
from phasewire.app.discovery import DiscoveryService
from phasewire.app.starter import ProjectNames, write_project

LONGEST = "a" * 40


def names_of(given: str) -> ProjectNames:
    return ProjectNames.of(given, DiscoveryService())


def everything_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("given", "adapter", "distribution", "class_name"),
    [
        ("my_adapter", "my_adapter", "my-adapter", "MyAdapter"),
        (" My Adapter ", "my_adapter", "my-adapter", "MyAdapter"),
        ("my-adapter", "my_adapter", "my-adapter", "MyAdapter"),
        ("acme.names", "acme_names", "acme-names", "AcmeNamesAdapter"),
        ("AcmeNames2", "acme_names2", "acme-names2", "AcmeNames2Adapter"),
        ("HTTPNames", "http_names", "http-names", "HttpNamesAdapter"),
        ("ACME", "acme", "acme", "AcmeAdapter"),
        ("acme__2x", "acme_2x", "acme-2x", "Acme2xAdapter"),
    ],
)
def test_a_name_in_any_spelling_gives_the_names_of_the_project(
    given: str, adapter: str, distribution: str, class_name: str
) -> None:
    names = names_of(given)
    assert (names.adapter, names.package) == (adapter, adapter)
    assert (names.distribution, names.class_name) == (distribution, class_name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "'' cannot name an adapter"),
        ("_hidden", "cannot name an adapter"),
        ("../outside", "cannot name an adapter"),
        ("naïve", "cannot name an adapter"),
        (LONGEST + "a", "has 41 characters, and at most 40 are allowed"),
        ("2fast", "begins with a digit.* such as 'adapter_2fast'"),
        ("Class", "'class' is a keyword of Python.* such as 'my_class'"),
        ("typing", "a module of Python's own library"),
        ("Tests", "'tests' is the folder of the project's tests.* such as 'my_tests'"),
        ("Strategy-Adapter", "would be called StrategyAdapter"),
        ("FSDP", "Phasewire's own adapter 'fsdp' .* has that name already.* such as 'my_fsdp'"),
        ("torch", "The package 'torch' is installed already"),
        ("phasewire", "The package 'phasewire' is installed already"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_the_reason(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"phasewire adapters new: .*{message}"):
        names_of(given)


def test_the_name_of_an_installed_plug_in_is_refused(plugins: Path) -> None:
    with pytest.raises(ConfigError, match=r"'acmenames' of Acme\.Adapters 1\.2\.0 .* has that name already"):
        names_of("acmenames")


def test_the_command_writes_the_project_in_a_folder_of_its_name_and_tells_the_next_steps(empty_dir: Path, run) -> None:
    result = run("adapters", "new", "My Adapter")
    assert result.exit_code == 0, result.output
    assert everything_below(empty_dir) >= {"my_adapter/pyproject.toml", "my_adapter/src/my_adapter/adapter.py"}
    assert [path.name for path in empty_dir.iterdir()] == ["my_adapter"]
    assert "  cd my_adapter\n" in result.stdout


def test_an_empty_folder_and_one_that_is_missing_with_its_parents_are_taken(empty_dir: Path, run) -> None:
    assert run("adapters", "new", "one", "--directory", ".").exit_code == 0
    assert run("adapters", "new", "two", "--directory", "a/b").exit_code == 0
    written = everything_below(empty_dir)
    assert {"pyproject.toml", "src/one/__init__.py", "a/b/pyproject.toml", "a/b/src/two/__init__.py"} <= written


def test_a_folder_that_holds_something_and_a_file_are_left_as_they_are(empty_dir: Path, refused) -> None:
    (empty_dir / "full").mkdir()
    (empty_dir / "full" / "notes.txt").write_text("mine")
    before = everything_below(empty_dir)
    for place in ("full", "full/notes.txt"):
        message = refused("adapters", "new", "one", "--directory", place)
        assert message.startswith(f"Error: {place}: This is no empty folder, and nothing in it is overwritten.")
    assert everything_below(empty_dir) == before


@pytest.mark.parametrize("there", [False, True], ids=["missing", "empty"])
def test_what_fails_on_the_way_leaves_nothing_behind(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename = tmp_path / "project", Path.rename
    if there:
        folder.mkdir()

    def failing(self: Path, target: Path) -> Path:
        # The whole draft in one case, the third of its entries in the other.
        if target == folder or target.name == "pyproject.toml":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        write_project(names_of("one"), folder)
    assert everything_below(tmp_path) == ({"project"} if there else set())


@pytest.mark.parametrize("name", ["a", LONGEST, "z" * 20 + "_" + "Z" * 19])
def test_the_code_is_formatted_and_the_entry_point_right_whatever_the_name(name: str, tmp_path: Path) -> None:
    names = names_of(name)
    write_project(names, tmp_path / "project")
    ruff = Path(sys.executable).with_name("ruff")
    for arguments in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        subprocess.run([ruff, *arguments, "."], cwd=tmp_path / "project", check=True, timeout=60, capture_output=True)
    project = tomllib.loads((tmp_path / "project" / "pyproject.toml").read_text())["project"]
    assert project["name"] == names.distribution
    assert project["entry-points"]["finetuning_scheduler.strategy_adapters"] == {
        names.adapter: f"{names.package}:{names.class_name}"
    }
    texts = [path.read_text() for path in (tmp_path / "project").rglob("*") if path.is_file()]
    assert not any(re.search(r"\{\{|\{%", text) for text in texts)
