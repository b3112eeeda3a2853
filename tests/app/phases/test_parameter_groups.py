"""The optimizer's groups and the lr schedulers, phase by phase."""

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder
from torch.optim import lr_scheduler

from phasewire.app import ConfigError, FinetuningScheduler, FTSEarlyStopping
from tuning import Notes, TunedModule, fit, make_trainer

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 1},
    1: {"params": ["layers.1.*"], "max_transition_epoch": 2, "lr": 0.01},
    2: {"params": ["layers.0.*"]},
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def run(tmp_path, module, epochs=3, **settings):
    notes = Notes()
    scheduler = FinetuningScheduler(SCHEDULE, restore_best=False, **settings)
    trainer = make_trainer(tmp_path, scheduler, notes, FTSEarlyStopping("val_loss", patience=99), max_epochs=epochs)
    fit(trainer, module)
    return notes, trainer.optimizers[0], trainer


def test_each_phase_adds_one_group_with_its_learning_rate(tmp_path):
    notes, optimizer, _ = run(tmp_path, TunedModule(), base_max_lr=0.002)

    assert notes.epochs[2].groups == (
        ("head.weight", "head.bias"),
        ("layers.1.weight", "layers.1.bias"),
        ("layers.0.weight", "layers.0.bias"),
    )
    assert notes.epochs[2].lrs == (0.1, 0.01, 0.002)
    assert [group.get("initial_lr") for group in optimizer.param_groups] == [None, 0.01, 0.002]


def test_without_a_base_rate_new_groups_take_that_of_phase_zero(tmp_path):
    notes, _, _ = run(tmp_path, TunedModule(), base_max_lr=None)

    assert notes.epochs[2].lrs == (0.1, 0.01, 0.1)


def test_no_decay_of_the_module_makes_two_groups_a_phase(tmp_path):
    module = TunedModule(
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1, weight_decay=0.5), only_trainable=False
    )
    module.no_decay = ["bias"]

    notes, optimizer, _ = run(tmp_path, module)

    assert notes.epochs[2].groups == (
        ("head.weight",),
        ("head.bias",),
        ("layers.1.weight",),
        ("layers.1.bias",),
        ("layers.0.weight",),
        ("layers.0.bias",),
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0] * 3


def test_an_optimizer_that_holds_too_much_is_made_to_hold_phase_zero(tmp_path):
    notes, _, _ = run(tmp_path, TunedModule(only_trainable=False), epochs=1)

    assert notes.epochs[0].groups == (("head.weight", "head.bias"),)


def test_state_that_an_optimizer_made_for_what_it_no_longer_holds_is_dropped(tmp_path):
    # Adagrad makes its state when it is built, and cannot save that of a parameter in none of its groups.
    module = TunedModule(optimizer=lambda parameters: torch.optim.Adagrad(parameters, lr=0.1), only_trainable=False)

    _, optimizer, _ = run(tmp_path, module, epochs=2)

    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    assert set(optimizer.state) == held
    assert len(optimizer.state_dict()["state"]) == 4


def test_an_optimizer_that_holds_too_much_is_left_with_a_warning_if_told_so(tmp_path):
    with pytest.warns(UserWarning, match=r"Not in phase 0: .*layers\.0\.bias"):
        notes, _, _ = run(tmp_path, TunedModule(only_trainable=False), epochs=1, enforce_phase0_params=False)

    assert len(notes.epochs[0].groups[0]) == 8


@pytest.mark.filterwarnings("ignore:The (number of training|'val_dataloader)")
def test_a_learning_rate_finder_does_not_keep_phase_zero_from_being_enforced(tmp_path):
    module = TunedModule(only_trainable=False)
    module.lr = 0.1
    notes = Notes()
    finder = LearningRateFinder(num_training_steps=3)
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE, restore_best=False),
        finder,
        notes,
        FTSEarlyStopping("val_loss", patience=9),
        max_epochs=2,
    )

    fit(trainer, module)

    assert notes.epochs[0].groups == (("head.weight", "head.bias"),)
    assert notes.depths == [0, 1]


