"""Cases for kinds of modules and optimizers, and for each lr scheduler."""

from __future__ import annotations

from case_parts import BLOCK_0, LR_SCHEDULERS, UNEVEN, WORSENING, SeveralShapes, gpt2, phases
from parity_case import Case, lr_scheduler, sgd, warm

MODULES = [
    Case(
        name="no_decay",
        schedule=phases(),
        no_decay=("bias", "norm"),
        norms=(0,),
        optimizer_gets="all",
        optimizer=sgd(weight_decay=0.1),
    ),
    Case(
        name="no_decay, phase 0 as the module configured it",
        schedule=phases(),
        no_decay=("bias",),
        optimizer=sgd(weight_decay=0.1),
        val_losses=UNEVEN,
    ),
    Case(
        name="no_decay that leaves a group empty",
        no_decay=("bias",),
        optimizer_gets="all",
        schedule={
            0: {"params": ["head.bias"], "max_transition_epoch": 2},
            1: {"params": ["head.weight"], "max_transition_epoch": 4},
            2: {"params": [BLOCK_0]},
        },
        val_losses=UNEVEN,
    ),
    Case(
        name="no_decay with an lr scheduler",
        schedule=phases(),
        no_decay=("bias",),
        optimizer_gets="all",
        lr_schedulers=(LR_SCHEDULERS["LambdaLR"],),
        val_losses=WORSENING,
    ),
    Case(
        name="tied weights",
        make=SeveralShapes,
        schedule={
            0: {"params": ["block.weight"], "max_transition_epoch": 2},
            1: {"params": ["embedding.weight", "block.bias"]},
        },
    ),
    Case(name="tied weights, implicit", make=SeveralShapes, schedule=None, stopping={"patience": 1}, val_losses=(1.0,)),
    Case(
        name="tied weights, by the second name",
        make=SeveralShapes,
        schedule={
            0: {"params": ["embedding.weight", "output.weight"], "max_transition_epoch": 2},
            1: {"params": ["block.*"]},
        },
    ),
    Case(
        name="tied blocks",
        tied=True,
        schedule={
            0: {"params": ["head.*", r"blocks\.1\.linear\.bias"], "max_transition_epoch": 2},
            1: {"params": [BLOCK_0]},
        },
    ),
    Case(name="torch.compile", schedule=phases(), compiled=True, norms=(1,), val_losses=UNEVEN),
    Case(
        name="Adam",
        schedule=phases(),
        optimizer={"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
        val_losses=UNEVEN,
    ),
    Case(
        name="AdamW, the best is of an earlier phase",
        schedule=phases(),
        val_losses=WORSENING,
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "weight_decay": 0.1}},
    ),
]

SCHEDULERS = [
    Case(
        name=f"{name}, per {interval}, {then}",
        schedule=phases(one={"lr": 0.02}),
        val_losses=losses,
        lr_schedulers=({**given, "interval": interval},),
        optimizer_gets=gets,
    )
    for name, given in LR_SCHEDULERS.items()
    for interval, losses, gets, then in (
        ("epoch", UNEVEN, "trainable", "configured for phase 0"),
        ("step", WORSENING, "all", "rebuilt for phase 0"),
    )
    if (name, interval) != ("ReduceLROnPlateau", "step")
] + [
    Case(name="no lr scheduler", schedule=phases(one={"lr": 0.02}), val_losses=WORSENING),
    Case(
        name="ReduceLROnPlateau, min_lr, rebuilt for phase 0",
        schedule=phases(one={"lr": 0.02}),
        val_losses=WORSENING,
        lr_schedulers=(LR_SCHEDULERS["ReduceLROnPlateau"],),
        optimizer_gets="all",
    ),
    Case(
        name="ReduceLROnPlateau, a list of min_lr",
        schedule=phases(one={"lr": 0.02}),
        val_losses=WORSENING,
        lr_schedulers=(
            {**lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5, min_lr=[0.01]), "monitor": "val_loss"},
        ),
    ),
    Case(
        name="ReduceLROnPlateau, per step",
        schedule=phases(),
        val_losses=WORSENING,
        lr_schedulers=({**LR_SCHEDULERS["ReduceLROnPlateau"], "interval": "step", "strict": False},),
        batches=3,
    ),
    Case(
        name="an lr scheduler stepped every second epoch",
        schedule=phases(),
        val_losses=UNEVEN,
        lr_schedulers=({**LR_SCHEDULERS["ExponentialLR"], "frequency": 2, "name": "every second"},),
    ),
    Case(
        name="an lr scheduler that warms up per step",
        schedule=phases(),
        val_losses=UNEVEN,
        batches=3,
        lr_schedulers=({**lr_scheduler("LambdaLR", lr_lambda=warm), "interval": "step"},),
    ),
]

GPT2 = [
    Case(
        name="GPT-2",
        make=gpt2,
        val_losses=UNEVEN,
        no_decay=("bias", "ln_"),
        schedule={
            0: {"params": [r"model\.transformer\.ln_f\..*"], "max_transition_epoch": 2},
            1: {"params": [r"model\.transformer\.h\.1\..*"], "max_transition_epoch": 4},
            2: {"params": [r"model\.transformer\.(h\.0|wte|wpe)\..*"]},
        },
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
    ),
    Case(
        name="GPT-2, the embedding by its second name",
        make=gpt2,
        val_losses=UNEVEN,
        schedule={
            0: {
                "params": [r"model\.transformer\.ln_f\..*", "model.lm_head.weight", "model.transformer.wte.weight"],
                "max_transition_epoch": 2,
            },
            1: {"params": [r"model\.transformer\.h\..*"]},
        },
    ),
    Case(name="GPT-2, implicit", make=gpt2, schedule=None, val_losses=(1.0,), stopping={"patience": 1}, max_epochs=5),
]


CASES = [*MODULES, *SCHEDULERS, *GPT2]
