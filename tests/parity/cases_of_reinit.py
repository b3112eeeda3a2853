"""Cases in which phases start with a new optimizer, a new lr scheduler, or both."""

from __future__ import annotations

from case_parts import LR_SCHEDULERS, OLD, STEPS, UNEVEN, WORSENING, new_lr, new_optimizer, phases
from parity_case import Case, inverse, lr_scheduler, sgd, shrinking

NEW_LR_SCHEDULERS = [
    Case(name=f"new {name}", schedule=phases(one={"lr": 0.02, **new_lr(given)}), lr_schedulers=OLD, val_losses=UNEVEN)
    for name, given in LR_SCHEDULERS.items()
    if name not in ("ReduceLROnPlateau", "subclass", "LambdaLR", "MultiplicativeLR")
] + [
    Case(
        name="new LambdaLR",
        schedule=phases(one=new_lr(lr_scheduler("LambdaLR", lr_lambda=inverse))),
        lr_schedulers=OLD,
        val_losses=UNEVEN,
    ),
    Case(
        name="new MultiplicativeLR",
        schedule=phases(one=new_lr(lr_scheduler("MultiplicativeLR", lr_lambda=shrinking))),
        lr_schedulers=OLD,
        val_losses=UNEVEN,
    ),
    Case(
        name="a new subclass",
        schedule=phases(one=new_lr({"class_path": "case_parts.HalvingLR", "init_args": {}})),
        lr_schedulers=OLD,
        val_losses=UNEVEN,
    ),
    Case(
        name="new ReduceLROnPlateau",
        lr_schedulers=OLD,
        val_losses=WORSENING,
        schedule=phases(
            one={
                "lr": 0.02,
                **new_lr(
                    lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5, min_lr=0.001),
                    pl_lrs_cfg={"monitor": "val_loss", "interval": "epoch", "name": "plateau"},
                ),
            }
        ),
    ),
    Case(
        name="new ReduceLROnPlateau, a list of min_lr",
        lr_schedulers=OLD,
        val_losses=WORSENING,
        schedule=phases(
            one={
                "lr": 0.02,
                **new_lr(
                    lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5, min_lr=[0.01, 0.001]),
                    pl_lrs_cfg={"monitor": "val_loss", "strict": True, "reduce_on_plateau": True},
                ),
            }
        ),
    ),
    Case(
        name="from ReduceLROnPlateau to another",
        lr_schedulers=(LR_SCHEDULERS["ReduceLROnPlateau"],),
        val_losses=UNEVEN,
        schedule=phases(one=new_lr(STEPS)),
    ),
    Case(
        name="pl_lrs_cfg",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(
            one=new_lr(STEPS, pl_lrs_cfg={"interval": "step", "frequency": 2, "name": "Explicit_Reinit_LR_Scheduler"})
        ),
    ),
    Case(
        name="the initial lr by default",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(one={"lr": 0.02}, two={"lr": 0.01, **new_lr(STEPS)}),
    ),
    Case(
        name="use_current_optimizer_pg_lrs",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(one={"lr": 0.02}, two={"lr": 0.01, **new_lr(STEPS, use_current_optimizer_pg_lrs=True)}),
    ),
    Case(
        name="use_current_optimizer_pg_lrs with a closed form",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(two=new_lr(lr_scheduler("LambdaLR", lr_lambda=inverse), use_current_optimizer_pg_lrs=True)),
    ),
    Case(
        name="init_pg_lrs",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(one={"lr": 0.02}, two={"lr": 0.01, **new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3, 3e-3])}),
    ),
    Case(
        name="init_pg_lrs come before use_current_optimizer_pg_lrs",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(two=new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3, 3e-3], use_current_optimizer_pg_lrs=True)),
    ),
    Case(
        name="init_pg_lrs for some of the groups",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(two={"lr": 0.01, **new_lr(STEPS, init_pg_lrs=[1e-3])}),
    ),
    Case(
        name="init_pg_lrs with no_decay",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        no_decay=("bias",),
        optimizer_gets="all",
        schedule=phases(one=new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3, 3e-3, 4e-3])),
    ),
    Case(
        name="init_pg_lrs, then a phase that restores the best of before",
        lr_schedulers=OLD,
        val_losses=WORSENING,
        schedule=phases(one=new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3])),
    ),
    Case(
        name="a new lr scheduler, then a phase that restores the best of before",
        lr_schedulers=OLD,
        val_losses=WORSENING,
        schedule=phases(one=new_lr(STEPS)),
    ),
    Case(
        name="a new lr scheduler in every phase",
        lr_schedulers=OLD,
        val_losses=WORSENING,
        schedule=phases(
            one=new_lr(STEPS), two=new_lr(LR_SCHEDULERS["CosineAnnealingLR"], use_current_optimizer_pg_lrs=True)
        ),
    ),
    Case(
        name="a new lr scheduler without restoring",
        lr_schedulers=OLD,
        settings={"restore_best": False},
        schedule=phases(one=new_lr(STEPS), two=new_lr(LR_SCHEDULERS["LinearLR"])),
    ),
    Case(
        name="reinit_lr_cfg",
        schedule=None,
        lr_schedulers=OLD,
        val_losses=WORSENING,
        stopping={"patience": 1},
        settings={"reinit_lr_cfg": {"lr_scheduler_init": STEPS}, "base_max_lr": 0.01},
    ),
    Case(
        name="reinit_lr_cfg with use_current_optimizer_pg_lrs and pl_lrs_cfg",
        schedule=None,
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        stopping={"patience": 1},
        max_epochs=8,
        settings={
            "base_max_lr": 0.01,
            "reinit_lr_cfg": {
                "lr_scheduler_init": STEPS,
                "use_current_optimizer_pg_lrs": True,
                "pl_lrs_cfg": {"interval": "step", "frequency": 1, "name": "Implicit_Reinit_LR_Scheduler"},
            },
        },
    ),
    Case(
        name="reinit_lr_cfg of ReduceLROnPlateau",
        schedule=None,
        lr_schedulers=OLD,
        val_losses=WORSENING,
        stopping={"patience": 2},
        settings={
            "base_max_lr": 0.01,
            "reinit_lr_cfg": {
                "lr_scheduler_init": lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5),
                "pl_lrs_cfg": {"monitor": "val_loss"},
            },
        },
    ),
]

