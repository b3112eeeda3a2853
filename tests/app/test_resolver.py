"""Which adapter drives which strategy, with and without a mapping."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
)

from phasewire.adapters import (
    FSDPStrategyAdapter,
    ModelParallelStrategyAdapter,
    StrategyAdapter,
    TransformerBridgeStrategyAdapter,
)
from phasewire.app import (
    AdapterContractError,
    AdapterError,
    AdapterLoadError,
    AdapterNotFoundError,
    AdapterRecord,
    AdapterResolver,
)


class First(StrategyAdapter):
    """Stands for what is mapped to the key that should be chosen."""


class Second(StrategyAdapter):
    """Stands for what is mapped to another key."""


class OurDDP(DDPStrategy):
    """Registered nowhere."""


class OurSingleDevice(SingleDeviceStrategy):
    """Registered nowhere."""


class NamedDDP(DDPStrategy):
    strategy_name = "Named_DDP"


def single_device() -> Strategy:
    return SingleDeviceStrategy("cpu")


def untested_strategy() -> Strategy:
    """DeepSpeed's class, not initialised: the package is not installed, and only the class matters."""
    return object.__new__(DeepSpeedStrategy)


def chosen(strategy: Strategy, **options) -> type[StrategyAdapter]:
    return type(AdapterResolver().resolve(strategy, **options)())


def mapped(strategy: Strategy, mapping, flag: str | None = None) -> type[StrategyAdapter]:
    return chosen(strategy, flag=flag, custom_strategy_adapters=mapping)


@contextmanager
def registered(name: str, strategy_class: type[Strategy]) -> Iterator[None]:
    StrategyRegistry.register(name, strategy_class)
    try:
        yield
    finally:
        StrategyRegistry.remove(name)


# -- without a mapping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", [None, {}])
@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (single_device(), StrategyAdapter),
        (OurSingleDevice("cpu"), StrategyAdapter),
        (DDPStrategy(), StrategyAdapter),
        (OurDDP(), StrategyAdapter),
        (FSDPStrategy(), FSDPStrategyAdapter),
        (type("OurFSDP", (FSDPStrategy,), {})(), FSDPStrategyAdapter),
        (ModelParallelStrategy(), ModelParallelStrategyAdapter),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_without_a_mapping_the_class_of_the_strategy_decides(strategy, expected, mapping) -> None:
    assert chosen(strategy, custom_strategy_adapters=mapping) is expected


def test_without_a_mapping_no_plug_in_is_imported_and_none_is_warned_of(plugins: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen(FSDPStrategy()) is FSDPStrategyAdapter
    assert not {path.stem for path in plugins.glob("*.py")} & set(sys.modules)


def test_an_untested_strategy_is_refused_with_the_supported_ones() -> None:
    with pytest.raises(AdapterError, match=r"DeepSpeedStrategy is not .* SingleDeviceStrategy, DDPStrategy, FSDP"):
        chosen(untested_strategy())


def test_an_untested_strategy_gets_the_base_adapter_with_a_warning_when_that_is_allowed() -> None:
    with pytest.warns(UserWarning, match="DeepSpeedStrategy, which is untested"):
        assert chosen(untested_strategy(), allow_untested=True) is StrategyAdapter


def test_an_untested_strategy_may_have_an_adapter_mapped() -> None:
    assert mapped(untested_strategy(), {"deepspeed": First}) is First


# -- the order of the look-up names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "flag", "mapping"),
    [
        (DDPStrategy(), "ddp_find_unused_parameters_true", ["ddp_find_unused_parameters_true", "ddp", "auto"]),
        (DDPStrategy(), "ddp_find_unused_parameters_true", ["ddp", "auto"]),
        (DDPStrategy(), "ddp", ["ddp", "auto"]),
        (DDPStrategy(), None, ["ddp", "ddp_spawn"]),
        (OurDDP(), None, ["ddp", "auto"]),
        (NamedDDP(), None, ["named_ddp", "ddp", "auto"]),
        (NamedDDP(), None, ["ddp", "auto"]),
        (single_device(), None, ["single_device", "auto"]),
        (single_device(), "auto", ["single_device", "auto"]),
        (OurSingleDevice("cpu"), None, ["single_device", "auto"]),
        (single_device(), None, ["auto", "ddp"]),
        (untested_strategy(), "deepspeed_stage_2", ["deepspeed_stage_2", "deepspeed"]),
        (untested_strategy(), None, ["deepspeed", "ddp"]),
    ],
)
def test_the_most_specific_name_is_chosen(strategy, flag, mapping) -> None:
    expected, *others = mapping
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mapped(strategy, {**dict.fromkeys(others, Second), expected: First}, flag) is First


