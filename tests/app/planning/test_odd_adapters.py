"""Whatever an adapter gives as names: they are the model's own parameters, or refused with the name of the hook."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from phasewire.adapters import AdapterError, CheckpointError, Renaming, StrategyAdapter
from phasewire.app import CheckpointTranslator, FinetuningScheduler, FTSEarlyStopping, Schedule, ScheduleValidator
from phasewire.app.plan import Plan, plan_schedule
from phasewire.app.settings import SchedulerSettings
from stable_ids import stable_id
from tuning import TunedModule, fit, make_trainer

SCHEDULE: dict[int, dict[str, Any]] = {0: {"params": ["head.*"]}, 1: {"params": ["layers.2.*"]}}

#: What a hook gives for names, that no hook should.
ODD = {
    "None": lambda names: None,
    "a number": lambda names: 5,
    "text": lambda names: "head.weight",
    "numbers": lambda names: [1, *names],
    "None in a list": lambda names: [*names, None],
    "lists": lambda names: [[name] for name in names],
    "bytes": lambda names: [name.encode() for name in names],
    "a generator": iter,
    "a dict": dict.fromkeys,
    "a set": set,
    "a tuple": tuple,
}


def adapter(hook: str, give: Any) -> StrategyAdapter:
    return type("Odd", (StrategyAdapter,), {hook: lambda self, names, inspect_only=False: give(names)})()


def planned(with_adapter: StrategyAdapter) -> Plan:
    return plan_schedule(
        TunedModule(),
        Schedule.from_mapping(SCHEDULE),
        SchedulerSettings(),
        ScheduleValidator(),
        adapter=with_adapter,
    )


@pytest.mark.parametrize("hook", ["fts_optim_transform", "fts_optim_inspect", "logical_param_translation"])
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_list_of_names_is_refused_with_the_hook(hook, name) -> None:
    said = "fts_optim_inspect" if hook == "fts_optim_transform" else hook
    with pytest.raises(AdapterError, match=rf"Odd\.{said} (returned|gave) .*must return a list of names"):
        planned(adapter(hook, ODD[name]))


@pytest.mark.parametrize("hook", ["fts_optim_transform", "fts_optim_inspect", "logical_param_translation"])
def test_a_hook_that_fails_is_refused_with_the_adapter(hook) -> None:
    with pytest.raises(AdapterError, match="Odd failed with KeyError when it was asked for names"):
        planned(adapter(hook, lambda names: {}[names[0]]))


def test_a_parameter_that_is_named_twice_counts_once() -> None:
    doubled = planned(adapter("fts_optim_transform", lambda names: [*names, *names]))
    assert [phase.parameters for phase in doubled.phases] == [phase.parameters for phase in planned(None).phases]


def trained(tmp_path, with_adapter: type[StrategyAdapter], **cfg: object) -> FinetuningScheduler:
    scheduler = FinetuningScheduler(
        ft_schedule=SCHEDULE, custom_strategy_adapters={"single_device": with_adapter}, strategy_adapter_cfg=cfg
    )
    fit(make_trainer(tmp_path, scheduler, FTSEarlyStopping("val_loss"), max_epochs=1), TunedModule())
    return scheduler


@pytest.mark.parametrize("name", ODD)
def test_a_fit_refuses_what_is_no_list_of_names(name, tmp_path) -> None:
    with pytest.raises(AdapterError, match=r"Odd\.fts_optim_transform (returned|gave) .*must return a list of names"):
        trained(tmp_path, type(adapter("fts_optim_transform", ODD[name])))


def test_a_fit_trains_a_parameter_that_is_named_twice_once(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*duplicate parameters")
        scheduler = trained(tmp_path, type(adapter("fts_optim_transform", lambda names: [*names, *names])))
    assert len(scheduler.pl_module.trainer.optimizers[0].param_groups[0]["params"]) == 2


@pytest.mark.parametrize(
    "given",
    [
        *(None, 5, "own", [1], ["own"], {"own": {"layers": "blocks"}}, {"own": (str, str)}, {"own": None}),
        *({"own": Renaming}, {None: Renaming({})}, {1: Renaming({})}, {"": Renaming({})}, {("own",): Renaming({})}),
    ],
    ids=stable_id,
)
@pytest.mark.parametrize("hook", ["check", "namings"])
def test_what_are_no_namings_is_refused_with_how_one_is_given(given, hook) -> None:
    class Odd(StrategyAdapter):
        def checkpoint_renamings(self) -> Any:
            return given

    odd = Odd(checkpoint_names="own")
    odd.connect(SimpleNamespace(pl_module=TunedModule(), strategy_adapter=odd))
    with pytest.raises((AdapterError, CheckpointError), match=r"Odd\.checkpoint_renamings .*Renaming\({'layers'"):
        getattr(CheckpointTranslator(), hook)(odd)