def test_groups_with_parameter_names_keep_them(tmp_path):
    module = TunedModule()
    module.configure_optimizers = lambda: torch.optim.SGD(
        [(name, p) for name, p in module.named_parameters() if p.requires_grad], lr=0.1
    )

    _, optimizer, _ = run(tmp_path, module)

    assert [group["param_names"] for group in optimizer.param_groups] == [
        ["head.weight", "head.bias"],
        ["layers.1.weight", "layers.1.bias"],
        ["layers.0.weight", "layers.0.bias"],
    ]


SCHEDULERS = {
    "ConstantLR": lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=4),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, gamma=0.5),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)),
    "LinearLR": lambda optimizer: lr_scheduler.LinearLR(optimizer, total_iters=4),
    "MultiplicativeLR": lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.5),
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5),
}


@pytest.mark.parametrize("only_trainable", [True, False], ids=["configured for phase 0", "rebuilt for phase 0"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_every_supported_scheduler_moves_every_group(tmp_path, kind, only_trainable):
    notes, optimizer, trainer = run(
        tmp_path, TunedModule(scheduler=SCHEDULERS[kind], only_trainable=only_trainable), epochs=5
    )

    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert len(scheduler.base_lrs) == len(optimizer.param_groups) == 3
    assert len(scheduler.get_last_lr()) == 3
    # The first group moves as if it had been alone from the start.
    alone = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = SCHEDULERS[kind](alone)
    expected = []
    for _ in range(5):
        expected.append(alone.param_groups[0]["lr"])
        alone.step()
        reference.step()
    assert [epoch.lrs[0] for epoch in notes.epochs] == pytest.approx(expected)


def test_new_groups_start_at_their_rate_and_then_follow_the_lambda(tmp_path):
    module = TunedModule(scheduler=lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)))

    notes, _, _ = run(tmp_path, module, epochs=4)

    assert notes.epochs[1].lrs == pytest.approx((0.05, 0.01))
    assert notes.epochs[2].lrs == pytest.approx((0.1 / 3, 0.01 / 3, 1e-5))


def test_new_groups_start_at_the_rate_of_the_lambda_if_told_so(tmp_path):
    module = TunedModule(scheduler=lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)))

    notes, _, _ = run(tmp_path, module, epochs=2, apply_lambdas_new_pgs=True)

    assert notes.epochs[1].lrs == pytest.approx((0.05, 0.005))


def test_a_plateau_scheduler_gets_a_lower_bound_for_every_group(tmp_path):
    module = TunedModule(
        [1.0],
        scheduler=lambda optimizer: {
            "scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, min_lr=[0.02]),
            "monitor": "val_loss",
        },
    )

    notes, _, trainer = run(tmp_path, module, epochs=4)

    assert trainer.lr_scheduler_configs[0].scheduler.min_lrs == [0.02, 0.02, 0.02]
    assert notes.epochs[3].lrs[0] == pytest.approx(0.025)


def test_a_scheduler_whose_groups_cannot_be_kept_in_line_is_refused(tmp_path):
    module = TunedModule(scheduler=lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10))

    with pytest.raises(ConfigError, match=r"configure_optimizers: OneCycleLR .* Use one of ConstantLR"):
        run(tmp_path, module)


def test_an_optimizer_of_a_single_group_is_refused(tmp_path):
    module = TunedModule(optimizer=torch.optim.LBFGS)

    with pytest.raises(ConfigError, match="LBFGS holds a single parameter group"):
        run(tmp_path, module)


@pytest.mark.parametrize("automatic", [True, False])
def test_more_than_one_optimizer_is_refused(tmp_path, automatic):
    module = TunedModule()
    module.automatic_optimization = automatic
    module.configure_optimizers = lambda: [torch.optim.SGD(module.parameters(), lr=0.1) for _ in range(2)]

    with pytest.raises(ConfigError, match=r"TunedModule\.configure_optimizers: .* several optimizers"):
        run(tmp_path, module)


@pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`:UserWarning")
def test_no_optimizer_is_refused(tmp_path):
    module = TunedModule()
    module.automatic_optimization = False
    module.configure_optimizers = lambda: None

    with pytest.raises(ConfigError, match=r"TunedModule\.configure_optimizers: The module configures no optimizer"):
        run(tmp_path, module)
