"""``container.adapters``: declared factories, joined by discovery when it is called."""

from __future__ import annotations

import copy

import pytest
from dependency_injector import providers

from phasewire.adapters import AdapterNotFoundError, StrategyAdapter
from phasewire.containers import Container


class MyAdapter(StrategyAdapter):
    """An adapter with one option."""

    def __init__(self, colour: str = "red") -> None:
        super().__init__()
        self.colour = colour


class FakeDiscovery:
    """Discovery from a dict."""

    def __init__(self, found):
        self.found = found
        self.asked = []

    def find(self, name):
        self.asked.append(name)
        return self.found.get(name.lower())

    def names(self):
        return tuple(self.found)


def test_the_native_adapters_are_declared():
    assert set(Container().adapters.providers) == {"fsdp", "modelparallelstrategy", "transformerbridge"}


@pytest.mark.parametrize("name", ["mine", "Mine", "MINE"])
def test_an_installed_adapter_is_built_by_its_name_in_any_case(name):
    container = Container()
    with container.discovery.override(FakeDiscovery({"mine": MyAdapter})):
        assert container.adapters(name, colour="blue").colour == "blue"
        assert container.adapters(name, "green").colour == "green"


def test_a_native_adapter_is_built_without_asking_discovery():
    container = Container()
    discovery = FakeDiscovery({"fsdp": MyAdapter})
    container.discovery.override(discovery)
    assert type(container.adapters("FSDP")).__name__ == "FSDPStrategyAdapter"
    assert discovery.asked == []


def test_nothing_that_discovery_gave_is_kept():
    container = Container()
    with container.discovery.override(FakeDiscovery({"mine": MyAdapter})):
        assert isinstance(container.adapters("mine"), MyAdapter)
    with pytest.raises(AdapterNotFoundError, match="No adapter is called 'mine'"):
        container.adapters("mine")
    assert "mine" not in container.adapters.providers


def test_an_unknown_name_is_refused_with_the_nearest_and_all_there_are():
    container = Container()
    container.discovery.override(FakeDiscovery({"mine": MyAdapter}))
    with pytest.raises(
        AdapterNotFoundError,
        match=r"'transformbridge'\. Did you mean 'transformerbridge'\?.*fsdp, mine, modelparallelstrategy, transformer",
    ):
        container.adapters("transformbridge")


@pytest.mark.parametrize(("arguments", "given"), [((), "none is given"), ((3,), "3 is given")])
def test_an_adapter_that_is_not_asked_for_by_name_is_refused(arguments, given):
    with pytest.raises(AdapterNotFoundError, match=f"asked for by its name, and {given}"):
        Container().adapters(*arguments)


def test_the_aggregate_and_each_of_its_factories_can_be_overridden():
    container = Container()
    with container.adapters.override(providers.Factory(MyAdapter, colour="blue")):
        assert container.adapters().colour == "blue"
    with container.adapters.fsdp.override(providers.Factory(MyAdapter)):
        assert isinstance(container.adapters("fsdp"), MyAdapter)
    assert not container.adapters.overridden


def test_a_copy_asks_its_own_discovery():
    one, other = Container(), Container()
    one.discovery.override(FakeDiscovery({"mine": MyAdapter}))
    assert isinstance(one.adapters("mine"), MyAdapter)
    with pytest.raises(AdapterNotFoundError):
        other.adapters("mine")


def test_a_copy_keeps_what_overrides_it():
    container = Container()
    container.adapters.override(providers.Factory(MyAdapter))
    assert isinstance(copy.deepcopy(container.adapters)(), MyAdapter)


def test_discovery_is_among_the_related_providers():
    container = Container()
    assert container.discovery in list(container.adapters.related)
