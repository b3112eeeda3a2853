"""The cases written by hand: at least one for each setting, schedule key, lr scheduler and kind of module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from parity_case import Case, Options, ScriptedModule, inverse, lr_scheduler, sgd, shrinking, warm

HEAD, LAST, FIRST = "head.*", r"blocks\.1\..*", r"blocks\.0\..*"

#: Epoch 0 is the best of phase 0, and no later epoch is better.
WORSENING = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
#: The best of phase 0 is its first epoch, that of phase 1 its last.
UNEVEN = (3.0, 4.0, 2.0, 1.0, 5.0, 6.0)


def phases(**later: Any) -> dict[int, dict[str, Any]]:
    """Three phases of two epochs; ``one`` and ``two`` add keys to phases 1 and 2."""
    return {
        0: {"params": [HEAD], "max_transition_epoch": 2},
        1: {"params": [LAST], "max_transition_epoch": 4, **later.get("one", {})},
        2: {"params": [FIRST], **later.get("two", {})},
    }


def by_patience(*params: list[str]) -> dict[int, dict[str, Any]]:
    return {depth: {"params": names} for depth, names in enumerate(params or ([HEAD], [LAST], [FIRST]))}


class HalvingLR(StepLR):
    """A subclass of a supported lr scheduler, with arguments of its own."""

    def __init__(self, optimizer: torch.optim.Optimizer, last_epoch: int = -1) -> None:
        super().__init__(optimizer, step_size=1, gamma=0.5, last_epoch=last_epoch)


class SeveralShapes(ScriptedModule):
    """An embedding whose weight is also the output layer's, as in GPT-2, and a block between them."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.embedding = nn.Embedding(5, 4)
        self.block = nn.Linear(4, 4)
        self.output = nn.Linear(4, 5, bias=False)
        self.output.weight = self.embedding.weight

    def loss(self, batch: list[Tensor]) -> Tensor:
        x, _ = batch
        tokens = x.argmax(dim=1)
        return nn.functional.cross_entropy(self.output(self.block(self.embedding(tokens))), tokens)


