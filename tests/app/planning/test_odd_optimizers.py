"""Whatever optimizer is named: a plan says what it would keep, or that nobody knows, or there is one error of ours."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from phasewire.adapters import ConfigError, PhasewireError
from phasewire.app import FinetuningScheduler, FTSEarlyStopping, Schedule, ScheduleValidator
from phasewire.app.plan import Plan, plan_schedule
from phasewire.app.schedule.model import ClassInit
from phasewire.app.settings import SchedulerSettings
from stable_ids import stable_id
from tuning import TunedModule, fit, make_trainer

SCHEDULE: dict[int, dict[str, Any]] = {0: {"params": ["head.*"]}, 1: {"params": ["layers.2.*"]}}


def odd(change: Callable[[Any], object] | None = None, step: Callable[[Any], object] | None = None) -> type:
    """Make an optimizer that is changed when it is made, or does something else in a step."""

    class Odd(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr)
            if change is not None:
                change(self)

    if step is not None:
        Odd.step = step
    return Odd


def with_rate(rate: object) -> type:
    return odd(lambda made: made.param_groups[0].update(lr=rate))


def keeps(state: Callable[[torch.Tensor], object]) -> type:
    def step(self: Any) -> None:
        parameter = self.param_groups[0]["params"][0]
        self.state[parameter] = state(parameter)

    return odd(step=step)


def nested(tensor: torch.Tensor) -> dict[str, Any]:
    inner: dict[str, Any] = {"tensor": tensor}
    inner["again"] = inner
    return inner


class NotMade(torch.optim.SGD):
    def __new__(cls, *_: object, **__: object) -> Any:
        return 5


class NeverBegun(torch.optim.SGD):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        pass


#: What makes each of them unfit for a schedule.
MALFORMED = {
    "no groups": odd(lambda made: made.param_groups.clear()),
    "groups that are no list": odd(lambda made: setattr(made, "param_groups", 5)),
    "groups that are text": odd(lambda made: setattr(made, "param_groups", ["x"])),
    "a group without parameters": odd(lambda made: setattr(made, "param_groups", [{"lr": 0.1}])),
    "no defaults": odd(lambda made: delattr(made, "defaults")),
    "defaults that are none": odd(lambda made: setattr(made, "defaults", None)),
    "None as rate": with_rate(None),
    "text as rate": with_rate("fast"),
    "two rates": with_rate(torch.tensor([0.1, 0.2])),
    "a rate without value": with_rate(torch.empty((), device="meta")),
    "never begun": NeverBegun,
}
NOT_MADE = {
    "another object": NotMade,
    "exits": odd(lambda _: sys.exit(3)),
    "raises": odd(lambda made: made.nothing),
}
NOT_MEASURED = {
    "takes a closure": odd(step=lambda self, closure: closure()),
    "removes its state": odd(step=lambda self: delattr(self, "state")),
    "has no state": odd(step=lambda self: setattr(self, "state", None)),
    "reads a value": odd(step=lambda self: self.param_groups[0]["params"][0].sum().item()),
    "exits in a step": odd(step=lambda self: sys.exit(3)),
    "keeps what holds itself": keeps(nested),
}
MEASURED = {
    "keeps text": keeps(lambda tensor: "text"),
    "keeps more than there is": keeps(lambda tensor: {"all": torch.empty(2**40, 2**20, device="meta")}),
}
for name, kind in {**MALFORMED, **NOT_MADE, **NOT_MEASURED, **MEASURED}.items():
    globals()[f"odd_{name.replace(' ', '_')}"] = kind  # where a class path finds it


def path(name: str) -> str:
    return f"{__name__}:odd_{name.replace(' ', '_')}"


def planned(phase: dict[str, Any] | None = None, module: TunedModule | None = None, **options: Any) -> Plan:
    settings = SchedulerSettings.checked(**options.pop("settings", {}))
    schedule = Schedule.from_mapping({**SCHEDULE, 1: {**SCHEDULE[1], **(phase or {})}})
    return plan_schedule(module or TunedModule(), schedule, settings, ScheduleValidator(), **options)


def init(class_path: str, **init_args: object) -> dict[str, Any]:
    return {"optimizer_init": {"class_path": class_path, "init_args": init_args}}


def of_phase(name: str) -> Plan:
    return planned({"new_optimizer": init(path(name))})


def of_setting(name: str) -> Plan:
    return planned(settings={"reinit_optim_cfg": init(path(name))})


def of_phase_zero(name: str) -> Plan:
    return planned(optimizer=ClassInit(path(name)))


WAYS = [of_phase, of_setting, of_phase_zero]


@pytest.mark.parametrize("plan", WAYS)
@pytest.mark.parametrize("name", [*MALFORMED, *NOT_MADE])
def test_one_that_cannot_be_used_is_one_error(name, plan) -> None:
    with pytest.raises(PhasewireError, match=r"odd_.*(cannot be used|could not be constructed)") as caught:
        plan(name)
    assert caught.value.where


@pytest.mark.parametrize("plan", WAYS)
@pytest.mark.parametrize("name", NOT_MEASURED)
def test_what_one_would_keep_is_said_to_be_unknown(name, plan) -> None:
    made = plan(name)
    assert made.phases[1].optimizer_bytes is None
    assert any("cannot be measured" in warning for warning in made.warnings)


@pytest.mark.parametrize("plan", WAYS)
@pytest.mark.parametrize("name", MEASURED)
def test_whatever_one_keeps_is_counted(name, plan) -> None:
    made = plan(name)
    assert made.phases[1].optimizer_bytes is not None
    assert not any("measured" in warning for warning in made.warnings)


@pytest.mark.parametrize("name", [*MALFORMED, "exits", "raises"])
def test_of_one_that_the_module_configures_nothing_is_known(name) -> None:
    made = planned(module=TunedModule(optimizer={**MALFORMED, **NOT_MADE}[name]))
    assert [phase.optimizer_bytes for phase in made.phases] == [None, None]
    assert any("not known" in warning for warning in made.warnings)


# Lightning refuses what has no defaults.
@pytest.mark.parametrize("name", [name for name in MALFORMED if name not in ("never begun", "no defaults")])
def test_one_that_the_module_configures_is_refused_in_a_fit(name, tmp_path) -> None:
    scheduler = FinetuningScheduler(ft_schedule=SCHEDULE)
    trainer = make_trainer(tmp_path, scheduler, FTSEarlyStopping("val_loss"), max_epochs=1)
    with pytest.raises(ConfigError, match=r"configure_optimizers: Odd has .*Return an optimizer that has them"):
        fit(trainer, TunedModule(optimizer=MALFORMED[name]))


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
CIRCLE_OF_DICTS: dict[str, Any] = {}
CIRCLE_OF_DICTS["optimizer"] = CIRCLE_OF_DICTS


@pytest.mark.parametrize(
    "configured",
    [5, "SGD", [], [[[]]], None, {}, {"optimizer": None}, {"optimizer": "x"}, {1}, CIRCLE, CIRCLE_OF_DICTS],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_optimizer_is_none(configured) -> None:
    class Configures(TunedModule):
        def configure_optimizers(self) -> Any:
            return configured

    made = planned(module=Configures())
    assert made.optimizer is None
    assert any("configures no optimizer" in warning for warning in made.warnings)


def test_several_optimizers_are_not_planned_with_as_if_a_fit_took_them() -> None:
    class Configures(TunedModule):
        def configure_optimizers(self) -> Any:
            halves = (self.layers.parameters(), self.head.parameters())
            return [torch.optim.SGD(half, 0.1) for half in halves], []

    made = planned(module=Configures())
    assert made.optimizer is None
    assert any("configures several optimizers" in warning for warning in made.warnings)


@pytest.mark.parametrize(
    "init_args",
    [
        *({"lr": rate} for rate in ("x", math.nan, math.inf, -1, [1, 2], None, 10**400, {"a": 1}, object(), True)),
        *({"momentum": "x"}, {"momentum": -1}, {"params": [1]}, {"no": 1}, {1: 2}, [], 5, "lr"),
    ],
    ids=stable_id,
)
@pytest.mark.parametrize("key", ["phase", "setting"])
def test_whatever_the_arguments_are_there_is_a_plan_or_one_error(key, init_args) -> None:
    given = {"optimizer_init": {"class_path": "torch.optim.SGD", "init_args": init_args}}
    try:
        made = planned({"new_optimizer": given}) if key == "phase" else planned(settings={"reinit_optim_cfg": given})
    except PhasewireError:
        return
    assert made.phases[1].begins_with == ("torch.optim.SGD",)
