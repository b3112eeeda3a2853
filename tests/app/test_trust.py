"""Code of a plug-in that is not trusted never runs, not even its import; the plug-ins are really installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy

from phasewire.app import AdapterLoadError, AdapterNotFoundError, AdapterResolver, ConfigError, DiscoveryService
from phasewire.app.trust import TrustPolicy
from phasewire.containers import Container

MAPPING = {"single_device": "acmenames"}
PATH = {"auto": "acme_adapters.names:PrefixedNamesAdapter"}


def resolve(mapping: dict[str, str], **discovery: object) -> object:
    """Resolve as a run does that is configured so, and build the adapter."""
    container = Container()
    container.config.from_dict({"discovery": discovery})
    resolver = container.resolver()
    return resolver.resolve(SingleDeviceStrategy(), custom_strategy_adapters=mapping)()


def is_imported(package: str) -> bool:
    return package in sys.modules


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"deny": ["acme-adapters"]}, "discovery.deny names it"),
        ({"deny": ["ACME_adapters"], "allow": ["acme.adapters"]}, "discovery.deny names it"),
        ({"allow": ["twin-alpha"]}, "discovery.allow does not name it"),
        ({"allow": []}, "discovery.allow does not name it"),
        ({"enabled": False}, "discovery.enabled is false"),
    ],
    ids=str,
)
def test_the_adapter_of_a_distribution_that_is_not_trusted_is_refused_and_not_imported(
    plugins: Path, setting: dict[str, object], reason: str
) -> None:
    with pytest.raises(AdapterLoadError, match=rf"'acmenames' of Acme\.Adapters .* may not be used: {reason}"):
        resolve(MAPPING, **setting)

    assert not is_imported("acme_adapters")


def test_the_adapter_of_a_distribution_that_is_trusted_is_used(plugins: Path) -> None:
    assert type(resolve(MAPPING, allow=["Acme.Adapters"])).__name__ == "PrefixedNamesAdapter"


@pytest.mark.parametrize(
    "path", ["acme_adapters.names:PrefixedNamesAdapter", "acme_adapters.names.PrefixedNamesAdapter"]
)
@pytest.mark.parametrize("allowed", [[], ["acme"], ["acme_adapters.other", "acme_adapters.name"]], ids=str)
def test_a_class_path_below_no_allowed_module_is_refused_and_not_imported(
    plugins: Path, path: str, allowed: list[str]
) -> None:
    with pytest.raises(AdapterLoadError, match=r"may not be used: discovery\.allow_paths does not name its module"):
        resolve({"auto": path}, allow_paths=allowed)

    assert not is_imported("acme_adapters")


@pytest.mark.parametrize("allowed", ["acme_adapters", "acme_adapters.names"])
def test_a_class_path_below_an_allowed_module_is_used(plugins: Path, allowed: str) -> None:
    assert type(resolve(PATH, allow_paths=[allowed])).__name__ == "PrefixedNamesAdapter"


@pytest.mark.parametrize("path", [PATH["auto"], "acme_adapters.names.PrefixedNamesAdapter"])
def test_a_class_path_into_a_denied_distribution_is_refused_and_not_imported(plugins: Path, path: str) -> None:
    with pytest.raises(
        AdapterLoadError, match=r"may not be used: discovery\.deny names acme\.ADAPTERS, which its module belongs to"
    ):
        resolve({"auto": path}, deny=["acme.ADAPTERS"], allow_paths=["acme_adapters"])

    assert not is_imported("acme_adapters")


def test_a_class_path_into_a_denied_distribution_that_lists_no_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "editable_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: editable-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[finetuning_scheduler.strategy_adapters]\nnamed = editable_plugin.a:A\n")
    monkeypatch.syspath_prepend(tmp_path)
    policy = TrustPolicy(deny=("editable-plugin",))

    assert policy.refusal_of_path("editable_plugin.b:B")
    assert policy.refusal_of_path("editable_plugins.b:B") is None


def test_a_class_path_outside_of_a_denied_distribution_is_used(plugins: Path) -> None:
    assert type(resolve(PATH, deny=["twin-alpha", "not-installed"])).__name__ == "PrefixedNamesAdapter"


def test_adapters_of_ours_are_always_trusted() -> None:
    policy = TrustPolicy(enabled=False, allow=(), allow_paths=())

    assert policy.refusal_of_path("phasewire.adapters.base:StrategyAdapter") is None
    assert policy.refusal_of_path("phasewire_lookalike:StrategyAdapter") is not None
    native = DiscoveryService(trust=TrustPolicy(enabled=False)).find("transformerbridge")
    assert native is not None
    assert native.refusal is None


def test_a_name_means_what_a_trusted_distribution_offers(plugins: Path, recwarn: pytest.WarningsRecorder) -> None:
    discovery = DiscoveryService(trust=TrustPolicy(deny=("twin-alpha",)))

    record = discovery.find("twin")

    assert record is not None
    assert record.distribution == "twin-beta"
    assert len(recwarn) == 0, "there is nothing to choose from"


def test_a_refused_name_can_be_listed_but_is_not_offered(plugins: Path) -> None:
    discovery = DiscoveryService(trust=TrustPolicy(enabled=False))

    assert "acmenames" not in discovery.names()
    assert {record.refusal for record in discovery.records() if not record.native} == {"discovery.enabled is false"}
    with pytest.raises(AdapterNotFoundError, match=r"Installed are fsdp, modelparallelstrategy, transformerbridge"):
        AdapterResolver(discovery).resolve(SingleDeviceStrategy(), custom_strategy_adapters={"auto": "acmename"})


@pytest.mark.parametrize(
    "setting", [{"deny": "acme"}, {"allow": [1]}, {"enabled": "no"}, {"allow_path": ["x"]}], ids=str
)
def test_a_malformed_setting_is_refused(setting: dict[str, object]) -> None:
    container = Container()
    container.config.from_dict({"discovery": setting})

    with pytest.raises(ConfigError, match=f"discovery.{next(iter(setting))}"):
        container.settings()
