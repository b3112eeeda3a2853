"""A schedule names optimizers and lr schedulers, and runs nothing else, wherever in it something is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from phasewire.adapters import ScheduleError
from phasewire.app import FinetuningScheduler, FTSEarlyStopping, Schedule, ScheduleValidator
from phasewire.app.plan import plan_schedule
from phasewire.app.schedule.files import load_schedule
from phasewire.app.settings import SchedulerSettings
from tuning import TunedModule, fit, make_trainer

NAMES = dict(TunedModule().named_parameters())


class TakesAClass(torch.optim.SGD):
    """Makes an object of the class that it is given, as ``ZeroRedundancyOptimizer`` does."""

    def __init__(self, params: Any, made: type[Any], lr: float = 0.1, **options: Any) -> None:
        super().__init__(params, lr)
        self.inner = made(params, **options)


@pytest.fixture
def schedules(tmp_path) -> dict[str, dict[str, Any]]:
    """What each schedule would do is to make a file."""
    command = {"class_path": "os.system", "init_args": {"command": f"touch {tmp_path / 'run'}"}}
    popen = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "run")]}}
    logger = {"class_path": "logging.FileHandler", "init_args": {"filename": str(tmp_path / "run")}}
    step = "torch.optim.lr_scheduler.StepLR"
    takes = f"{__name__}.TakesAClass"
    inner = {"class_path": takes, "init_args": {"params": [], "made": "torch.optim.SGD", "lr": command}}
    return {
        "a function": optimizer("torch.optim.SGD", lr=command),
        "a class": optimizer("torch.optim.SGD", momentum=popen),
        "in a list": optimizer("torch.optim.Adam", betas=[0.9, command]),
        "in a mapping": optimizer("torch.optim.SGD", lr={"a": [{"b": logger}]}),
        "in an optimizer": optimizer("torch.optim.SGD", lr=inner),
        "where a class is taken": optimizer(takes, made="logging.FileHandler", filename=str(tmp_path / "run")),
        "of an lr scheduler": {
            "new_lr_scheduler": {"lr_scheduler_init": {"class_path": step, "init_args": {"step_size": command}}}
        },
    }


CASES = ["a function", "a class", "in a list", "in a mapping", "in an optimizer", "where a class is taken"]
CASES.append("of an lr scheduler")


def optimizer(class_path: str, **init_args: object) -> dict[str, Any]:
    return {"new_optimizer": {"optimizer_init": {"class_path": class_path, "init_args": init_args}}}


def check(file: Path) -> None:
    ScheduleValidator().validate(load_schedule(file), NAMES)


def plan(file: Path) -> None:
    plan_schedule(TunedModule(), load_schedule(file), SchedulerSettings(), ScheduleValidator())


def train(file: Path) -> None:
    callbacks = FinetuningScheduler(ft_schedule=file), FTSEarlyStopping("val_loss")
    fit(make_trainer(file.parent, *callbacks, max_epochs=1), TunedModule())


@pytest.mark.parametrize("use", [check, plan, train])
@pytest.mark.parametrize("case", CASES)
def test_no_other_object_is_made_for_a_schedule(case, use, schedules, tmp_path) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text(yaml.safe_dump({0: {"params": ["head.*"]}, 1: {"params": ["layers.*"], **schedules[case]}}))
    with pytest.raises(ScheduleError, match=r"new_.*init_args.*optimizers and lr schedulers"):
        use(file)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("case", [case for case in CASES if case != "of an lr scheduler"])
def test_nor_for_the_optimizer_of_a_setting(case, schedules, tmp_path) -> None:
    settings = SchedulerSettings(reinit_optim_cfg=schedules[case]["new_optimizer"])
    schedule = Schedule.from_mapping({0: {"params": ["head.*"]}, 1: {"params": ["layers.*"]}})
    with pytest.raises(ScheduleError, match=r"reinit_optim_cfg.*optimizers and lr schedulers"):
        plan_schedule(TunedModule(), schedule, settings, ScheduleValidator())
    assert not (tmp_path / "run").exists()