class FrozenByUser(ScriptedModule):
    """A module that thaws more than phase 0 while it configures its optimizer."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.head(self.body(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        self.body.bias.requires_grad = True
        return super().configure_optimizers()


LR_SCHEDULERS: Mapping[str, Options] = {
    "LambdaLR": lr_scheduler("LambdaLR", lr_lambda=inverse),
    "MultiplicativeLR": lr_scheduler("MultiplicativeLR", lr_lambda=shrinking),
    "StepLR": lr_scheduler("StepLR", step_size=2, gamma=0.5),
    "MultiStepLR": lr_scheduler("MultiStepLR", milestones=[1, 3], gamma=0.5),
    "ExponentialLR": lr_scheduler("ExponentialLR", gamma=0.8),
    "CosineAnnealingLR": lr_scheduler("CosineAnnealingLR", T_max=4, eta_min=1e-4),
    "CosineAnnealingWarmRestarts": lr_scheduler("CosineAnnealingWarmRestarts", T_0=3),
    "ConstantLR": lr_scheduler("ConstantLR", factor=0.5, total_iters=3),
    "LinearLR": lr_scheduler("LinearLR", start_factor=0.25, total_iters=5),
    "ReduceLROnPlateau": {
        **lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5, min_lr=0.005),
        "monitor": "val_loss",
    },
    "subclass": {"class_path": "case_table.HalvingLR"},
}

SETTINGS = [
    Case(name="explicit schedule", schedule=phases()),
    Case(name="implicit schedule", schedule=None, val_losses=WORSENING, stopping={"patience": 1}, max_epochs=8),
    Case(name="max_depth 0", schedule=phases(), settings={"max_depth": 0}),
    Case(name="max_depth 1", schedule=phases(), settings={"max_depth": 1}),
    Case(name="max_depth beyond the schedule", schedule=phases(), settings={"max_depth": 9}),
    Case(name="max_depth of an implicit schedule", schedule=None, settings={"max_depth": 1}, val_losses=(1.0,),
         stopping={"patience": 1}),
    Case(name="base_max_lr", schedule=phases(), settings={"base_max_lr": 0.02}),
    Case(name="base_max_lr of an implicit schedule", schedule=None, settings={"base_max_lr": 0.02},
         val_losses=WORSENING, stopping={"patience": 1}),
    Case(name="base_max_lr None, every phase with a lr",
         schedule=phases(one={"lr": 0.01}, two={"lr": 0.02}), settings={"base_max_lr": None}),
    Case(name="restore_best, the best is of the same phase", schedule=phases(), val_losses=UNEVEN),
    Case(name="restore_best, the best is of an earlier phase", schedule=phases(), val_losses=WORSENING),
    Case(name="restore_best off", schedule=phases(), settings={"restore_best": False}, val_losses=WORSENING),
    Case(name="restore_best of the highest metric", schedule=phases(), val_losses=UNEVEN,
         stopping={"patience": 9, "mode": "max"}, checkpoint={"mode": "max"}),
    Case(name="restore_best of the best of several kept", schedule=phases(), val_losses=UNEVEN,
         checkpoint={"save_top_k": 3, "save_last": True}),
    Case(name="restore_best of all kept", schedule=phases(), val_losses=UNEVEN, checkpoint={"save_top_k": -1}),
    Case(name="epoch_transitions_only", settings={"epoch_transitions_only": True}, stopping=None,
         schedule=phases(two={"max_transition_epoch": 6})),
    Case(name="epoch_transitions_only beyond max_epochs", settings={"epoch_transitions_only": True}, stopping=None,
         schedule=phases(two={"max_transition_epoch": 7})),
    Case(name="the last phase has an epoch beyond max_epochs", schedule=phases(two={"max_transition_epoch": 8})),
    Case(name="several phases with the same epoch", val_losses=UNEVEN, schedule={
        0: {"params": [HEAD], "max_transition_epoch": 2},
        1: {"params": [LAST], "max_transition_epoch": 2},
        2: {"params": [FIRST], "max_transition_epoch": 1},
    }),
    Case(name="patience alone", schedule=by_patience(), val_losses=(3.0, 4.0, 2.0, 5.0, 1.0, 6.0, 7.0),
         stopping={"patience": 1}, max_epochs=20),
    Case(name="patience before the epoch", schedule=phases(), val_losses=(1.0, 2.0, 3.0, 0.5, 4.0, 0.25),
         stopping={"patience": 1}, max_epochs=8),
    Case(name="the epoch before patience", schedule=phases(), val_losses=WORSENING, stopping={"patience": 3},
         max_epochs=12),
    Case(name="patience with min_delta", schedule=by_patience(), val_losses=(5.0, 4.9, 4.8, 4.0, 3.95, 3.9, 3.8, 3.7),
         stopping={"patience": 2, "min_delta": 0.5}, max_epochs=12),
    Case(name="a threshold stops in any phase", schedule=by_patience(), val_losses=UNEVEN,
         stopping={"patience": 5, "stopping_threshold": 2.5}),
    Case(name="divergence stops in any phase", schedule=by_patience(), val_losses=WORSENING,
         stopping={"patience": 1, "divergence_threshold": 3.5}),
    Case(name="a metric that is not finite stops in any phase", schedule=by_patience(),
         val_losses=(1.0, 2.0, float("nan")), stopping={"patience": 1}),
    Case(name="no early stopping and no checkpoint callback", schedule=phases(), stopping=None, checkpoint=None),
    Case(name="enforce_phase0_params", schedule=phases(), optimizer_gets="all"),
    Case(name="enforce_phase0_params off", schedule=phases(), optimizer_gets="all",
         settings={"enforce_phase0_params": False}),
    Case(name="enforce_phase0_params on a module that thaws by itself", make=FrozenByUser, schedule={
        0: {"params": ["head.*"], "max_transition_epoch": 2}, 1: {"params": ["body.*"]}}),
    Case(name="groups that the module made", schedule=phases(), optimizer_gets="one by one", val_losses=UNEVEN),
    Case(name="frozen_bn_track_running_stats", schedule=phases(), norms=(0, 1)),
    Case(name="frozen_bn_track_running_stats off", norms=(0, 1), schedule={
        0: {"params": [HEAD], "max_transition_epoch": 2}, 1: {"params": [LAST, FIRST]}},
        settings={"frozen_bn_track_running_stats": False}),
    Case(name="frozen_bn_track_running_stats off, without restoring", norms=(0, 1), schedule=phases(),
         settings={"frozen_bn_track_running_stats": False, "restore_best": False}),
    Case(name="apply_lambdas_new_pgs", schedule=phases(one={"lr": 0.02}),
         lr_schedulers=(LR_SCHEDULERS["LambdaLR"],), settings={"apply_lambdas_new_pgs": True}),
    Case(name="apply_lambdas_new_pgs off", schedule=phases(one={"lr": 0.02}),
         lr_schedulers=(LR_SCHEDULERS["LambdaLR"],), settings={"apply_lambdas_new_pgs": False}),
    Case(name="apply_lambdas_new_pgs with MultiplicativeLR", schedule=phases(one={"lr": 0.02}),
         lr_schedulers=(LR_SCHEDULERS["MultiplicativeLR"],), settings={"apply_lambdas_new_pgs": True}),
    Case(name="allow_untested", schedule=phases(), settings={"allow_untested": True},
         lr_schedulers=(lr_scheduler("PolynomialLR", total_iters=8),)),
]

SCHEDULE_KEYS = [
    Case(name="lr per phase", schedule=phases(one={"lr": 0.02}, two={"lr": 0.005})),
    Case(name="lr as text", schedule=phases(one={"lr": "2e-2"})),
    Case(name="max_transition_epoch -1 is none", stopping={"patience": 1}, val_losses=(1.0,), schedule={
        0: {"params": [HEAD], "max_transition_epoch": -1}, 1: {"params": [FIRST, LAST]}}),
    Case(name="regular expressions", widths=(4, 4, 4), schedule={
        0: {"params": [HEAD, r"blocks\.2\.linear\.weight"], "max_transition_epoch": 2},
        1: {"params": [r"blocks\.(?!0)\d\.linear\.bias", r"blocks\.1\.linear\.w"], "max_transition_epoch": 3},
        2: {"params": ["blocks.0"]},
    }),
    Case(name="a pattern matches from the start only", schedule={
        0: {"params": [r".*bias"], "max_transition_epoch": 2}, 1: {"params": [r".*weight$"]}}),
    Case(name="full names in any order", schedule={
        0: {"params": ["head.bias", "blocks.1.linear.bias", "head.weight"], "max_transition_epoch": 2},
        1: {"params": ["blocks.1.linear.weight", "blocks.0.linear.bias"]},
    }),
    Case(name="a phase that thaws nothing", schedule={
        0: {"params": [HEAD], "max_transition_epoch": 1},
        1: {"params": [], "max_transition_epoch": 3},
        2: {"params": [LAST]},
    }, val_losses=UNEVEN),
    Case(name="a module that is only partly scheduled", schedule={
        0: {"params": ["head.bias"], "max_transition_epoch": 2}, 1: {"params": [r"blocks\.1\.linear\.weight"]}}),
    Case(name="a single phase", schedule={0: {"params": [".*"]}}),
    Case(name="keys that are text", schedule={str(depth): phase for depth, phase in phases().items()}),
]

MODULES = [
    Case(name="no_decay", schedule=phases(), no_decay=("bias", "norm"), norms=(0,), optimizer_gets="all",
         optimizer=sgd(weight_decay=0.1)),
    Case(name="no_decay, phase 0 as the module configured it", schedule=phases(), no_decay=("bias",),
         optimizer=sgd(weight_decay=0.1), val_losses=UNEVEN),
    Case(name="no_decay that leaves a group empty", no_decay=("bias",), optimizer_gets="all", schedule={
        0: {"params": ["head.bias"], "max_transition_epoch": 2},
        1: {"params": ["head.weight"], "max_transition_epoch": 4},
        2: {"params": [FIRST]},
    }, val_losses=UNEVEN),
    Case(name="no_decay with an lr scheduler", schedule=phases(), no_decay=("bias",), optimizer_gets="all",
         lr_schedulers=(LR_SCHEDULERS["LambdaLR"],), val_losses=WORSENING),
    Case(name="tied weights", make=SeveralShapes, schedule={
        0: {"params": ["block.weight"], "max_transition_epoch": 2},
        1: {"params": ["embedding.weight", "block.bias"]},
    }),
    Case(name="tied weights, implicit", make=SeveralShapes, schedule=None, stopping={"patience": 1}, val_losses=(1.0,)),
    Case(name="tied weights, by the second name", make=SeveralShapes, schedule={
        0: {"params": ["embedding.weight", "output.weight"], "max_transition_epoch": 2}, 1: {"params": ["block.*"]}}),
    Case(name="tied blocks", tied=True, schedule={
        0: {"params": ["head.*", r"blocks\.1\.linear\.bias"], "max_transition_epoch": 2}, 1: {"params": [FIRST]}}),
    Case(name="torch.compile", schedule=phases(), compiled=True, norms=(1,), val_losses=UNEVEN),
    Case(name="Adam", schedule=phases(), optimizer={"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
         val_losses=UNEVEN),
    Case(name="AdamW, the best is of an earlier phase", schedule=phases(), val_losses=WORSENING,
         optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "weight_decay": 0.1}}),
]

SCHEDULERS = [
    Case(name=f"{name}, per {interval}, {then}", schedule=phases(one={"lr": 0.02}), val_losses=losses,
         lr_schedulers=({**given, "interval": interval},), optimizer_gets=gets)
    for name, given in LR_SCHEDULERS.items()
    for interval, losses, gets, then in (
        ("epoch", UNEVEN, "trainable", "configured for phase 0"),
        ("step", WORSENING, "all", "rebuilt for phase 0"),
    )
    if (name, interval) != ("ReduceLROnPlateau", "step")
] + [
    Case(name="no lr scheduler", schedule=phases(one={"lr": 0.02}), val_losses=WORSENING),
    Case(name="ReduceLROnPlateau, min_lr, rebuilt for phase 0", schedule=phases(one={"lr": 0.02}), val_losses=WORSENING,
         lr_schedulers=(LR_SCHEDULERS["ReduceLROnPlateau"],), optimizer_gets="all"),
    Case(name="ReduceLROnPlateau, a list of min_lr", schedule=phases(one={"lr": 0.02}), val_losses=WORSENING,
         lr_schedulers=({**lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5, min_lr=[0.01]),
                         "monitor": "val_loss"},)),
    Case(name="an lr scheduler stepped every second epoch", schedule=phases(), val_losses=UNEVEN,
         lr_schedulers=({**LR_SCHEDULERS["ExponentialLR"], "frequency": 2, "name": "every second"},)),
    Case(name="an lr scheduler that warms up per step", schedule=phases(), val_losses=UNEVEN, batches=3,
         lr_schedulers=({**lr_scheduler("LambdaLR", lr_lambda=warm), "interval": "step"},)),
]


def new_lr(given: Options, **more: Any) -> dict[str, Any]:
    return {"new_lr_scheduler": {"lr_scheduler_init": dict(given), **more}}


def new_optimizer(name: str, **arguments: Any) -> dict[str, Any]:
    return {"new_optimizer": {"optimizer_init": {"class_path": f"torch.optim.{name}", "init_args": arguments}}}


OLD = (LR_SCHEDULERS["ExponentialLR"],)
STEPS = lr_scheduler("StepLR", step_size=1, gamma=0.7)

NEW_LR_SCHEDULERS = [
    Case(name=f"new {name}", schedule=phases(one={"lr": 0.02, **new_lr(given)}), lr_schedulers=OLD, val_losses=UNEVEN)
    for name, given in LR_SCHEDULERS.items()
    if name not in ("ReduceLROnPlateau", "subclass", "LambdaLR", "MultiplicativeLR")
] + [
    Case(name="new LambdaLR", schedule=phases(one=new_lr(lr_scheduler("LambdaLR", lr_lambda=inverse))),
         lr_schedulers=OLD, val_losses=UNEVEN),
    Case(name="new MultiplicativeLR", schedule=phases(one=new_lr(lr_scheduler("MultiplicativeLR", lr_lambda=shrinking))),
         lr_schedulers=OLD, val_losses=UNEVEN),
    Case(name="a new subclass", schedule=phases(one=new_lr({"class_path": "case_table.HalvingLR", "init_args": {}})),
         lr_schedulers=OLD, val_losses=UNEVEN),
    Case(name="new ReduceLROnPlateau", lr_schedulers=OLD, val_losses=WORSENING, schedule=phases(
        one={"lr": 0.02, **new_lr(
            lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5, min_lr=0.001),
            pl_lrs_cfg={"monitor": "val_loss", "interval": "epoch", "name": "plateau"})})),
    Case(name="new ReduceLROnPlateau, a list of min_lr", lr_schedulers=OLD, val_losses=WORSENING, schedule=phases(
        one={"lr": 0.02, **new_lr(
            lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5, min_lr=[0.01, 0.001]),
            pl_lrs_cfg={"monitor": "val_loss"})})),
    Case(name="from ReduceLROnPlateau to another", lr_schedulers=(LR_SCHEDULERS["ReduceLROnPlateau"],),
         val_losses=WORSENING, schedule=phases(one=new_lr(STEPS))),
    Case(name="pl_lrs_cfg", lr_schedulers=OLD, val_losses=UNEVEN, schedule=phases(
        one=new_lr(STEPS, pl_lrs_cfg={"interval": "step", "frequency": 2, "name": "Explicit_Reinit_LR_Scheduler"}))),
    Case(name="the initial lr by default", lr_schedulers=OLD, val_losses=UNEVEN,
         schedule=phases(one={"lr": 0.02}, two={"lr": 0.01, **new_lr(STEPS)})),
    Case(name="use_current_optimizer_pg_lrs", lr_schedulers=OLD, val_losses=UNEVEN,
         schedule=phases(one={"lr": 0.02}, two={"lr": 0.01, **new_lr(STEPS, use_current_optimizer_pg_lrs=True)})),
    Case(name="use_current_optimizer_pg_lrs with a closed form", lr_schedulers=OLD, val_losses=UNEVEN,
         schedule=phases(two=new_lr(lr_scheduler("LambdaLR", lr_lambda=inverse), use_current_optimizer_pg_lrs=True))),
    Case(name="init_pg_lrs", lr_schedulers=OLD, val_losses=UNEVEN,
         schedule=phases(one={"lr": 0.02}, two={"lr": 0.01, **new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3, 3e-3])})),
    Case(name="init_pg_lrs come before use_current_optimizer_pg_lrs", lr_schedulers=OLD, val_losses=UNEVEN,
         schedule=phases(two=new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3, 3e-3], use_current_optimizer_pg_lrs=True))),
    Case(name="init_pg_lrs with no_decay", lr_schedulers=OLD, val_losses=UNEVEN, no_decay=("bias",),
         optimizer_gets="all", schedule=phases(one=new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3, 3e-3, 4e-3]))),
    Case(name="init_pg_lrs, then a phase that restores the best of before", lr_schedulers=OLD, val_losses=WORSENING,
         schedule=phases(one=new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3]))),
    Case(name="a new lr scheduler, then a phase that restores the best of before", lr_schedulers=OLD,
         val_losses=WORSENING, schedule=phases(one=new_lr(STEPS))),
    Case(name="a new lr scheduler in every phase", lr_schedulers=OLD, val_losses=WORSENING, schedule=phases(
        one=new_lr(STEPS), two=new_lr(LR_SCHEDULERS["CosineAnnealingLR"], use_current_optimizer_pg_lrs=True))),
    Case(name="a new lr scheduler without restoring", lr_schedulers=OLD, settings={"restore_best": False},
         schedule=phases(one=new_lr(STEPS), two=new_lr(LR_SCHEDULERS["LinearLR"]))),
    Case(name="reinit_lr_cfg", schedule=None, lr_schedulers=OLD, val_losses=WORSENING, stopping={"patience": 1},
         settings={"reinit_lr_cfg": {"lr_scheduler_init": STEPS}, "base_max_lr": 0.01}),
    Case(name="reinit_lr_cfg with use_current_optimizer_pg_lrs and pl_lrs_cfg", schedule=None, lr_schedulers=OLD,
         val_losses=UNEVEN, stopping={"patience": 1}, max_epochs=8,
         settings={"base_max_lr": 0.01, "reinit_lr_cfg": {
             "lr_scheduler_init": STEPS, "use_current_optimizer_pg_lrs": True,
             "pl_lrs_cfg": {"interval": "step", "frequency": 1, "name": "Implicit_Reinit_LR_Scheduler"}}}),
    Case(name="reinit_lr_cfg of ReduceLROnPlateau", schedule=None, lr_schedulers=OLD, val_losses=WORSENING,
         stopping={"patience": 2}, settings={"base_max_lr": 0.01, "reinit_lr_cfg": {
             "lr_scheduler_init": lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5),
             "pl_lrs_cfg": {"monitor": "val_loss"}}}),
]

NEW_OPTIMIZERS = [
    Case(name="new_optimizer", schedule=phases(one={"lr": 0.02, **new_optimizer("AdamW", lr=0.003, weight_decay=0.1)}),
         settings={"restore_best": False}),
    Case(name="new_optimizer with restore_best, the best is of the same phase", val_losses=UNEVEN,
         schedule=phases(two={"lr": 0.02, **new_optimizer("Adam", lr=0.003)})),
    Case(name="new_optimizer with restore_best, the best is of an earlier phase", val_losses=WORSENING,
         schedule=phases(two={"lr": 0.02, **new_optimizer("Adam", lr=0.003)})),
    Case(name="new_optimizer and an lr scheduler that goes on", val_losses=UNEVEN, lr_schedulers=OLD,
         schedule=phases(one={"lr": 0.02, **new_optimizer("SGD", lr=0.003, momentum=0.5)}),
         settings={"restore_best": False}),
    Case(name="new_optimizer and a LambdaLR that goes on", val_losses=UNEVEN,
         lr_schedulers=(LR_SCHEDULERS["LambdaLR"],),
         schedule=phases(two={"lr": 0.02, **new_optimizer("SGD", lr=0.003, momentum=0.5)})),
    Case(name="new_optimizer and a ReduceLROnPlateau that goes on", val_losses=WORSENING,
         lr_schedulers=(LR_SCHEDULERS["ReduceLROnPlateau"],),
         schedule=phases(two={"lr": 0.02, **new_optimizer("SGD", lr=0.003, momentum=0.5)})),
    Case(name="new_optimizer with no_decay", no_decay=("bias",), optimizer_gets="all", optimizer=sgd(weight_decay=0.1),
         schedule=phases(one={"lr": 0.02, **new_optimizer("AdamW", lr=0.003, weight_decay=0.2)}),
         settings={"restore_best": False}),
    Case(name="new_optimizer without arguments", schedule=phases(one=new_optimizer("Adam")),
         settings={"restore_best": False}),
    Case(name="new_optimizer twice", val_losses=UNEVEN, settings={"restore_best": False}, schedule=phases(
        one=new_optimizer("Adam", lr=0.01), two=new_optimizer("SGD", lr=0.02, nesterov=True, momentum=0.5))),
    Case(name="reinit_optim_cfg", schedule=None, val_losses=WORSENING, stopping={"patience": 1},
         settings={"restore_best": False, "reinit_optim_cfg": {
             "optimizer_init": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}}}),
    Case(name="reinit_optim_cfg with restore_best", schedule=None, val_losses=UNEVEN, stopping={"patience": 1},
         settings={"reinit_optim_cfg": {
             "optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.5}}}}),
    Case(name="reinit_optim_cfg comes before new_optimizer", val_losses=UNEVEN,
         schedule=phases(one=new_optimizer("Adam", lr=0.001)),
         settings={"restore_best": False, "reinit_optim_cfg": {
             "optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.5}}}}),
]

BOTH = [
    Case(name="new_optimizer and new_lr_scheduler", lr_schedulers=OLD, val_losses=UNEVEN,
         settings={"restore_best": False},
         schedule=phases(one={"lr": 0.02, **new_optimizer("Adam", lr=0.003), **new_lr(STEPS)})),
    Case(name="new_optimizer and new_lr_scheduler from the current lrs", lr_schedulers=OLD, val_losses=UNEVEN,
         schedule=phases(one={"lr": 0.02}, two={**new_optimizer("Adam", lr=0.003),
                                                **new_lr(STEPS, use_current_optimizer_pg_lrs=True)})),
    Case(name="new_optimizer and new_lr_scheduler with init_pg_lrs", lr_schedulers=OLD, val_losses=UNEVEN,
         schedule=phases(two={**new_optimizer("Adam", lr=0.003), **new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3, 3e-3])})),
    Case(name="a new lr scheduler, then a new optimizer", lr_schedulers=OLD, val_losses=UNEVEN,
         schedule=phases(one={"lr": 0.02, **new_lr(STEPS)}, two=new_optimizer("Adam", lr=0.003))),
    Case(name="reinit_optim_cfg and reinit_lr_cfg", schedule=None, lr_schedulers=OLD, val_losses=UNEVEN,
         stopping={"patience": 1}, max_epochs=8, settings={
             "base_max_lr": 0.01,
             "reinit_optim_cfg": {"optimizer_init": {"class_path": "torch.optim.SGD",
                                                     "init_args": {"lr": 0.01, "momentum": 0.5}}},
             "reinit_lr_cfg": {"lr_scheduler_init": STEPS, "use_current_optimizer_pg_lrs": True}}),
]


def gpt2(case: Case) -> pl.LightningModule:
    """A tiny GPT-2 of transformers, whose output layer is its embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    class LanguageModel(ScriptedModule):
        def __init__(self, case: Case) -> None:
            super().__init__(case)
            sizes = GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2, use_cache=False,
                               resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
            self.model = GPT2LMHeadModel(sizes)

        def loss(self, batch: list[Tensor]) -> Tensor:
            tokens = batch[0].argsort(dim=1)
            return self.model(input_ids=tokens, labels=tokens).loss

    return LanguageModel(case)