NEW_OPTIMIZERS = [
    Case(
        name="new_optimizer",
        schedule=phases(one={"lr": 0.02, **new_optimizer("AdamW", lr=0.003, weight_decay=0.1)}),
        settings={"restore_best": False},
    ),
    Case(
        name="new_optimizer with restore_best, the best is of the same phase",
        val_losses=UNEVEN,
        schedule=phases(two={"lr": 0.02, **new_optimizer("Adam", lr=0.003)}),
    ),
    Case(
        name="new_optimizer with restore_best, the best is of an earlier phase",
        val_losses=WORSENING,
        schedule=phases(two={"lr": 0.02, **new_optimizer("Adam", lr=0.003)}),
    ),
    Case(
        name="new_optimizer and an lr scheduler that goes on",
        val_losses=UNEVEN,
        lr_schedulers=OLD,
        schedule=phases(one={"lr": 0.02, **new_optimizer("SGD", lr=0.003, momentum=0.5)}),
        settings={"restore_best": False},
    ),
    Case(
        name="new_optimizer and a LambdaLR that goes on",
        val_losses=UNEVEN,
        lr_schedulers=(LR_SCHEDULERS["LambdaLR"],),
        schedule=phases(two={"lr": 0.02, **new_optimizer("SGD", lr=0.003, momentum=0.5)}),
    ),
    Case(
        name="new_optimizer and a ReduceLROnPlateau that goes on",
        val_losses=WORSENING,
        lr_schedulers=(LR_SCHEDULERS["ReduceLROnPlateau"],),
        schedule=phases(two={"lr": 0.02, **new_optimizer("SGD", lr=0.003, momentum=0.5)}),
    ),
    Case(
        name="new_optimizer with no_decay",
        no_decay=("bias",),
        optimizer_gets="all",
        optimizer=sgd(weight_decay=0.1),
        schedule=phases(one={"lr": 0.02, **new_optimizer("AdamW", lr=0.003, weight_decay=0.2)}),
        settings={"restore_best": False},
    ),
    Case(
        name="new_optimizer without arguments",
        schedule=phases(one=new_optimizer("Adam")),
        settings={"restore_best": False},
    ),
    Case(
        name="new_optimizer twice",
        val_losses=UNEVEN,
        settings={"restore_best": False},
        schedule=phases(
            one=new_optimizer("Adam", lr=0.01), two=new_optimizer("SGD", lr=0.02, nesterov=True, momentum=0.5)
        ),
    ),
    Case(
        name="reinit_optim_cfg",
        schedule=None,
        val_losses=WORSENING,
        stopping={"patience": 1},
        settings={
            "restore_best": False,
            "reinit_optim_cfg": {"optimizer_init": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}},
        },
    ),
    Case(
        name="reinit_optim_cfg with restore_best",
        schedule=None,
        val_losses=UNEVEN,
        stopping={"patience": 1},
        settings={
            "reinit_optim_cfg": {
                "optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.5}}
            }
        },
    ),
    Case(
        name="reinit_optim_cfg comes before new_optimizer",
        val_losses=UNEVEN,
        schedule=phases(one=new_optimizer("Adam", lr=0.001)),
        settings={
            "restore_best": False,
            "reinit_optim_cfg": {
                "optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.5}}
            },
        },
    ),
]

BOTH = [
    Case(
        name="new_optimizer and new_lr_scheduler",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        settings={"restore_best": False},
        schedule=phases(one={"lr": 0.02, **new_optimizer("Adam", lr=0.003), **new_lr(STEPS)}),
    ),
    Case(
        name="new_optimizer and new_lr_scheduler from the current lrs",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(
            one={"lr": 0.02},
            two={**new_optimizer("Adam", lr=0.003), **new_lr(STEPS, use_current_optimizer_pg_lrs=True)},
        ),
    ),
    Case(
        name="new_optimizer and new_lr_scheduler with init_pg_lrs",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(two={**new_optimizer("Adam", lr=0.003), **new_lr(STEPS, init_pg_lrs=[1e-3, 2e-3, 3e-3])}),
    ),
    Case(
        name="a new lr scheduler, then a new optimizer",
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        schedule=phases(one={"lr": 0.02, **new_lr(STEPS)}, two=new_optimizer("Adam", lr=0.003)),
    ),
    Case(
        name="reinit_optim_cfg and reinit_lr_cfg",
        schedule=None,
        lr_schedulers=OLD,
        val_losses=UNEVEN,
        stopping={"patience": 1},
        max_epochs=8,
        settings={
            "base_max_lr": 0.01,
            "reinit_optim_cfg": {
                "optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.5}}
            },
            "reinit_lr_cfg": {"lr_scheduler_init": STEPS, "use_current_optimizer_pg_lrs": True},
        },
    ),
]


CASES = [*NEW_LR_SCHEDULERS, *NEW_OPTIMIZERS, *BOTH]
