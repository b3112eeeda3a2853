"""What a plan says of memory and rates is what a real fit has, byte for byte and phase by phase."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from phasewire.app import FinetuningScheduler, Schedule
from phasewire.app.plan import plan_schedule
from phasewire.app.schedule.validate import ScheduleValidator
from phasewire.app.settings import SchedulerSettings
from tuning import TunedModule, fit, make_trainer

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 1},
    1: {"params": [r"layers\.2\..*", "layers.1.weight"], "max_transition_epoch": 2, "lr": 0.02},
    2: {"params": [r"layers\.0\..*"], "max_transition_epoch": 3},
}


class Measured(Callback):
    """Notes the bytes of gradients and of the optimizer's state, and the rates, in the last batch of each epoch."""

    def __init__(self):
        self.gradients, self.state, self.rates = {}, {}, {}

    def on_train_epoch_start(self, trainer, pl_module):
        self.rates[trainer.current_epoch] = tuple(group["lr"] for group in trainer.optimizers[0].param_groups)

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        # Lightning calls it before each backward pass: what is there belongs to the batch before.
        present = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if present:
            self.gradients[trainer.current_epoch] = sum(map(bytes_of, present))

    def on_train_epoch_end(self, trainer, pl_module):
        kept = trainer.optimizers[0].state
        self.state[trainer.current_epoch] = sum(
            bytes_of(value) for state in kept.values() for value in state.values() if torch.is_tensor(value)
        )


def bytes_of(tensor):
    return tensor.numel() * tensor.element_size()


def planned(module, schedule, **options):
    settings = SchedulerSettings(epoch_transitions_only=True, base_max_lr=0.01, **options.pop("settings", {}))
    return plan_schedule(module, Schedule.from_mapping(schedule), settings, ScheduleValidator(), **options)


def trained(tmp_path, module, schedule, settings=None, **trainer):
    measured = Measured()
    scheduler = FinetuningScheduler(
        ft_schedule=schedule, epoch_transitions_only=True, base_max_lr=0.01, restore_best=False, **(settings or {})
    )
    options = {"max_epochs": 3, "enable_checkpointing": False, **trainer}
    fit(make_trainer(tmp_path, scheduler, measured, **options), module)
    return measured


OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "Adam": partial(torch.optim.Adam, lr=0.1),
    "amsgrad": partial(torch.optim.AdamW, lr=0.1, amsgrad=True),
    "Adafactor": partial(torch.optim.Adafactor, lr=0.1),
    "fused": partial(torch.optim.AdamW, lr=0.1, fused=True),
}


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        *((name, "32-true") for name in OPTIMIZERS),
        ("momentum", "bf16-true"),
        ("amsgrad", "bf16-true"),
        ("Adam", "16-mixed"),
        ("Adam", "bf16-mixed"),
        ("SGD", "64-true"),
    ],
)
def test_gradients_and_optimizer_take_what_the_plan_says(tmp_path, optimizer, precision):
    module = TunedModule(optimizer=OPTIMIZERS[optimizer])
    plan = planned(module, SCHEDULE, precision=precision)
    measured = trained(tmp_path, module, SCHEDULE, precision=precision)
    assert [phase.gradient_bytes for phase in plan.phases] == [measured.gradients[epoch] for epoch in range(3)]
    assert [phase.optimizer_bytes for phase in plan.phases] == [measured.state[epoch] for epoch in range(3)]
    assert plan.phases[-1].gradient_bytes > 0


ADAM = {"optimizer_init": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.3}}}
NEW = {
    **SCHEDULE,
    1: {
        **SCHEDULE[1],
        "new_optimizer": {"optimizer_init": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.3}}},
    },
    2: {
        **SCHEDULE[2],
        "new_lr_scheduler": {
            "lr_scheduler_init": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 9}},
        },
    },
}
GIVEN = {**NEW, 2: {**NEW[2], "new_lr_scheduler": {**NEW[2]["new_lr_scheduler"], "init_pg_lrs": [0.5, 0.4, 0.3]}}}
KEPT = {**NEW, 2: {**NEW[2], "new_lr_scheduler": {**NEW[2]["new_lr_scheduler"], "use_current_optimizer_pg_lrs": True}}}


@pytest.mark.parametrize("schedule", [SCHEDULE, NEW, GIVEN, KEPT], ids=["plain", "new", "given", "kept"])
@pytest.mark.parametrize("no_decay", [None, ["bias"]])
def test_groups_have_the_rates_of_the_plan(tmp_path, schedule, no_decay):
    module = TunedModule()
    if no_decay:
        module.no_decay = no_decay
    plan = planned(module, schedule)
    measured = trained(tmp_path, module, schedule)
    rates = ()
    for epoch, phase in enumerate(plan.phases):
        found = measured.rates[epoch]
        if phase.all_rates is None:
            rates = (*rates, *phase.group_rates)
            assert rates == pytest.approx(found)
        else:
            rates = found
            assert phase.all_rates == pytest.approx(tuple(dict.fromkeys(found)))
            assert phase.group_rates == pytest.approx(found[len(found) - len(phase.group_rates) :])
    assert [phase.optimizer_bytes for phase in plan.phases] == [measured.state[epoch] for epoch in range(3)]


