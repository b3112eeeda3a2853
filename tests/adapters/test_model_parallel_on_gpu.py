"""Sharded modules on a GPU; docs/testing.md tells when this last ran."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from parallel_run import DEPTHS, LAYERS, ParallelModule, adam_w, model_parallel, train
from seam_recorder import leaving_no_process_group

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and there is none"),
]


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


@pytest.mark.parametrize("shards", [False, True], ids=["file", "shards"])
@pytest.mark.parametrize(
    "defaults",
    [None, {"cpu_offload_policy": {}}, {"act_ckpt": "wrapped_offload"}],
    ids=["", "offloaded", "activations"],
)
def test_phases_train_and_resume_on_a_gpu(tmp_path, defaults, shards) -> None:
    def module() -> ParallelModule:
        return ParallelModule(optimizer=lambda parameters: adam_w(parameters, fused=defaults is None))

    cfg = {"fsdp_plan": LAYERS, "fsdp_default_kwargs": defaults}
    options = {"cfg": cfg, "accelerator": "cuda", "gradient_clip_val": 1.0}
    expected = train(tmp_path / "alone", "auto", module(), accelerator="cuda", gradient_clip_val=1.0).state

    run = train(tmp_path / "sharded", model_parallel(shards=shards), module(), **options)
    resumed = train(
        tmp_path / "resumed", model_parallel(shards=shards), module(), ckpt_path=run.checkpoint(3), **options
    )

    assert run.notes.depths == DEPTHS
    torch.testing.assert_close(run.state, expected, check_device=False)
    torch.testing.assert_close(resumed.state, run.state, rtol=0, atol=0)
