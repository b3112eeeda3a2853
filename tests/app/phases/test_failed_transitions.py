"""A transition that fails leaves the module, the optimizer and the lr schedulers as they were."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import Callback, OnExceptionCheckpoint

from phasewire.adapters import StrategyAdapter
from phasewire.app import FinetuningScheduler
from tuning import TunedModule, fit, make_trainer

# Lightning looks for a checkpoint of its own where OnExceptionCheckpoint is in the Trainer.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:\.fit\(ckpt_path=.last.\) is set, but there is no last:UserWarning"),
    pytest.mark.filterwarnings(r"ignore:`\.fit\(ckpt_path=None\)` was called without a model:UserWarning"),
]

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 1},
    1: {"params": ["layers.2.*", "layers.1.*"], "max_transition_epoch": 2},
}
PHASE_ZERO = ["head.weight", "head.bias"]


class Factor:
    """A lambda of an lr scheduler with a state of its own."""

    def __init__(self):
        self.calls = 0

    def __call__(self, epoch):
        self.calls += 1
        return 1.0


class Quantized(TunedModule):
    """Has, behind a parameter that can be thawed, one that cannot since the schedule was checked."""

    def on_train_start(self):
        self.layers[1].bias.data = torch.ones(4, dtype=torch.int8)

    def forward(self, x):
        return self.head(self.layers[2](self.layers[0](x)))


class FailsInside(StrategyAdapter):
    """Thaws more than it was told to, and then fails."""

    def __init__(self):
        super().__init__()

        def exec_ft_phase(module, thaw_pl, *, init_thaw=False):
            if not init_thaw:
                for parameter in module.parameters():
                    parameter.requires_grad = True
                raise RuntimeError("the middle of a thaw")
            return StrategyAdapter.base_ft_phase(module, thaw_pl, init_thaw=init_thaw)

        self.exec_ft_phase = exec_ft_phase


class FailsAfterwards(StrategyAdapter):
    """Changes a group when the phase has begun, and then fails."""

    def on_phase_thawed(self, depth):
        if depth:
            optimizer = self.pl_module.optimizers().optimizer
            optimizer.param_groups[0]["momentum"] = 0.5
            optimizer.param_groups[0]["params"].pop()
            raise RuntimeError("the middle of a thaw")


class Noting(Callback):
    """Notes which batch norm layers track their statistics when a run fails: afterwards, all do again."""

    def on_exception(self, trainer, pl_module, exception):
        self.tracking = pl_module.layers[2].track_running_stats


CASES = {
    "a parameter that cannot be thawed": (Quantized, StrategyAdapter, "only Tensors of floating point"),
    "a thaw of the adapter": (TunedModule, FailsInside, "the middle of a thaw"),
    "a hook of the adapter": (TunedModule, FailsAfterwards, "the middle of a thaw"),
}


def failed_run(tmp_path, case):
    module_class, adapter, message = CASES[case]
    module = module_class(scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, Factor()))
    scheduler = FinetuningScheduler(
        SCHEDULE,
        restore_best=False,
        epoch_transitions_only=True,
        frozen_bn_track_running_stats=False,
        custom_strategy_adapters={"auto": adapter},
    )
    trainer = make_trainer(tmp_path, scheduler, Noting(), OnExceptionCheckpoint(tmp_path), max_epochs=2)
    with pytest.raises(RuntimeError, match=message):
        fit(trainer, module)
    return trainer, module, scheduler


@pytest.mark.parametrize("case", CASES)
def test_a_failed_transition_leaves_everything_as_it_was(tmp_path, case):
    trainer, module, scheduler = failed_run(tmp_path, case)
    (optimizer,), (config,) = trainer.optimizers, trainer.lr_scheduler_configs
    assert [name for name, parameter in module.named_parameters() if parameter.requires_grad] == PHASE_ZERO
    assert not next(callback for callback in trainer.callbacks if isinstance(callback, Noting)).tracking
    (group,) = optimizer.param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(p) for p in module.head.parameters()]
    assert group["momentum"] == 0.9
    assert len(config.scheduler.base_lrs) == len(config.scheduler.lr_lambdas) == 1
    assert scheduler.curr_depth == 0


def test_what_is_saved_on_the_failure_is_resumed_in_the_phase_before(tmp_path):
    failed_run(tmp_path, "a hook of the adapter")
    scheduler = FinetuningScheduler(SCHEDULE, restore_best=False, epoch_transitions_only=True)
    module = TunedModule(scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, Factor()))
    trainer = make_trainer(tmp_path, scheduler, max_epochs=2)
    fit(trainer, module, ckpt_path=tmp_path / "on_exception.ckpt")
    assert scheduler.curr_depth == 1
    assert len(trainer.lr_scheduler_configs[0].scheduler.lr_lambdas) == 2
