"""Sharded modules in two processes train what one process trains, in every phase."""

from pathlib import Path

import pytest
import torch

from parallel_run import DEPTHS, LAYERS, ParallelModule, model_parallel, train
from process_runner import run_script
from seam_recorder import leaving_no_process_group
from tuning import Batches, make_trainer

SCRIPT = Path(__file__).parents[2] / "support" / "parallel_run.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    run_script(SCRIPT, str(folder), "two processes", time_limit=120)
    return folder


@pytest.fixture(scope="module")
def ranks(folder):
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("alone"))


KINDS = pytest.mark.parametrize("kind", ["file", "shards"])
SCENES = pytest.mark.parametrize("scene", ["fsdp2", "tensor_parallel"])


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


@KINDS
@SCENES
def test_all_phases_train_what_one_process_trains(ranks, alone, scene, kind):
    first, second = (rank[scene][kind] for rank in ranks)

    assert first["depths"] == second["depths"] == alone.notes.depths == DEPTHS
    assert same(first["state"], second["state"])
    torch.testing.assert_close(first["state"], alone.state)


@KINDS
@SCENES
def test_a_run_is_resumed_to_the_bit(ranks, scene, kind):
    for rank in ranks:
        run = rank[scene][kind]
        assert run["resumed depths"] == DEPTHS[4:]
        assert same(run["resumed"], run["state"])


@KINDS
@SCENES
def test_a_run_of_two_processes_goes_on_in_one(folder, ranks, scene, kind, tmp_path):
    saved = folder / scene / kind / "best" / "epoch=4.ckpt"
    with leaving_no_process_group():
        cfg = {"fsdp_plan": LAYERS}
        resumed = train(tmp_path, model_parallel(shards=kind == "shards"), cfg=cfg, ckpt_path=saved)

    assert resumed.notes.depths == DEPTHS[5:]
    torch.testing.assert_close(resumed.state, ranks[0][scene][kind]["state"])


@KINDS
@SCENES
def test_a_checkpoint_is_validated(ranks, alone, scene, kind, tmp_path):
    module = ParallelModule(val_losses=())
    module.load_state_dict(alone.state)
    (metrics,) = make_trainer(tmp_path).validate(module, dataloaders=Batches(1), verbose=False)

    for rank in ranks:
        run = rank[scene][kind]
        assert same(run["loaded"], run["state"])
        assert run["validated"] == pytest.approx(metrics["val_loss"])


def test_parameters_are_divided_and_a_share_may_be_empty(ranks, alone):
    shares = [rank["fsdp2"]["file"]["local numbers"] for rank in ranks]
    numbers = [parameter.numel() for parameter in alone.module.parameters()]

    assert [sum(parts) for parts in zip(*shares, strict=True)] == numbers
    assert shares[0][:4] == shares[1][:4]
    assert 0 in shares[1]


def test_gradients_are_clipped_by_the_norm_over_all_processes(ranks, tmp_path):
    clipped = train(tmp_path, gradient_clip_val=0.05).state

    for rank in ranks:
        torch.testing.assert_close(rank["fsdp2"]["clipped"], clipped)


def test_parameters_that_every_process_would_train_for_itself_are_warned_of(ranks):
    warned = "'layers.1.weight', 'layers.1.bias' will be trained and are not sharded over the data-parallel processes"

    assert any(warned in text for text in ranks[0]["unsynchronised"]["warnings"])
    assert not any(warned in text for text in ranks[1]["unsynchronised"]["warnings"])
