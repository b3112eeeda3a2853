"""docs/transformer-bridge.md is true: its files are used as they stand there, its commands print what it shows."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log goes to the stderr of its first import, and a runner's is soon closed
import pytest

import pages


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "transformer-bridge.md").read_text()


@pytest.fixture(scope="module")
def project(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    assert pages.write_files(page, folder) == [
        "schedule.yaml",
        "bridge_model.py",
        "config.yaml",
        "llama.yaml",
        "gpt2.yaml",
    ]
    return folder


@pytest.mark.filterwarnings("ignore:.*")  # the commands are run as a user runs them
def test_the_commands_of_the_page_print_what_it_shows(
    page: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    commands = [(command, output) for command, output in pages.commands(page) if command.startswith("phasewire ")]
    assert [command.split()[1] for command, _ in commands] == ["plan", "plan", "fit"]
    for command, output in commands:
        ran = pages.run_command(command, 132)
        assert ran.exit_code == 0, ran.output
        if output:
            assert pages.printed(ran) == output
        else:
            assert "Trained 3 epochs." in pages.printed(ran)
