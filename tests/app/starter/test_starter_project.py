"""What ``docs/writing-an-adapter.md`` says is done as it stands there, once; each test looks at one part of it."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from author_environment import AuthorEnvironment, Command, make_author_environment, steps_of
from commands import Finished
from phasewire.app.adapter_checks import RULES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Walk:
    """What came of the page: the project, and how each command ended."""

    environment: AuthorEnvironment
    project: Path
    results: list[tuple[Command, Finished]]

    def output(self, beginning: str) -> str:
        """Give what the first command with that beginning printed; it must have ended well."""
        finished = next(finished for command, finished in self.results if command.text.startswith(beginning))
        assert finished.returncode == 0, finished.output
        return finished.output


@pytest.fixture(scope="module")
def walk(repository: Path) -> Iterator[Walk]:
    with TemporaryDirectory() as name:
        environment = make_author_environment(repository, Path(name))
        folder, results = Path(name) / "work", []
        folder.mkdir()
        for step in steps_of((repository / "docs" / "writing-an-adapter.md").read_text()):
            if isinstance(step, tuple):
                (folder / step[0]).write_text(step[1])
            elif step.text.startswith("cd "):
                folder = folder / step.text.removeprefix("cd ")
            else:
                results.append((step, environment.run(step.text, cwd=folder)))
        yield Walk(environment, folder, results)


def test_every_command_of_the_page_ends_well_and_prints_what_the_page_shows(walk: Walk) -> None:
    for command, finished in walk.results:
        assert finished.returncode == 0, f"{command.text}\n{finished.output}"
        for line in command.shown:
            assert line in finished.output.splitlines(), f"{command.text}\n{finished.output}"
    assert any(command.shown for command, _ in walk.results)


def test_the_project_is_found_by_its_entry_point_without_being_imported(walk: Walk) -> None:
    listed = walk.output("phasewire adapters list")
    assert re.search(
        r"my_adapter .* my-adapter .* 0\.1\.0 .* my_adapter:MyAdapter .* entry point .* not loaded", listed
    )


def test_show_tells_the_option_and_the_hooks_of_the_example(walk: Walk) -> None:
    shown = walk.output("phasewire adapters show")
    assert "prefix: str = 'model.'" in shown
    assert "fts_optim_transform" in shown


def test_the_adapter_keeps_every_rule(walk: Walk) -> None:
    lines = walk.output("phasewire adapters check").splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("kept")] == [["kept", rule.name] for rule in RULES]


def test_the_tests_of_the_project_pass_one_for_each_rule_and_more(walk: Walk) -> None:
    passed = re.search(r"(\d+) passed", walk.output("python -m pytest"))
    assert passed
    assert int(passed[1]) > len(RULES)
    assert "skipped" not in walk.output("python -m pytest")


def test_the_code_of_the_project_is_typed_and_formatted(walk: Walk) -> None:
    assert "All checks passed" in walk.output("ruff check")
    assert "already formatted" in walk.output("ruff format")
    assert "Success: no issues found in 3 source files" in walk.output("mypy")


def test_the_archives_hold_the_package_and_its_mark_of_types_and_the_wheel_holds_no_tests(walk: Walk) -> None:
    (wheel,), (sdist,) = (walk.project / "dist").glob("*.whl"), (walk.project / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.split("/", 1)[-1] for member in archive.getmembers()}
    assert in_wheel == {"my_adapter/__init__.py", "my_adapter/adapter.py", "my_adapter/py.typed"}
    assert {"README.md", "pyproject.toml", "src/my_adapter/adapter.py", "tests/test_adapter.py"} <= in_sdist


def test_what_was_built_is_what_is_installed_in_the_end(walk: Walk) -> None:
    assert re.search(r"my_adapter .* entry point .* ok", walk.output("phasewire adapters list --load"))
    where = "from importlib.util import find_spec; print(find_spec('my_adapter').origin)"
    told = walk.environment.run(f'python -c "{where}"', cwd=walk.environment.folder)
    assert Path(told.output.strip()).is_relative_to(walk.environment.folder)
