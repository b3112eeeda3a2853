"""Lightning's own ``fsdp`` flags, which ask for a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fsdp_on_cpu import EXPECTED_WARNINGS
from fsdp_parts import EPOCHS, SCHEDULE, SCORES, SplitModule, seeded
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from seam_recorder import leaving_no_process_group
from tuning import fit, make_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: Lightning refuses fsdp on the CPU"),
    *(pytest.mark.filterwarnings(each) for each in EXPECTED_WARNINGS),
]
#: What another device rounds otherwise, over ten steps.
ROUNDING = 1e-4


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


def saved_by(folder: Path, **options: object) -> list[dict[str, torch.Tensor]]:
    """The weights of the checkpoint of every epoch."""
    trainer = make_trainer(
        folder,
        FinetuningScheduler(SCHEDULE, strategy_adapter_cfg={"awp_overrides": ["layers.0", "layers.1"]}),
        FTSEarlyStopping("val_loss", patience=100),
        FTSCheckpoint(folder, monitor="score", save_top_k=-1, filename="{epoch}"),
        **{"max_epochs": EPOCHS, "accelerator": "gpu", **options},
    )
    assert len(SCORES) == EPOCHS
    fit(trainer, seeded(SplitModule))
    paths = [folder / f"epoch={epoch}.ckpt" for epoch in range(EPOCHS)]
    return [torch.load(path, weights_only=False, map_location="cpu")["state_dict"] for path in paths]


@pytest.mark.parametrize("flag", ["fsdp", "fsdp_cpu_offload"])
def test_a_flag_trains_every_phase_and_goes_back_to_the_best(tmp_path: Path, flag: str) -> None:
    options = {"strategy": "auto", "accelerator": "cpu"}
    trainer = make_trainer(
        tmp_path / "one",
        FinetuningScheduler(SCHEDULE),
        FTSEarlyStopping("val_loss", patience=100),
        FTSCheckpoint(tmp_path / "one", monitor="score", save_top_k=-1, filename="{epoch}"),
        max_epochs=EPOCHS,
        **options,
    )
    fit(trainer, seeded(SplitModule))
    for epoch, ours in enumerate(saved_by(tmp_path / flag, strategy=flag)):
        expected = torch.load(tmp_path / "one" / f"epoch={epoch}.ckpt", weights_only=False)["state_dict"]
        assert max(float((ours[name] - expected[name]).abs().max()) for name in expected) < ROUNDING