@pytest.mark.parametrize("key", ["fsdp", "fsdp_cpu_offload", "auto"])
def test_a_sharded_strategy_is_looked_up_the_same_way(key: str) -> None:
    assert mapped(FSDPStrategy(), {key: "fsdp"}, "fsdp_cpu_offload") is FSDPStrategyAdapter


@pytest.mark.parametrize("kind", [ModelParallelStrategy, type("OurModelParallel", (ModelParallelStrategy,), {})])
def test_model_parallel_has_a_name_though_lightning_registers_none(kind) -> None:
    assert mapped(kind(), {"modelparallelstrategy": "modelparallelstrategy"}) is ModelParallelStrategyAdapter


def test_a_strategy_that_a_third_party_registered_goes_by_its_name() -> None:
    with registered("our_ddp", OurDDP):
        assert mapped(OurDDP(), {"our_ddp": First, "ddp": Second}) is First


def test_flags_compare_in_any_case() -> None:
    assert mapped(DDPStrategy(), {"DDP": First}) is First


def test_a_mapping_without_the_running_strategy_is_refused_with_what_runs_and_what_is_mapped() -> None:
    with pytest.raises(AdapterNotFoundError, match=r"DDPStrategy.*'ddp_spawn' or 'ddp'.*'single_device', 'fsdp'"):
        mapped(DDPStrategy(), {"single_device": First, "fsdp": First}, "ddp_spawn")


def test_the_refusal_names_no_flag_twice() -> None:
    with pytest.raises(AdapterNotFoundError, match=r"goes by 'ddp'; mapped are 'dpp'\. Did you mean 'ddp'\?"):
        mapped(DDPStrategy(), {"dpp": First}, "ddp")


def test_a_strategy_without_any_name_needs_the_catch_all() -> None:
    class Nameless(Strategy):
        """Derives from nothing that is registered."""

    strategy = object.__new__(type("Concrete", (Nameless,), dict.fromkeys(Nameless.__abstractmethods__)))
    assert mapped(strategy, {"auto": First}) is First
    with pytest.raises(AdapterNotFoundError, match="no registered name"):
        mapped(strategy, {"ddp": First})


def test_a_key_that_no_strategy_has_is_warned_of_when_another_one_fits() -> None:
    with pytest.warns(UserWarning, match=r"'single_devcie', so nothing uses it\. Did you mean 'single_device'"):
        assert mapped(single_device(), {"single_devcie": First, "auto": Second}) is Second


def test_two_spellings_of_one_flag_are_refused() -> None:
    with pytest.raises(AdapterError, match="'ddp' and 'DDP' are the same"):
        mapped(DDPStrategy(), {"ddp": First, "DDP": Second})


@pytest.mark.parametrize("key", [None, 1, True])
def test_a_key_that_is_no_text_is_refused(key) -> None:
    with pytest.raises(AdapterError, match="is no strategy flag"):
        mapped(DDPStrategy(), {key: First})


# -- references ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("acmenames", "PrefixedNamesAdapter"),
        ("AcmeNames", "PrefixedNamesAdapter"),
        ("acmenames@ACME-adapters", "PrefixedNamesAdapter"),
        ("acme_adapters.names:PrefixedNamesAdapter", "PrefixedNamesAdapter"),
        ("acme_adapters.names.PrefixedNamesAdapter", "PrefixedNamesAdapter"),
        ("dotted", "DottedAdapter"),
        ("five_line:FiveLineAdapter", "FiveLineAdapter"),
        ("five_line.FiveLineAdapter", "FiveLineAdapter"),
        ("transformerbridge@interpretune-like", "OtherBridgeAdapter"),
    ],
)
def test_an_adapter_is_named_by_its_name_its_pinned_name_or_its_path(reference, expected, plugins: Path) -> None:
    assert mapped(single_device(), {"single_device": reference}).__name__ == expected


def test_a_native_adapter_is_named_like_any_other() -> None:
    assert mapped(single_device(), {"auto": "TransformerBridge"}) is TransformerBridgeStrategyAdapter


def test_an_adapter_can_be_given_as_a_class() -> None:
    class Local(StrategyAdapter):
        """Cannot be imported by a path."""

    assert mapped(single_device(), {"auto": Local}) is Local


def test_the_options_reach_the_adapter(plugins: Path) -> None:
    build = AdapterResolver().resolve(single_device(), custom_strategy_adapters={"auto": "acmenames"})
    assert build(prefix="x").fts_optim_transform(["x.weight"]) == ["weight"]


