"""The scripts that users copy run as they are."""

from __future__ import annotations

import math
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phasewire.app.schedule.files import load_schedule
from plugin_packages import install_plugins, on_the_path


@pytest.fixture
def examples(repository: Path, tmp_path: Path) -> Path:
    """A copy of the examples, so that what a run leaves behind lies there."""
    return shutil.copytree(repository / "examples", tmp_path / "examples")


@pytest.fixture
def run(examples: Path, empty_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a script in this process, in an empty folder, as a user does; gives what it printed."""

    def run_script(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        capsys.readouterr()
        runpy.run_path(str(examples / name), run_name="__main__")
        return capsys.readouterr().out

    return run_script


as_a_user = pytest.mark.filterwarnings("ignore")


@as_a_user
def test_the_plain_script_trains_through_all_its_phases(run) -> None:
    printed = run("plain_trainer.py")
    assert "Phase reached: 2 of 2" in printed
    assert float(re.search(r"Last val_loss: (.*)", printed)[1]) < math.log(2)  # what a guess comes to


@as_a_user
def test_lightning_cli_trains_what_its_file_says(run, examples: Path, empty_dir: Path) -> None:
    run("lightning_cli.py", "fit", "--config", str(examples / "lightning_cli.yaml"))
    (written,) = empty_dir.rglob("WineClassifier_ft_schedule*.yaml")
    assert len(load_schedule(written).phases) == 3


@as_a_user
def test_the_hugging_face_example_makes_its_phases_from_the_blocks(run) -> None:
    printed = run("huggingface_model.py")
    firsts = re.findall(r"such as (.*)", printed)
    assert firsts == [
        "model.classifier.weight",
        "model.bert.encoder.layer.1.attention.self.query.weight",
        "model.bert.encoder.layer.0.attention.self.query.weight",
        "model.bert.embeddings.word_embeddings.weight",
    ]
    assert int(re.search(r"Phase reached: (\d) of 3", printed)[1]) > 0


@as_a_user
def test_the_residual_network_trains_better_than_a_guess(run) -> None:
    printed = run("residual_network.py")
    assert "Phase reached: 2 of 2" in printed
    assert float(re.search(r"Best val_loss: (.*), of", printed)[1]) < math.log(10)


@as_a_user
def test_the_plug_in_is_found_by_its_name_and_fits_models_of_two_depths(
    run, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(examples / "plugin_adapter", tmp_path / "packages" / "plugin_adapter")
    (tmp_path / "work").mkdir()
    with on_the_path(install_plugins(tmp_path / "packages", tmp_path / "work"), monkeypatch):
        printed = run("plugin_adapter/train.py")
    assert printed.splitlines()[-2:] == [
        "3 layers: trained layers.1.weight, layers.1.bias, layers.2.weight, layers.2.bias, head.weight, head.bias",
        "6 layers: trained layers.4.weight, layers.4.bias, layers.5.weight, layers.5.bias, head.weight, head.bias",
    ]


@as_a_user
@pytest.mark.slow
def test_the_pretrained_transformer_is_compared_in_three_ways(run) -> None:
    few = ["--seeds", "0", "--epochs", "3", "--labels", "2", "--validation-texts", "2", "--test-texts", "4"]
    printed = run("pretrained_transformer.py", *few)
    rows = re.findall(r"^│ (frozen|all at once|scheduled) +│ +([\d.]+)% ± 0.0%", printed, re.MULTILINE)
    assert [way for way, _ in rows] == ["frozen", "all at once", "scheduled"]


def test_no_file_and_no_text_is_both_trained_and_tested_on(examples: Path) -> None:
    names = runpy.run_path(str(examples / "pretrained_transformer.py"))
    setting = names["Experiment"](labels=6, validation_texts=4, test_texts=8)
    splits = names["texts_by_split"](setting, seed=0)
    assert {name: len(texts) for name, texts in splits.items()} == {"train": 36, "validate": 24, "test": 48}
    for what in ("file", "words"):
        seen = [{getattr(text, what) for text in splits[name]} for name in ("train", "validate", "test")]
        assert sum(map(len, seen)) == len(set.union(*seen))
    assert all(names["GIVEAWAYS"].search(text.words) is None for texts in splits.values() for text in texts)


@as_a_user
def test_the_container_example_trains_through_all_its_phases(run, empty_dir: Path) -> None:
    printed = run("finetune_with_container.py")
    assert "Phase reached: 2 of 2" in printed
    checkpoint = re.search(r"Best val_loss: \d\.\d+ in (.*)", printed)
    assert checkpoint
    assert (empty_dir / checkpoint[1]).is_file()


def test_the_profile_tells_what_the_hooks_of_a_run_take(examples: Path, empty_dir: Path) -> None:
    finished = subprocess.run(
        [sys.executable, examples / "profile_run.py", "--width", "4", "--batches", "2", "--trace", "trace.json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    rows = re.findall(r"│ (\S+)\.(on_\w+) +│ +(\d+) +│", finished.stdout)
    calls = {(callback, hook): int(count) for callback, hook, count in rows}
    assert calls["phasewire.FinetuningScheduler", "on_train_epoch_start"] == 3
    assert calls["phasewire.FinetuningScheduler", "on_train_batch_start"] == 6
    assert calls["FTSCheckpoint", "on_train_batch_end"] == 6
    assert re.search(r"│ all of them +│ +│ +\d+\.\d+ +│ +\d+\.\d+% +│", finished.stdout)
    assert (empty_dir / "trace.json").is_file()


def test_the_example_schedule_loads(examples: Path) -> None:
    assert len(load_schedule(examples / "schedule.yaml").phases) == 3


@pytest.mark.slow
def test_the_example_of_two_processes_prints_equal_ranks_and_what_the_peer_gives(examples: Path) -> None:
    command = [sys.executable, examples / "ddp_two_processes.py"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)

    ours, peers = finished.stdout.split("finetuning-scheduler\n")
    assert re.findall(r"phase (\d): largest difference between ranks (.*)", ours) == [
        (str(phase), "0.0e+00") for phase in range(3)
    ]
    assert float(re.findall(r"ranks (.*)", peers)[-1]) > 0


@as_a_user
def test_the_bridge_example_lowers_the_loss_from_phase_to_phase(run) -> None:
    printed = run("bridge_finetune.py")
    line = r"^Phase (\d): best loss (\S+), (\S+) numbers trained, new are (\S+), "
    phases = re.findall(line, printed, re.MULTILINE)
    assert [(phase, name) for phase, _, _, name in phases] == [
        ("0", "unembed.W_U"),
        ("1", "blocks.1.mlp.W_in"),
        ("2", "blocks.1.attn.b_Q"),
    ]
    losses = [float(loss) for _, loss, _, _ in phases]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] < math.log(256)  # what a model that knows nothing of the text comes to
    trained = [int(numbers.replace(",", "")) for _, _, numbers, _ in phases]
    assert trained == sorted(set(trained))