def test_settings_that_start_every_phase_anew_count(tmp_path):
    settings = {"reinit_optim_cfg": ADAM}
    module = TunedModule()
    plan = planned(module, SCHEDULE, settings=settings)
    measured = trained(tmp_path, module, SCHEDULE, settings)
    assert [phase.optimizer_bytes for phase in plan.phases] == [measured.state[epoch] for epoch in range(3)]
    assert [phase.begins_with for phase in plan.phases] == [(), ("torch.optim.Adam",), ("torch.optim.Adam",)]


def test_a_phase_that_sets_all_groups_anew_tells_each_rate_once():
    anew = {"lr_scheduler_init": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 9}}}
    schedule = {
        depth: {"params": [name], "max_transition_epoch": depth + 1}
        for depth, (name, _) in enumerate(TunedModule().named_parameters())
    }
    for depth in range(1, len(schedule)):
        schedule[depth]["new_lr_scheduler"] = {**anew, "init_pg_lrs": [float(depth)] * (depth + 1)}
    phases = planned(TunedModule(), schedule).phases
    assert [phase.all_rates for phase in phases] == [None, *((float(depth),) for depth in range(1, len(schedule)))]


def test_groups_that_the_module_makes_keep_their_options(tmp_path):
    def grouped(parameters):
        weight, bias = parameters
        return torch.optim.SGD([{"params": [weight], "momentum": 0.9, "lr": 0.3}, {"params": [bias]}], lr=0.1)

    module = TunedModule(optimizer=grouped)
    plan = planned(module, SCHEDULE)
    measured = trained(tmp_path, module, SCHEDULE)
    assert plan.phases[0].group_rates == (0.3, 0.1)
    assert [phase.optimizer_bytes for phase in plan.phases] == [measured.state[epoch] for epoch in range(3)]
    assert plan.phases[0].optimizer_bytes == 4 * 4


def test_the_plan_leaves_the_module_as_it_was():
    module = TunedModule()
    before = {name: (id(parameter), parameter.requires_grad) for name, parameter in module.named_parameters()}
    planned(module, SCHEDULE)
    assert {name: (id(p), p.requires_grad) for name, p in module.named_parameters()} == before
    with pytest.raises(RuntimeError, match="not attached"):
        assert module.trainer


class NeedsFit(TunedModule):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1 / self.trainer.datamodule.size)


class WithWarmup(TunedModule):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.2)
        steps = self.trainer.estimated_stepping_batches
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / steps)]


def test_what_only_a_fit_can_tell_is_not_guessed():
    plan = planned(NeedsFit(), SCHEDULE)
    assert [phase.optimizer_bytes for phase in plan.phases] == [None] * 3
    assert plan.optimizer is None
    assert [phase.group_rates for phase in plan.phases] == [(), (0.02,), (0.01,)]
    why = "fails outside a fit: AttributeError: a plan has no Trainer, and so no 'datamodule' of it"
    assert any(why in warning for warning in plan.warnings)


def test_a_module_that_asks_for_the_number_of_steps_is_planned():
    plan = planned(WithWarmup(), SCHEDULE)
    assert plan.phases[0].group_rates == (0.2,)
    assert not any("outside a fit" in warning for warning in plan.warnings)


class ReadsValues(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError(f"norm {self.param_groups[0]['params'][0].norm().item()}")


def test_an_optimizer_that_cannot_be_measured_is_said_to_be_unknown():
    plan = planned(TunedModule(optimizer=partial(ReadsValues, lr=0.1)), SCHEDULE)
    assert [phase.optimizer_bytes for phase in plan.phases] == [None] * 3
    assert plan.phases[0].group_rates == (0.1,)
    assert any("ReadsValues cannot be measured" in warning for warning in plan.warnings)


class Lazy(TunedModule):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.adapter = torch.nn.LazyLinear(4)


@pytest.mark.parametrize("lazy", [0, 1])
def test_what_has_no_shape_before_the_first_batch_is_counted_as_empty_and_that_is_said(lazy):
    schedule = {depth: {"params": ["head.*"], "max_transition_epoch": 1 + depth} for depth in (0, 1)}
    schedule[lazy]["params"] = ["adapter.*"]
    plan = planned(Lazy(), schedule)
    assert (plan.phases[lazy].names, plan.phases[lazy].parameters) == (2, 0)
    assert plan.phases[1 - lazy].parameters > 0
    assert any("adapter.weight and adapter.bias are counted as empty" in warning for warning in plan.warnings)
