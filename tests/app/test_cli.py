"""The command line as a whole: help, version, errors with and without --debug."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from phasewire.app.cli import app

COMMANDS = [
    ["fit"],
    ["demo"],
    ["plan"],
    ["schedule", "generate"],
    ["schedule", "validate"],
    ["adapters", "list"],
    ["config", "init"],
    ["config", "show"],
]


def phasewire(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "phasewire.app", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_names_every_command():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command[0] in result.output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_has_an_example(command):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"Example: phasewire {' '.join(command)}" in " ".join(result.output.replace("│", "").split())


def test_help_loads_neither_torch_nor_lightning():
    script = (
        "import sys\n"
        "from phasewire.app.cli import main\n"
        "sys.argv = ['phasewire', 'fit', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'lightning', 'dependency_injector'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_version_is_that_of_the_distribution():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.split() == ["phasewire", version("phasewire")]


def test_no_command_shows_the_help():
    result = CliRunner().invoke(app, [])
    assert "Usage: phasewire" in result.output


def test_a_misspelt_command_is_a_usage_error():
    result = CliRunner().invoke(app, ["fitt"])
    assert result.exit_code == 2
    assert "fit" in result.stderr


def test_an_error_is_one_paragraph_on_stderr_and_exit_code_2(tmp_path):
    result = phasewire("fit", "--config", str(tmp_path / "absent.yaml"))
    assert result.returncode == 2
    assert result.stdout == ""
    (paragraph,) = result.stderr.splitlines()
    assert paragraph.startswith("Error: ")
    assert "absent.yaml" in paragraph


def test_debug_shows_the_traceback(tmp_path):
    result = phasewire("--debug", "fit", "--config", str(tmp_path / "absent.yaml"))
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ConfigError" in result.stderr
