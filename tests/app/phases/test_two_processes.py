"""Two processes hold the same weights in every phase, and those that one process would have."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
