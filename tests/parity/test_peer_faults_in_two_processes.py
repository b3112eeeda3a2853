"""With ``ddp``, the peer never averages the gradients of what it thaws after phase 0.

``tests/app/phases/test_two_processes.py`` has the same training with ours, whose ranks hold the same weights.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch


def weights_of_ranks(repository: Path, folder: Path, package: str) -> list[dict[str, torch.Tensor]]:
    folder.mkdir()
    script = repository / "tests" / "support" / "ddp_run.py"
    command = [sys.executable, str(script), str(folder), "ddp_fork", "2", package]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return [torch.load(path, weights_only=True)["state"] for path in sorted(folder.glob("rank*.pt"))]


@pytest.mark.slow
def test_what_the_peer_thaws_after_phase_zero_drifts_apart(repository: Path, tmp_path: Path) -> None:
    first, second = weights_of_ranks(repository, tmp_path / "peer", "finetuning_scheduler")

    assert torch.equal(first["head.weight"], second["head.weight"])
    assert not torch.equal(first["layers.1.weight"], second["layers.1.weight"])
