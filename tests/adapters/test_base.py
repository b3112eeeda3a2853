"""What an adapter gets from its base class without a Trainer."""

from __future__ import annotations

from functools import partial

import pytest
from torch import nn

from phasewire.adapters import API_VERSION, AdapterError, StrategyAdapter


class Configured(StrategyAdapter):
    def __init__(self, temperature: float = 1.0, *, warm: bool = False, **cfg: object) -> None:
        super().__init__(**cfg)


class Forgetful(StrategyAdapter):
    def __init__(self) -> None:
        """Does not call the constructor of the base class."""


def frozen_module() -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module


def trainable(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


# -- options -------------------------------------------------------------------------------------------------------


def test_the_base_adapter_takes_no_options() -> None:
    with pytest.raises(AdapterError, match=r"StrategyAdapter has no option named 'warm'\. It takes no options"):
        StrategyAdapter(warm=True)


def test_an_unknown_option_is_refused_with_the_options_there_are_and_the_nearest() -> None:
    with pytest.raises(
        AdapterError, match=r"strategy_adapter_cfg: .*'temprature'.*temperature, warm.*Did you mean 'temperature'"
    ):
        Configured(temprature=2.0)


def test_all_unknown_options_are_named_together() -> None:
    with pytest.raises(AdapterError, match="'cold', 'hot'"):
        Configured(hot=1, cold=2)


def test_the_contract_version_is_that_of_the_release() -> None:
    assert StrategyAdapter.api_version == API_VERSION


# -- before a Trainer runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", ["fts_handle", "pl_module", "trainer", "pls_handle", "using_sharded_optimizer"])
@pytest.mark.parametrize("adapter_class", [StrategyAdapter, Forgetful])
def test_what_belongs_to_a_run_is_refused_before_the_adapter_is_connected(adapter_class, attribute: str) -> None:
    with pytest.raises(AdapterError, match=f"{adapter_class.__name__} was used before it was connected"):
        getattr(adapter_class(), attribute)


@pytest.mark.parametrize(
    "use",
    [
        lambda adapter: adapter.get_named_params_for_schedule_validation(),
        lambda adapter: adapter.validate_ft_sched(),
        lambda adapter: adapter.on_after_init_fts(),
        lambda adapter: adapter.phase0_optimizer_override(),
        lambda adapter: adapter.lightning_module_state_dict(),
        lambda adapter: adapter.load_model_state_dict({}),
    ],
)
def test_hooks_that_need_a_run_are_refused_before_the_adapter_is_connected(use) -> None:
    with pytest.raises(AdapterError, match="before it was connected"):
        use(StrategyAdapter())


def test_hooks_without_a_default_action_do_nothing() -> None:
    adapter = StrategyAdapter()
    adapter.on_before_init_fts()
    adapter.on_before_fts_fit_start()
    adapter.on_before_restore_optimizers_and_lrs()
    adapter.on_phase_thawed(0)


# -- names ---------------------------------------------------------------------------------------------------------


def test_names_and_checkpoints_pass_unchanged() -> None:
    adapter, names, checkpoint = StrategyAdapter(), ["b.weight", "a.weight"], {"state_dict": {}}
    assert adapter.fts_optim_transform(names) == names
    assert adapter.fts_optim_inspect(names) == names
    assert adapter.logical_param_translation(names) == names
    assert adapter.before_restore_model(checkpoint) is checkpoint


def test_inspecting_is_the_transform_without_side_effects() -> None:
    class Counting(StrategyAdapter):
        transforms = 0

        def fts_optim_transform(self, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
            self.transforms += not inspect_only
            return [name.upper() for name in orig_pl]

    adapter = Counting()
    assert adapter.fts_optim_inspect(["a"]) == adapter.fts_optim_transform(["a"]) == ["A"]
    assert adapter.transforms == 1


# -- thawing -------------------------------------------------------------------------------------------------------


def test_exactly_the_named_parameters_are_thawed() -> None:
    module = frozen_module()
    StrategyAdapter.base_ft_phase(module, ["0.bias", "2.weight"])
    assert trainable(module) == ["0.bias", "2.weight"]


def test_both_lists_come_in_the_order_of_registration() -> None:
    module = frozen_module()
    StrategyAdapter.base_ft_phase(module, ["1.weight"])
    newly_thawed, all_thawed = StrategyAdapter.base_ft_phase(module, ["2.bias", "0.weight"])
    assert newly_thawed == ["0.weight", "2.bias"]
    assert all_thawed == ["0.weight", "1.weight", "2.bias"]


def test_what_is_thawed_already_is_not_new() -> None:
    module = frozen_module()
    StrategyAdapter.base_ft_phase(module, ["0.bias"])
    assert StrategyAdapter.base_ft_phase(module, ["0.bias", "1.bias"]) == (["1.bias"], ["0.bias", "1.bias"])


def test_thawing_nothing_changes_nothing() -> None:
    module = frozen_module()
    assert StrategyAdapter.base_ft_phase(module, []) == ([], [])
    assert trainable(module) == []


def test_a_name_that_only_begins_alike_stays_frozen() -> None:
    module = nn.ModuleDict({"layer1": nn.Linear(1, 1), "layer10": nn.Linear(1, 1)}).requires_grad_(False)
    StrategyAdapter.base_ft_phase(module, ["layer1.weight"])
    assert trainable(module) == ["layer1.weight"]


def test_a_translation_changes_the_log_and_not_the_result(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[list[str]] = []

    def translated(names: list[str]) -> list[str]:
        seen.append(names)
        return [name.upper() for name in names]

    module = frozen_module()
    thaw = partial(StrategyAdapter.base_ft_phase, translation_func=translated)
    with caplog.at_level("DEBUG", logger="lightning.pytorch.phasewire"):
        assert thaw(module, ["0.bias"], init_thaw=True) == (["0.bias"], ["0.bias"])
        thaw(module, ["2.bias"])
    assert seen == [["0.bias"], ["2.bias"]]


@pytest.mark.parametrize("adapter_class", [StrategyAdapter, Forgetful])
def test_phases_are_thawed_by_the_base_executor_unless_it_is_replaced(adapter_class) -> None:
    module = frozen_module()
    assert adapter_class().exec_ft_phase(module, thaw_pl=["0.bias"]) == (["0.bias"], ["0.bias"])
