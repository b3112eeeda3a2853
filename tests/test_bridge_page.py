"""docs/transformer-bridge.md and docs/checkpoint-names.md are true: their files and commands are used as they stand."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log goes to the stderr of its first import, and a runner's is soon closed
import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from phasewire.app import FinetuningScheduler
from phasewire.app.cli import app
from tuning import TunedModule, fit, make_trainer

HEAD_ONLY = {0: {"params": ["head.*"]}}

# The commands are run as a user runs them.
pytestmark = pytest.mark.filterwarnings("ignore:.*")


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "transformer-bridge.md").read_text()


@pytest.fixture(scope="module")
def names_page(repository: Path) -> str:
    return (repository / "docs" / "checkpoint-names.md").read_text()


@pytest.fixture(scope="module")
def project(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("page")
    files = re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for name, text in files:
        (folder / name).write_text(text)
    assert [name for name, _ in files] == ["schedule.yaml", "bridge_model.py", "config.yaml", "llama.yaml", "gpt2.yaml"]
    yield folder
    for module in ("bridge_model", "my_project"):
        sys.modules.pop(module, None)


def shown(page: str) -> list[tuple[str, list[str]]]:
    """The commands of a page, and what it shows that they print."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            if command.startswith("phasewire "):
                found.append((command, [line for line in output if line]))
    return found


def run(command: str) -> Result:
    ran = CliRunner().invoke(app, shlex.split(command)[1:], env={"COLUMNS": "110", "NO_COLOR": "1"})
    assert ran.exit_code == 0, ran.output
    return ran


def printed(ran: Result) -> list[str]:
    return [line.rstrip() for line in ran.stdout.splitlines() if line.strip()]


def test_the_commands_of_the_page_print_what_it_shows(
    page: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    commands = shown(page)
    assert [command.split()[1] for command, _ in commands] == ["plan", "plan", "fit", "schedule", "schedule"]
    for command, output in commands:
        lines = printed(run(command))
        if output:
            assert lines == output
        elif " fit " in command:
            assert "Trained 3 epochs." in lines
        else:
            assert lines[-1].startswith("blocks.yaml is valid for BridgedModel: 4 phases")


def test_the_commands_of_the_page_on_names_convert_what_a_fit_wrote(
    page: str, names_page: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    from transformers import AutoConfig, AutoModelForCausalLM  # which takes seconds

    (adapter,) = re.findall(r"```python\n(.*?)^```$", names_page, re.MULTILINE | re.DOTALL)
    (project / "my_project.py").write_text(adapter)
    monkeypatch.syspath_prepend(project)
    module = TunedModule()
    scheduler = FinetuningScheduler(HEAD_ONLY, custom_strategy_adapters={"auto": "my_project:BlockNamesAdapter"})
    trainer = make_trainer(project, scheduler, max_epochs=1)
    fit(trainer, module)
    trainer.save_checkpoint("blocks.ckpt")
    if not (project / "lightning_logs").exists():
        run(next(command for command, _ in shown(page) if " fit " in command))
    (best,) = (project / "lightning_logs").glob("version_*/checkpoints/*.ckpt")
    (project / "best.ckpt").write_bytes(best.read_bytes())
    size = yaml.safe_load((project / "llama.yaml").read_text())["model"]["init_args"]
    AutoConfig.for_model(**size).save_pretrained(project / "folder")

    for command, output in shown(names_page):
        assert printed(run(command)) == output

    own = torch.load("own.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, own[name]) for name, value in module.state_dict().items())
    from bridge_model import BridgedModel

    started, trained = (BridgedModel.load_from_checkpoint(name, **size).eval() for name in ("start.ckpt", "best.ckpt"))
    assert all(torch.equal(one, other) for one, other in zip(started.parameters(), trained.parameters(), strict=True))
    loaded = AutoModelForCausalLM.from_pretrained(project / "folder").eval()
    tokens = torch.arange(16).view(1, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).logits, trained.model(tokens))
