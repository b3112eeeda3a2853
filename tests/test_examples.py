"""The scripts that users copy run as they are."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phasewire.app.schedule.files import load_schedule


@pytest.fixture
def examples(repository: Path, tmp_path: Path) -> Path:
    """A copy of the examples, so that what a run leaves behind lies there."""
    return shutil.copytree(repository / "examples", tmp_path / "examples")


def test_the_container_example_trains_through_all_its_phases(examples: Path, empty_dir: Path) -> None:
    finished = subprocess.run(
        [sys.executable, examples / "finetune_with_container.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Phase reached: 2 of 2" in finished.stdout
    checkpoint = re.search(r"Best val_loss: \d\.\d+ in (.*)", finished.stdout)
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


def test_the_bridge_example_lowers_the_loss_from_phase_to_phase(examples: Path, empty_dir: Path) -> None:
    command = [sys.executable, "-W", "ignore", examples / "bridge_finetune.py"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=empty_dir)
    line = r"^Phase (\d): best loss (\S+), (\S+) numbers trained, new are (\S+), "
    phases = re.findall(line, finished.stdout, re.MULTILINE)
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
