"""docs/planning.md and docs/schedules.md are true: their commands run in order, and print what they show."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log goes to the stderr of its first import, and a runner's is soon closed
import pytest
import torch

import pages

LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(scope="module")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    files = [
        pages.write_files((repository / "docs" / name).read_text(), folder) for name in ("planning.md", "schedules.md")
    ]
    assert files == [["my_model.py", "first.yaml", "second.yaml"], ["mine.yaml"]]
    (folder / "Llama-70B").mkdir()
    (folder / "Llama-70B" / "config.json").write_text(json.dumps(LLAMA_70B))
    return folder


@pytest.fixture
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    import my_model

    checkpoint = {"state_dict": my_model.Classifier().state_dict(), "hyper_parameters": {"layers": 12}}
    torch.save(checkpoint, project / "best.ckpt")
    yield project
    sys.modules.pop("my_model")


@pytest.mark.filterwarnings("ignore:.*")  # the commands are run as a user runs them
@pytest.mark.parametrize(
    ("name", "count", "found_by"),
    [("planning.md", 9, ()), ("schedules.md", 6, ("phasewire schedule lint mine.yaml",))],
)
def test_the_commands_of_the_page_print_what_it_shows(in_project, repository, name, count, found_by):
    shown = [
        each for each in pages.commands((repository / "docs" / name).read_text()) if each[0].startswith("phasewire")
    ]
    assert len(shown) == count
    for command, output in shown:
        ran = pages.run_command(command, 132)
        assert ran.exit_code == (1 if found_by and command.startswith(found_by) else 0), ran.output
        assert not output or pages.printed(ran) == output, command
    assert (
        all((in_project / file).stat().st_size for file in ("plan.svg", "plan.png", "plan.html"))
        or name != "planning.md"
    )


def test_a_plan_of_seventy_billion_parameters_counts_them_all(in_project):
    ran = pages.run_command("phasewire plan ./Llama-70B --json", 132)
    plan = json.loads(ran.stdout)
    assert plan["parameters"] == 70_553_706_496
    assert plan["weight_bytes"] == plan["phases"][-1]["gradient_bytes"] == 2 * plan["parameters"]
    # Two moments of each number, and the count of steps of each of 723 tensors.
    assert plan["phases"][-1]["optimizer_bytes"] == 2 * plan["weight_bytes"] + 723 * 4
