"""docs/transformer-bridge.md is true: its files are used as they stand there, its commands print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log goes to the stderr of its first import, and a runner's is soon closed
import pytest
from typer.testing import CliRunner

from phasewire.app.cli import app


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "transformer-bridge.md").read_text()


@pytest.fixture(scope="module")
def project(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    files = re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for name, text in files:
        (folder / name).write_text(text)
    assert [name for name, _ in files] == ["schedule.yaml", "bridge_model.py", "config.yaml", "llama.yaml", "gpt2.yaml"]
    return folder


def shown(page: str) -> list[tuple[str, list[str]]]:
    """The commands of the page, and what it shows that they print."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            found.append((command, [line for line in output if line]))
    return found


@pytest.mark.filterwarnings("ignore:.*")  # the commands are run as a user runs them
def test_the_commands_of_the_page_print_what_it_shows(
    page: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    commands = [(command, output) for command, output in shown(page) if command.startswith("phasewire ")]
    assert [command.split()[1] for command, _ in commands] == ["plan", "plan", "fit"]
    for command, output in commands:
        ran = CliRunner().invoke(app, shlex.split(command)[1:], env={"COLUMNS": "110", "NO_COLOR": "1"})
        assert ran.exit_code == 0, ran.output
        printed = [line.rstrip() for line in ran.stdout.splitlines() if line.strip()]
        if output:
            assert printed == output
        else:
            assert "Trained 3 epochs." in printed
