"""Each fault of the peer in a minimal training: what the peer does, and what is done here instead.

``docs/differences.md`` gives the reasons. The first part has the faults by which random cases are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import phasewire.app as ours
from case_parts import BLOCK_1, HEAD, WORSENING, new_lr, new_optimizer, phases
from parity_case import Case, inverse, lr_scheduler, shrinking
from peer_faults import Fault, met_by
from side_by_side import Outcome, train_both

EXPONENTIAL = lr_scheduler("ExponentialLR", gamma=0.5)
HALVING = lr_scheduler("StepLR", step_size=1, gamma=0.5)
ADAM = new_optimizer("Adam", lr=0.003)
TWO_PHASES = {0: {"params": [HEAD], "max_transition_epoch": 1}, 1: {"params": [BLOCK_1]}}

FAULTS: dict[Fault, Case] = {}


def meeting(fault: Fault, **data: Any) -> Case:
    """Make the case that shows a fault."""
    case = Case(name=fault.value, **{"schedule": phases(), "val_losses": WORSENING, **data})
    FAULTS[fault] = case
    return case


BASE_RATE_NONE = meeting(Fault.BASE_RATE_NONE, settings={"base_max_lr": None})
EPOCH_ZERO = meeting(
    Fault.EPOCH_ZERO, schedule={0: {"params": [HEAD], "max_transition_epoch": 0}, 1: {"params": [BLOCK_1]}}
)
LAMBDA_BEFORE_START = meeting(
    Fault.LAMBDA_BEFORE_START,
    schedule={0: {"params": [HEAD]}},
    optimizer_gets="all",
    settings={"apply_lambdas_new_pgs": True},
    lr_schedulers=(lr_scheduler("MultiplicativeLR", lr_lambda=shrinking),),
)
EARLY_STATISTICS = meeting(
    Fault.EARLY_STATISTICS, norms=(0,), max_epochs=4, settings={"frozen_bn_track_running_stats": False}
)
EPOCHS_BEYOND_DEPTH = meeting(
    Fault.EPOCHS_BEYOND_DEPTH, schedule=phases(two={"max_transition_epoch": 8}), max_epochs=3, settings={"max_depth": 0}
)
STATE_MADE_EARLY = meeting(
    Fault.STATE_MADE_EARLY,
    optimizer={"class_path": "torch.optim.Adagrad", "init_args": {"lr": 0.05}},
    optimizer_gets="all",
)
OTHER_OPTIMIZER = meeting(
    Fault.OTHER_OPTIMIZER, schedule=phases(one=new_optimizer("SGD", lr=0.05, momentum=0.5, weight_decay=0.1))
)
OTHER_GROUPS = meeting(
    Fault.OTHER_GROUPS,
    schedule=phases(two=ADAM),
    optimizer_gets="one by one",
    lr_schedulers=(EXPONENTIAL,),
    settings={"restore_best": False},
)
OTHER_LAMBDAS = meeting(
    Fault.OTHER_LAMBDAS,
    schedule=phases(one=new_lr(HALVING)),
    lr_schedulers=(lr_scheduler("MultiplicativeLR", lr_lambda=shrinking),),
    # The constant lambda keeps the initial rates out of it.
    settings={"apply_lambdas_new_pgs": True},
)
SURPLUS_LAMBDAS = meeting(
    Fault.SURPLUS_LAMBDAS,
    schedule={
        0: {"params": [HEAD], "max_transition_epoch": 1},
        1: {"params": [BLOCK_1], "max_transition_epoch": 2},
        2: {"params": ["blocks.0.linear.weight"], "max_transition_epoch": 3},
        3: {"params": ["blocks.0.linear.bias"], **ADAM},
    },
    lr_schedulers=(lr_scheduler("LambdaLR", lr_lambda=inverse),),
    settings={"restore_best": False},
)
INITIAL_RATES = meeting(
    Fault.INITIAL_RATES,
    schedule=phases(one={"lr": 0.02}),
    lr_schedulers=(lr_scheduler("LambdaLR", lr_lambda=inverse),),
    settings={"apply_lambdas_new_pgs": True},
)


@pytest.mark.parametrize("fault", Fault, ids=[fault.value for fault in Fault])
def test_the_fault_is_told_from_the_case_and_is_documented(fault: Fault, repository: Path) -> None:
    assert fault in met_by(FAULTS[fault])
    assert f"**{fault.value}**" in (repository / "docs" / "differences.md").read_text()


@pytest.mark.parametrize("case", [EPOCH_ZERO, STATE_MADE_EARLY, OTHER_LAMBDAS, SURPLUS_LAMBDAS, BASE_RATE_NONE])
def test_the_peer_fails_where_this_trains(case: Case, tmp_path: Path) -> None:
    mine, theirs = train_both(case, tmp_path)

    assert isinstance(theirs.error, (KeyError, TypeError, ValueError))
    assert mine.error is None
    assert len(mine.epochs) == case.max_epochs


def test_the_rate_of_a_rebuilt_phase_zero_is_that_of_the_optimizer(tmp_path: Path) -> None:
    mine, theirs = train_both(LAMBDA_BEFORE_START, tmp_path)

    assert [outcome.epochs[0].groups[0].initial_lr for outcome in (mine, theirs)] == [0.05, 0.05 * 0.9]


def test_the_batch_norm_of_a_phase_that_has_not_begun_keeps_its_statistics(tmp_path: Path) -> None:
    mine, theirs = train_both(EARLY_STATISTICS, tmp_path)

    assert {1} == set(mine.depths[2:]), "block 0 is thawed in phase 2"
    assert mine.epochs[2].tracking == ()
    assert theirs.epochs[2].tracking == ("blocks.0.norm",)


def test_a_training_is_not_made_longer_by_a_phase_beyond_max_depth(tmp_path: Path) -> None:
    mine, theirs = train_both(EPOCHS_BEYOND_DEPTH, tmp_path)

    assert (len(mine.epochs), len(theirs.epochs)) == (3, 8)


def test_a_phase_goes_on_with_the_options_of_its_own_optimizer(tmp_path: Path) -> None:
    mine, theirs = train_both(OTHER_OPTIMIZER, tmp_path)

    # The best checkpoint is of phase 0, whose optimizer had no weight decay.
    assert [group.weight_decay for group in mine.epochs[4].groups] == [0.1, 0.1, 0.1]
    assert [group.weight_decay for group in theirs.epochs[4].groups] == [0, 0.1, 0.1]


def test_a_new_optimizer_gives_every_parameter_the_rate_it_had(tmp_path: Path) -> None:
    mine, theirs = train_both(OTHER_GROUPS, tmp_path)

    assert rates(mine, 4)["blocks.1.linear.weight"] == pytest.approx(rates(mine, 3)["blocks.1.linear.weight"] / 2)
    # The peer gives phase 1 the rate of the second group of phase 0.
    assert isinstance(theirs.error, ValueError) or rates(theirs, 4)["blocks.1.linear.weight"] > 1e-3


def test_a_group_keeps_its_initial_rate_when_a_checkpoint_is_restored(tmp_path: Path) -> None:
    mine, theirs = train_both(INITIAL_RATES, tmp_path)

    initial = [[outcome.epochs[epoch].groups[1].initial_lr for epoch in (2, 4)] for outcome in (mine, theirs)]
    assert initial[0] == [0.02 * inverse(2)] * 2
    assert initial[1] == [0.02 * inverse(2), 0.02 * inverse(1)]


def rates(outcome: Outcome, epoch: int) -> dict[str, float]:
    return {name: group.lr or 0.0 for group in outcome.epochs[epoch].groups for name in group.names}


# -- faults that no random case meets --------------------------------------------------------------------------------


def test_a_new_lr_scheduler_needs_no_old_one(tmp_path: Path) -> None:
    case = Case(name="no lr scheduler before", schedule=phases(one=new_lr(HALVING)))
    mine, theirs = train_both(case, tmp_path)

    assert isinstance(theirs.error, IndexError)
    assert [len(epoch.lr_schedulers) for epoch in mine.epochs] == [0, 0, 1, 1, 1, 1]


def test_a_new_lr_scheduler_needs_no_arguments(tmp_path: Path) -> None:
    given = {"class_path": "case_parts.HalvingLR"}
    case = Case(name="no init_args", schedule=phases(one=new_lr(given)), lr_schedulers=(EXPONENTIAL,))
    mine, theirs = train_both(case, tmp_path)

    assert isinstance(theirs.error, KeyError)
    assert mine.epochs[2].lr_schedulers[0]["class"] == "HalvingLR"


def test_a_new_lr_scheduler_that_wants_a_metric_is_refused_before_the_training(tmp_path: Path) -> None:
    plateau = lr_scheduler("ReduceLROnPlateau", patience=0)
    case = Case(name="no monitor", schedule=phases(one=new_lr(plateau)), lr_schedulers=(EXPONENTIAL,))
    mine, theirs = train_both(case, tmp_path)

    assert isinstance(theirs.error, TypeError)
    assert len(theirs.epochs) == 3, "the peer fails at the end of the phase's first epoch"
    assert isinstance(mine.error, ours.ScheduleError)
    assert "pl_lrs_cfg: {monitor: val_loss}" in str(mine.error)
    assert mine.epochs == []


def test_allow_untested_holds_for_a_new_lr_scheduler_too(tmp_path: Path) -> None:
    given = new_lr(lr_scheduler("PolynomialLR", total_iters=5))
    settings = {"allow_untested": True}
    case = Case(name="untested", schedule=phases(one=given), lr_schedulers=(EXPONENTIAL,), settings=settings)
    mine, theirs = train_both(case, tmp_path)

    assert isinstance(theirs.error, AssertionError)
    assert mine.epochs[2].lr_schedulers[0]["class"] == "PolynomialLR"


def test_each_of_several_lr_schedulers_goes_on_as_it_was(tmp_path: Path) -> None:
    slower = lr_scheduler("StepLR", step_size=1, gamma=0.1)
    case = Case(name="two lr schedulers", schedule=TWO_PHASES, lr_schedulers=(EXPONENTIAL, slower), max_epochs=3)
    mine, theirs = train_both(case, tmp_path)

    fell = [rates(outcome, 2)["head.bias"] / rates(outcome, 1)["head.bias"] for outcome in (mine, theirs)]
    # The peer gives the second one the state of the first one, with its gamma of 0.5.
    assert fell == pytest.approx([0.5 * 0.1, 0.5 * 0.5])


def test_patterns_of_one_phase_may_overlap(tmp_path: Path) -> None:
    case = Case(name="overlap", schedule={0: {"params": [HEAD, "head.bias", "head"]}}, max_epochs=1)
    mine, theirs = train_both(case, tmp_path)

    assert "not disjoint" in str(theirs.error)
    assert mine.epochs[0].thawed == ("head.weight", "head.bias")


def test_a_batch_norm_layer_without_parameters_keeps_its_statistics(tmp_path: Path) -> None:
    def make(case: Case) -> Any:
        module = Case(name="", schedule=None, norms=(0,)).module()
        module.blocks[0]["norm"] = nn.BatchNorm1d(4, affine=False)
        return module

    settings = {"frozen_bn_track_running_stats": False}
    case = Case(name="affine=False", schedule={0: {"params": [".*"]}}, make=make, settings=settings, max_epochs=1)
    mine, theirs = train_both(case, tmp_path)

    assert [outcome.epochs[0].tracking for outcome in (mine, theirs)] == [("blocks.0.norm",), ()]


def test_the_epoch_of_a_single_phase_counts_for_the_length_of_the_training(tmp_path: Path) -> None:
    case = Case(name="one phase", schedule={0: {"params": [HEAD], "max_transition_epoch": 4}}, max_epochs=2)
    mine, theirs = train_both(case, tmp_path)

    assert (len(mine.epochs), len(theirs.epochs)) == (4, 2)


@pytest.mark.filterwarnings(r"ignore:`ModelCheckpoint\(monitor='val_loss'\)` could not find:UserWarning")
def test_without_validation_nothing_is_restored(tmp_path: Path) -> None:
    schedule = {depth: {**phase, "max_transition_epoch": depth + 1} for depth, phase in TWO_PHASES.items()}
    settings = {"epoch_transitions_only": True}
    trainer = {"limit_val_batches": 0}
    case = Case(name="no validation", schedule=schedule, settings=settings, stopping=None, trainer=trainer)
    mine, theirs = train_both(case, tmp_path)

    assert repr(theirs.error) == "KeyError(0)"
    assert mine.error is None
    assert mine.depths[:2] == [0, 1]
