"""Runs whose phases end by other criteria than early stopping resume to the bit, and say when the criteria changed."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasewire.adapters import CheckpointError, TransitionCriterion
from resuming import Job, Moment, differences

SCHEDULE = {0: {"params": ["head.*"]}, 1: {"params": ["layers.1.*"]}, 2: {"params": ["layers.0.*"]}}
PLATEAU = {"plateau": {"window": 2, "min_relative_slope": 0.01}}
# Flat after epochs 2, 5 and 8.
LOSSES = (5.0, 4.0, 4.0, 3.0, 2.0, 2.0, 1.0, 0.5, 0.5, 0.5)
JOB = Job(SCHEDULE, epochs=12, val_losses=LOSSES, no_decay=False, criteria=[PLATEAU, "epochs"])
WITHIN = {"val_check_interval": 1}


class Counting(TransitionCriterion):
    """A phase lasts some validations; its state holds a tensor."""

    def __init__(self, *, validations: int = 3) -> None:
        self.validations = validations

    def begin_phase(self, phase):
        self.seen = torch.zeros(())

    def after_validation(self, phase):
        self.seen += 1
        return bool(self.seen >= self.validations)

    def state_dict(self):
        return {"seen": self.seen, "nested": {"of": [1, (2.0, None, "three", True)]}}

    def load_state_dict(self, state_dict):
        assert state_dict["nested"] == {"of": [1, (2.0, None, "three", True)]}
        self.seen = state_dict["seen"]


def assert_same(whole, resumed):
    assert differences(whole.everything(), resumed.everything()) == []
    assert differences(whole.best_files(), resumed.best_files()) == []
    assert resumed.knife.epochs == {step: whole.knife.epochs[step] for step in resumed.knife.epochs}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return JOB.start(tmp_path_factory.mktemp("whole"))


def test_the_run_that_is_compared_with_ends_by_the_criterion_in_every_phase(whole):
    assert [depth for _, depth, *_ in list(whole.knife.epochs.values())[::2]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("epoch", range(9))
def test_a_run_resumes_to_the_bit_from_the_checkpoint_of_any_epoch(whole, tmp_path, epoch):
    cut = JOB.start(tmp_path, cut=Moment("epoch saved", epoch))

    resumed = JOB.start(tmp_path, ckpt_path=cut.newest())

    assert_same(whole, resumed)


MOMENTS = [
    "batch saved",
    "validation starts",
    "validation ends",
    "validation saved",
    "epoch starts",
    "thawed",
    "restoring",
]


@pytest.fixture(scope="module")
def whole_within(tmp_path_factory):
    """With a validation after each batch, and a checkpoint after each step."""
    job = replace(JOB, criteria=[{Counting: {"validations": 5}}, PLATEAU], trainer=WITHIN, epochs=6)
    return replace(job, recovery={"every_n_train_steps": 1})


@settings(max_examples=12, deadline=None, derandomize=True)
@given(hook=st.sampled_from(MOMENTS), calls=st.integers(0, 9))
def test_a_run_with_validations_within_epochs_resumes_to_the_bit_wherever_it_is_cut_off(
    whole_within, tmp_path_factory, hook, calls
):
    folder = tmp_path_factory.mktemp("run")
    whole = whole_within.start(folder / "whole")
    cut = whole_within.start(folder / "cut", cut=Moment(hook, calls))
    if not cut.cut:
        return

    resumed = whole_within.start(folder / "cut", ckpt_path=cut.newest())

    assert_same(whole, resumed)


def test_a_run_that_a_criterion_ended_stays_ended(whole, tmp_path):
    resumed = JOB.start(tmp_path, ckpt_path=whole.newest())

    assert resumed.knife.epochs == {}
    assert resumed.trainer.should_stop


def test_a_run_that_a_criterion_ended_goes_on_in_a_further_phase(whole, tmp_path):
    schedule = {**SCHEDULE, 3: {"params": ["layers.2.*"]}}

    with pytest.warns(UserWarning, match=r"phase 3 is new"):
        resumed = replace(JOB, schedule=schedule).start(tmp_path, ckpt_path=whole.newest())

    assert [depth for _, depth, *_ in resumed.knife.epochs.values()][:2] == [3, 3]


def test_a_run_that_a_criterion_ended_goes_on_with_other_options_which_is_said(whole, tmp_path):
    criteria = [{"plateau": {"window": 9}}, "epochs"]

    with pytest.warns(
        UserWarning,
        match=r"goes on in phase 2 with other transition criteria than those of the checkpoint: no longer "
        r"plateau\(window=2, min_relative_slope=0\.01\); now also plateau\(window=9\)\. What is new begins in",
    ):
        resumed = replace(JOB, criteria=criteria).start(tmp_path, ckpt_path=whole.newest())

    assert [epoch for epoch, *_ in list(resumed.knife.epochs.values())[::2]] == [9, 10, 11]


def test_a_criterion_that_the_checkpoint_does_not_know_begins_where_the_run_resumes(tmp_path):
    ends = [{Counting: {"validations": 2}}]
    cut = replace(JOB, criteria=[{"plateau": {"window": 9}}]).start(tmp_path, cut=Moment("epoch saved", 1))

    with pytest.warns(UserWarning, match=r"no longer plateau\(window=9\); now also .*Counting\(validations=2\)"):
        resumed = replace(JOB, criteria=ends, epochs=7).start(tmp_path, ckpt_path=cut.newest())

    assert [depth for _, depth, *_ in list(resumed.knife.epochs.values())[::2]] == [0, 0, 1, 1, 2]


def test_the_order_of_criteria_makes_no_difference(whole, tmp_path):
    job = replace(JOB, criteria=["epochs", PLATEAU])
    cut = JOB.start(tmp_path, cut=Moment("epoch saved", 4))

    assert_same(whole, job.start(tmp_path, ckpt_path=cut.newest()))


def test_what_criteria_add_to_a_checkpoint_is_plain(whole):
    state = torch.load(whole.newest(), weights_only=True)["callbacks"]["phasewire.FinetuningScheduler"]

    assert state["criteria"] == [
        {
            "name": "plateau",
            "distribution": "phasewire",
            "options": {"window": 2, "min_relative_slope": 0.01},
            "over": True,
            "state": {"values": [0.5, 0.5]},
        },
        {"name": "epochs", "distribution": "phasewire", "options": {}, "over": False, "state": {}},
    ]


def test_a_run_that_a_criterion_ended_is_over_so_that_no_older_best_is_kept_for_it(tmp_path):
    # The best comes last, while the checkpoint to resume from names the one before.
    falling = {"plateau": {"window": 3, "min_relative_slope": 0.5}}
    job = replace(JOB, schedule={0: SCHEDULE[0]}, val_losses=(1.0, 0.9, 0.8), criteria=[falling])
    run = replace(job, recovery={"every_n_epochs": 2}).start(tmp_path)

    assert run.newest().name == "epoch=1-step=4.ckpt"
    assert list(run.best_files()) == ["epoch=2-step=6.ckpt"]


class Forgetful(Counting):
    """Cannot read what it wrote."""

    def load_state_dict(self, state_dict):
        raise KeyError("version")


def test_one_that_cannot_take_its_state_is_named(tmp_path):
    job = replace(JOB, criteria=[Forgetful])
    cut = job.start(tmp_path, cut=Moment("epoch saved", 0))

    with pytest.raises(CheckpointError, match=r"Forgetful' cannot take the state that the checkpoint of phase 0 holds"):
        job.start(tmp_path, ckpt_path=cut.newest())
