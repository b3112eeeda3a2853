"""Cases for each setting of the callback and each key of a schedule file."""

from __future__ import annotations

from case_parts import BLOCK_0, BLOCK_1, HEAD, LR_SCHEDULERS, UNEVEN, WORSENING, FrozenByUser, by_patience, phases
from parity_case import Case, lr_scheduler

SETTINGS = [
    Case(name="explicit schedule", schedule=phases()),
    Case(name="implicit schedule", schedule=None, val_losses=WORSENING, stopping={"patience": 1}, max_epochs=8),
    Case(name="max_depth 0", schedule=phases(), settings={"max_depth": 0}),
    Case(name="max_depth 1", schedule=phases(), settings={"max_depth": 1}),
    Case(name="max_depth beyond the schedule", schedule=phases(), settings={"max_depth": 9}),
    Case(
        name="max_depth of an implicit schedule",
        schedule=None,
        settings={"max_depth": 1},
        val_losses=(1.0,),
        stopping={"patience": 1},
    ),
    Case(name="base_max_lr", schedule=phases(), settings={"base_max_lr": 0.02}),
    Case(
        name="base_max_lr of an implicit schedule",
        schedule=None,
        settings={"base_max_lr": 0.02},
        val_losses=WORSENING,
        stopping={"patience": 1},
    ),
    Case(
        name="base_max_lr None, every phase with a lr",
        schedule=phases(one={"lr": 0.01}, two={"lr": 0.02}),
        settings={"base_max_lr": None},
    ),
    Case(name="restore_best, the best is of the same phase", schedule=phases(), val_losses=UNEVEN),
    Case(name="restore_best, the best is of an earlier phase", schedule=phases(), val_losses=WORSENING),
    Case(name="restore_best off", schedule=phases(), settings={"restore_best": False}, val_losses=WORSENING),
    Case(
        name="restore_best of the highest metric",
        schedule=phases(),
        val_losses=UNEVEN,
        stopping={"patience": 9, "mode": "max"},
        checkpoint={"mode": "max"},
    ),
    Case(
        name="restore_best of the best of several kept",
        schedule=phases(),
        val_losses=UNEVEN,
        checkpoint={"save_top_k": 3, "save_last": True},
    ),
    Case(name="restore_best of all kept", schedule=phases(), val_losses=UNEVEN, checkpoint={"save_top_k": -1}),
    Case(
        name="epoch_transitions_only",
        settings={"epoch_transitions_only": True},
        stopping=None,
        schedule=phases(two={"max_transition_epoch": 6}),
    ),
    Case(
        name="epoch_transitions_only beyond max_epochs",
        settings={"epoch_transitions_only": True},
        stopping=None,
        schedule=phases(two={"max_transition_epoch": 7}),
    ),
    Case(name="the last phase has an epoch beyond max_epochs", schedule=phases(two={"max_transition_epoch": 8})),
    Case(
        name="several phases with the same epoch",
        val_losses=UNEVEN,
        schedule={
            0: {"params": [HEAD], "max_transition_epoch": 2},
            1: {"params": [BLOCK_1], "max_transition_epoch": 2},
            2: {"params": [BLOCK_0], "max_transition_epoch": 1},
        },
    ),
    Case(
        name="patience alone",
        schedule=by_patience(),
        val_losses=(3.0, 4.0, 2.0, 5.0, 1.0, 6.0, 7.0),
        stopping={"patience": 1},
        max_epochs=20,
    ),
    Case(
        name="patience before the epoch",
        schedule=phases(),
        val_losses=(1.0, 2.0, 3.0, 0.5, 4.0, 0.25),
        stopping={"patience": 1},
        max_epochs=8,
    ),
    Case(
        name="the epoch before patience",
        schedule=phases(),
        val_losses=WORSENING,
        stopping={"patience": 3},
        max_epochs=12,
    ),
    Case(
        name="patience with min_delta",
        schedule=by_patience(),
        val_losses=(5.0, 4.9, 4.8, 4.0, 3.95, 3.9, 3.8, 3.7),
        stopping={"patience": 2, "min_delta": 0.5},
        max_epochs=12,
    ),
    Case(
        name="a threshold stops in any phase",
        schedule=by_patience(),
        val_losses=UNEVEN,
        stopping={"patience": 5, "stopping_threshold": 2.5},
    ),
    Case(
        name="divergence stops in any phase",
        schedule=by_patience(),
        val_losses=WORSENING,
        stopping={"patience": 1, "divergence_threshold": 3.5},
    ),
    Case(
        name="a metric that is not finite stops in any phase",
        schedule=by_patience(),
        val_losses=(1.0, 2.0, float("nan")),
        stopping={"patience": 1},
    ),
    Case(name="no early stopping and no checkpoint callback", schedule=phases(), stopping=None, checkpoint=None),
    Case(name="enforce_phase0_params", schedule=phases(), optimizer_gets="all"),
    Case(
        name="enforce_phase0_params off",
        schedule=phases(),
        optimizer_gets="all",
        settings={"enforce_phase0_params": False},
    ),
    Case(
        name="enforce_phase0_params on a module that thaws by itself",
        make=FrozenByUser,
        schedule={0: {"params": ["head.*"], "max_transition_epoch": 2}, 1: {"params": ["body.*"]}},
    ),
    Case(name="groups that the module made", schedule=phases(), optimizer_gets="one by one", val_losses=UNEVEN),
    Case(name="frozen_bn_track_running_stats", schedule=phases(), norms=(0, 1)),
    Case(
        name="frozen_bn_track_running_stats off",
        norms=(0, 1),
        schedule={0: {"params": [HEAD], "max_transition_epoch": 2}, 1: {"params": [BLOCK_1, BLOCK_0]}},
        settings={"frozen_bn_track_running_stats": False},
    ),
    Case(
        name="frozen_bn_track_running_stats off, without restoring",
        norms=(0, 1),
        schedule=phases(),
        settings={"frozen_bn_track_running_stats": False, "restore_best": False},
    ),
    Case(
        name="apply_lambdas_new_pgs",
        schedule=phases(one={"lr": 0.02}),
        lr_schedulers=(LR_SCHEDULERS["LambdaLR"],),
        settings={"apply_lambdas_new_pgs": True},
    ),
    Case(
        name="apply_lambdas_new_pgs off",
        schedule=phases(one={"lr": 0.02}),
        lr_schedulers=(LR_SCHEDULERS["LambdaLR"],),
        settings={"apply_lambdas_new_pgs": False},
    ),
    Case(
        name="apply_lambdas_new_pgs with MultiplicativeLR",
        schedule=phases(one={"lr": 0.02}),
        lr_schedulers=(LR_SCHEDULERS["MultiplicativeLR"],),
        settings={"apply_lambdas_new_pgs": True},
    ),
    Case(
        name="allow_untested",
        schedule=phases(),
        settings={"allow_untested": True},
        lr_schedulers=(lr_scheduler("PolynomialLR", total_iters=8),),
    ),
]