GPT2 = [
    Case(name="GPT-2", make=gpt2, val_losses=UNEVEN, no_decay=("bias", "ln_"), schedule={
        0: {"params": [r"model\.transformer\.ln_f\..*"], "max_transition_epoch": 2},
        1: {"params": [r"model\.transformer\.h\.1\..*"], "max_transition_epoch": 4},
        2: {"params": [r"model\.transformer\.(h\.0|wte|wpe)\..*"]},
    }, optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}}),
    Case(name="GPT-2, the embedding by its second name", make=gpt2, val_losses=UNEVEN, schedule={
        0: {"params": [r"model\.transformer\.ln_f\..*", "model.lm_head.weight", "model.transformer.wte.weight"],
            "max_transition_epoch": 2},
        1: {"params": [r"model\.transformer\.h\..*"]},
    }),
    Case(name="GPT-2, implicit", make=gpt2, schedule=None, val_losses=(1.0,), stopping={"patience": 1}, max_epochs=5),
]

TABLE = {
    "settings": SETTINGS,
    "schedule keys": SCHEDULE_KEYS,
    "modules": MODULES,
    "lr schedulers": SCHEDULERS,
    "new lr schedulers": NEW_LR_SCHEDULERS,
    "new optimizers": NEW_OPTIMIZERS,
    "both": BOTH,
    "GPT-2": GPT2,
}