def test_only_the_adapter_of_the_running_strategy_is_imported(plugins: Path, tmp_path: Path) -> None:
    mapping = {"single_device": "fiveline", "ddp": "slow", "fsdp": "raises", "auto": "exits"}
    assert mapped(single_device(), mapping).__name__ == "FiveLineAdapter"
    assert {path.stem for path in plugins.glob("*.py")} & set(sys.modules) == {"five_line"}
    assert not (tmp_path / "slow_start.log").exists()


def test_a_broken_plug_in_is_imported_when_it_is_chosen(plugins: Path) -> None:
    with pytest.raises(AdapterLoadError, match=r"custom_strategy_adapters\['auto'\].*broken-imports 0\.9") as caught:
        mapped(single_device(), {"auto": "raises"})
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_adapter_that_is_not_installed_is_refused_with_the_nearest_and_the_installed_ones(plugins: Path) -> None:
    with pytest.raises(AdapterNotFoundError, match=r"'fivelines'\. Did you mean 'fiveline'\? Installed are") as caught:
        mapped(single_device(), {"auto": "fivelines"})
    for name in ("acmenames", "fsdp", "transformerbridge", "layerwise", "twin"):
        assert name in str(caught.value)
    assert "custom_strategy_adapters['auto']" in str(caught.value)


def test_a_wrong_pin_is_refused_with_the_pinned_names(plugins: Path) -> None:
    with pytest.raises(AdapterNotFoundError, match="twin@twin-beta"):
        mapped(single_device(), {"auto": "twin@twin-beat"})


@pytest.mark.parametrize("reference", ["no_such_module:Adapter", "no_such_module.Adapter"])
def test_a_path_that_does_not_import_is_refused_with_its_cause(reference: str) -> None:
    with pytest.raises(AdapterLoadError, match="There is no module 'no_such_module'") as caught:
        mapped(single_device(), {"auto": reference})
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("reference", ["five_line:FiveLineAdaptor", "five_line.FiveLineAdaptor"])
def test_a_path_with_a_misspelt_class_is_refused_with_the_nearest(reference: str, plugins: Path) -> None:
    with pytest.raises(AdapterLoadError, match=r"Did you mean 'FiveLineAdapter'\?"):
        mapped(single_device(), {"auto": reference})


@pytest.mark.parametrize(
    "reference", [int, "builtins:int", "builtins.print", "plain", "function", "nextcontract", "no_adapter:PlainClass"]
)
def test_what_keeps_no_contract_is_refused(reference, plugins: Path) -> None:
    with pytest.raises(AdapterContractError, match=r"^custom_strategy_adapters\['single_device'\]"):
        mapped(single_device(), {"single_device": reference})


@pytest.mark.parametrize("reference", [None, 3, ["acmenames"], First()])
def test_a_reference_of_another_type_is_refused(reference) -> None:
    with pytest.raises(AdapterError, match="is no reference to an adapter"):
        mapped(single_device(), {"single_device": reference})


# -- sharded strategies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "native"),
    [(FSDPStrategy(), FSDPStrategyAdapter), (ModelParallelStrategy(), ModelParallelStrategyAdapter)],
)
def test_a_sharded_strategy_takes_only_subclasses_of_its_native_adapter(strategy, native) -> None:
    ours = type("Ours", (native,), {})
    assert mapped(strategy, {"auto": ours}) is ours
    with pytest.raises(AdapterContractError, match=f"shards parameters.*{native.__name__}"):
        mapped(strategy, {"auto": First})


def test_the_native_adapter_of_another_sharded_strategy_is_refused() -> None:
    with pytest.raises(AdapterContractError, match="FSDPStrategyAdapter cannot drive ModelParallelStrategy"):
        mapped(ModelParallelStrategy(), {"auto": "fsdp"})


# -- discovery can be replaced -------------------------------------------------------------------------------------


class FakeDiscovery:
    """Knows one adapter."""

    def records(self):
        return (AdapterRecord.of_class(First, name="mine"),)

    def names(self):
        return ("mine",)

    def find(self, name):
        return self.records()[0] if name.lower() == "mine" else None


def test_names_are_looked_up_in_the_discovery_that_was_given() -> None:
    resolver = AdapterResolver(FakeDiscovery())
    assert type(resolver.resolve(single_device(), custom_strategy_adapters={"auto": "MINE"})()) is First
    with pytest.raises(AdapterNotFoundError, match="Installed are mine"):
        resolver.resolve(single_device(), custom_strategy_adapters={"auto": "fsdp"})
