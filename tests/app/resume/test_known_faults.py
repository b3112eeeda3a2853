"""What goes wrong elsewhere when a run resumes."""

import pytest
import torch

from resuming import Job, Moment
from tuning import names_of_groups

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.[12].*"], "max_transition_epoch": 4},
    2: {"params": ["layers.0.*"], "max_transition_epoch": 6},
}
HEAD = ("head.weight", "head.bias")
LAST_LAYERS = ("layers.1.weight", "layers.1.bias", "layers.2.weight", "layers.2.bias")
FIRST_LAYER = ("layers.0.weight", "layers.0.bias")


def interrupted(folder, job, *, after_epoch):
    run = job.start(folder, cut=Moment("epoch saved", after_epoch))
    assert run.cut
    return run.newest()


def thawed(resumed):
    return {name for name, parameter in resumed.module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("way", ["ckpt_path", "attribute"])
@pytest.mark.parametrize(("after_epoch", "depths"), [(1, [1, 1, 2, 2]), (2, [1, 2, 2]), (3, [2, 2])])
def test_the_depth_does_not_start_again_at_0(tmp_path, way, after_epoch, depths):
    job = Job(SCHEDULE, patience=99)

    resumed = job.start(tmp_path, **{way: interrupted(tmp_path, job, after_epoch=after_epoch)})

    assert [depth for _, depth, *_ in list(resumed.knife.epochs.values())[::2]] == depths


def test_what_was_thawed_before_the_interruption_stays_thawed(tmp_path):
    job = Job({depth: SCHEDULE[depth] for depth in (0, 1)} | {2: {"params": ["layers.0.*"]}}, epochs=4, patience=99)

    resumed = job.start(tmp_path, ckpt_path=interrupted(tmp_path, job, after_epoch=2))

    assert thawed(resumed) == {*HEAD, *LAST_LAYERS}


@pytest.mark.parametrize("restore_best", [True, False])
def test_groups_are_not_added_twice(tmp_path, restore_best):
    job = Job(SCHEDULE, epochs=6, patience=99, no_decay=False, restore_best=restore_best)

    resumed = job.start(tmp_path, ckpt_path=interrupted(tmp_path, job, after_epoch=3))

    assert names_of_groups(resumed.trainer.optimizers[0], resumed.module) == (HEAD, LAST_LAYERS, FIRST_LAYER)


def test_a_checkpoint_of_epoch_transitions_only_can_be_loaded(tmp_path):
    job = Job(SCHEDULE, epochs=6, epoch_transitions_only=True)

    resumed = job.start(tmp_path, ckpt_path=interrupted(tmp_path, job, after_epoch=2))

    assert [epoch for epoch, *_ in list(resumed.knife.epochs.values())[::2]] == [3, 4, 5]
    assert resumed.scheduler.curr_depth == 2


def test_a_best_checkpoint_of_an_earlier_phase_brings_back_no_wrong_groups(tmp_path):
    # Epoch 0 is the best of all; the run is cut off in phase 1 and restores epoch 0 when phase 2 begins.
    job = Job(SCHEDULE, epochs=6, patience=99, no_decay=False, val_losses=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))

    resumed = job.start(tmp_path, ckpt_path=interrupted(tmp_path, job, after_epoch=2))

    best = torch.load(resumed.trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert best["epoch"] == 0
    assert len(best["optimizer_states"][0]["param_groups"]) == 1
    assert names_of_groups(resumed.trainer.optimizers[0], resumed.module) == (HEAD, LAST_LAYERS, FIRST_LAYER)


@pytest.mark.parametrize("after_epoch", [2, 3, 4])
def test_a_phase_resumed_after_its_own_epoch_does_not_freeze_again(tmp_path, after_epoch):
    schedule = {0: {"params": ["head.*"], "max_transition_epoch": 2}, 1: {"params": ["layers.*"]}}
    job = Job(schedule, epochs=7, patience=99, no_decay=False)

    resumed = job.start(tmp_path, ckpt_path=interrupted(tmp_path, job, after_epoch=after_epoch))

    assert all(depth == 1 for _, depth, *_ in resumed.knife.epochs.values())
    assert all(set(trainable) > set(HEAD) for _, _, trainable, *_ in resumed.knife.epochs.values())