SCHEDULE_KEYS = [
    Case(name="lr per phase", schedule=phases(one={"lr": 0.02}, two={"lr": 0.005})),
    Case(name="lr as text", schedule=phases(one={"lr": "2e-2"})),
    Case(
        name="max_transition_epoch -1 is none",
        stopping={"patience": 1},
        val_losses=(1.0,),
        schedule={0: {"params": [HEAD], "max_transition_epoch": -1}, 1: {"params": [BLOCK_0, BLOCK_1]}},
    ),
    Case(
        name="regular expressions",
        widths=(4, 4, 4),
        schedule={
            0: {"params": [HEAD, r"blocks\.2\.linear\.weight"], "max_transition_epoch": 2},
            1: {"params": [r"blocks\.(?!0)\d\.linear\.bias", r"blocks\.1\.linear\.w"], "max_transition_epoch": 3},
            2: {"params": ["blocks.0"]},
        },
    ),
    Case(
        name="a pattern matches from the start only",
        schedule={0: {"params": [r".*bias"], "max_transition_epoch": 2}, 1: {"params": [r".*weight$"]}},
    ),
    Case(
        name="full names in any order",
        schedule={
            0: {"params": ["head.bias", "blocks.1.linear.bias", "head.weight"], "max_transition_epoch": 2},
            1: {"params": ["blocks.1.linear.weight", "blocks.0.linear.bias"]},
        },
    ),
    Case(
        name="a phase that thaws nothing",
        schedule={
            0: {"params": [HEAD], "max_transition_epoch": 1},
            1: {"params": [], "max_transition_epoch": 3},
            2: {"params": [BLOCK_1]},
        },
        val_losses=UNEVEN,
    ),
    Case(
        name="a module that is only partly scheduled",
        schedule={
            0: {"params": ["head.bias"], "max_transition_epoch": 2},
            1: {"params": [r"blocks\.1\.linear\.weight"]},
        },
    ),
    Case(name="a single phase", schedule={0: {"params": [".*"]}}),
    Case(name="keys that are text", schedule={str(depth): phase for depth, phase in phases().items()}),
]


CASES = [*SETTINGS, *SCHEDULE_KEYS]
