"""Two processes hold the same weights in every phase, and those that one process would have."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from process_runner import run_script

SCRIPT = Path(__file__).parents[2] / "support" / "ddp_run.py"


def run(folder, strategy, devices):
    folder.mkdir()
    subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), strategy, str(devices)], check=True, timeout=120, capture_output=True
    )
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


@pytest.mark.slow
def test_ranks_move_together_and_train_what_one_process_trains(tmp_path):
    first, second = run(tmp_path / "two", "ddp_fork", 2)
    (alone,) = run(tmp_path / "one", "auto", 1)

    assert first["depths"] == second["depths"] == alone["depths"] == [0, 0, 1, 1, 2, 2]
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name
        torch.testing.assert_close(value, alone["state"][name])


@pytest.mark.slow
def test_a_phase_is_over_on_all_ranks_when_a_criterion_says_so_on_one(tmp_path):
    run_script(SCRIPT.with_name("ddp_criteria.py"), str(tmp_path), time_limit=120)

    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    # Rank 1 ends phase 0; rank 0 ends phase 1, and in phase 2 the training.
    assert first["depths"] == second["depths"] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert all(torch.equal(value, second["state"][name]) for name, value in first["state"].items())


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_to_the_bit(tmp_path):
    run_script(SCRIPT.with_name("ddp_resume.py"), str(tmp_path), time_limit=120)

    for rank in ("rank0.pt", "rank1.pt"):
        whole, resumed = (torch.load(tmp_path / name / rank, weights_only=True) for name in ("whole", "cut"))
        assert resumed["depths"] == whole["depths"][3:]
        assert all(torch.equal(value, whole["state"][name]) for name, value in resumed["state"].items())
    assert {path.name for path in (tmp_path / "cut" / "best").iterdir()} == {
        path.name for path in (tmp_path / "whole" / "best").iterdir()
    }
