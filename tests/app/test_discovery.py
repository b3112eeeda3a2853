"""Discovery reads metadata of packages that are really installed, and imports only what is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy

from phasewire.adapters import StrategyAdapter
from phasewire.app import (
    AdapterContractError,
    AdapterError,
    AdapterLoadError,
    AdapterRecord,
    AdapterResolver,
    DiscoveryService,
)
from plugin_packages import on_the_path

GROUP = "finetuning_scheduler.strategy_adapters"
NATIVE = {"fsdp", "modelparallelstrategy", "transformerbridge"}


def distribution(site: Path, name: str, version: str, entry_points: str | bytes, group: str = GROUP) -> None:
    """Write the metadata of a distribution as an installer would."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    text = entry_points if isinstance(entry_points, bytes) else f"[{group}]\n{entry_points}\n".encode()
    (folder / "entry_points.txt").write_bytes(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on ``sys.path``."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def found(name: str) -> AdapterRecord:
    record = DiscoveryService().find(name)
    assert record is not None
    return record


def imported(site: Path) -> set[str]:
    """The modules of a folder that are imported."""
    names = {path.stem for path in site.glob("*.py")} | {"acme_adapters", "dotted_value"}
    return names & set(sys.modules)


# -- what is found -------------------------------------------------------------------------------------------------


def test_a_record_says_which_distribution_offers_the_adapter(plugins: Path) -> None:
    assert found("acmenames") == AdapterRecord(
        name="acmenames",
        value="acme_adapters.names:PrefixedNamesAdapter",
        distribution="Acme.Adapters",
        version="1.2.0",
        native=False,
    )


def test_the_native_adapters_are_there_without_any_plug_in() -> None:
    discovery = DiscoveryService(group="phasewire.tests.no_such_group")
    assert set(discovery.names()) == NATIVE
    assert all(record.native and record.distribution == "phasewire" for record in discovery.records())


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_a_native_adapter_loads(name: str) -> None:
    record = DiscoveryService(group="phasewire.tests.no_such_group").find(name)
    assert record is not None
    assert issubclass(record.load(), StrategyAdapter)


def test_listing_gives_every_plug_in_and_imports_none(plugins: Path) -> None:
    records = DiscoveryService().records()
    assert [record.name for record in records if record.distribution == "Acme.Adapters"] == ["acmenames"]
    assert [record.name for record in records if record.distribution == "broken-imports"] == [
        "exits",
        "missing",
        "misspelt",
        "peer",
        "raises",
    ]
    assert imported(plugins) == set()


def test_names_are_lowercased_sorted_and_given_once(plugins: Path) -> None:
    names = DiscoveryService().names()
    assert list(names) == sorted(set(names))
    assert {"acmenames", "twin"} <= set(names)


def test_only_the_plug_in_that_is_loaded_is_imported(plugins: Path, tmp_path: Path) -> None:
    record = found("fiveline")
    assert imported(plugins) == set()
    assert record.load().__name__ == "FiveLineAdapter"
    assert imported(plugins) == {"five_line"}
    assert not (tmp_path / "slow_start.log").exists()


def test_a_slow_plug_in_is_imported_when_it_is_the_one_that_is_used(plugins: Path, tmp_path: Path) -> None:
    record = found("slow")
    record()
    record()
    assert (tmp_path / "slow_start.log").read_text().count("\n") == 1


def test_a_fresh_interpreter_that_lists_all_imports_none(plugin_site: Path, tmp_path: Path) -> None:
    log = tmp_path / "slow_start.log"
    program = (
        "import sys; from phasewire.app import DiscoveryService; names = DiscoveryService().names();"
        "assert {'slow', 'raises', 'twin'} <= set(names), names;"
        "assert not {'slow_start', 'broken_raises', 'twin_alpha'} & set(sys.modules)"
    )
    path = [str(plugin_site), *filter(None, sys.path)]
    environment = {"PYTHONPATH": os.pathsep.join(path), "SLOW_START_LOG": str(log), "PATH": ""}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not log.exists()


@pytest.mark.parametrize("name", ["acmenames", "AcmeNames", "ACMENAMES"])
def test_a_name_is_found_in_any_case(name: str, plugins: Path) -> None:
    assert found(name).distribution == "Acme.Adapters"


@pytest.mark.parametrize("distribution_name", ["Acme.Adapters", "acme-adapters", "ACME_adapters", "acme-._adapters"])
def test_a_pinned_name_is_found_under_every_spelling_of_the_distribution(distribution_name: str, plugins: Path) -> None:
    assert found(f"acmenames@{distribution_name}").distribution == "Acme.Adapters"


def test_a_name_pinned_to_a_distribution_that_does_not_offer_it_is_not_found(plugins: Path) -> None:
    assert DiscoveryService().find("acmenames@five-line") is None


def test_a_native_adapter_can_be_pinned_to_phasewire() -> None:
    assert found("fsdp@phasewire").native


def test_an_unknown_name_is_not_found() -> None:
    assert DiscoveryService().find("no-such-adapter") is None


def test_another_group_can_be_read(site: Path) -> None:
    distribution(site, "elsewhere", "1.0", "mine = phasewire.adapters.base:StrategyAdapter", group="my.group")
    assert "mine" not in DiscoveryService().names()
    record = DiscoveryService(group="my.group").find("mine")
    assert record is not None
    assert record.load() is StrategyAdapter


def test_a_package_that_is_installed_meanwhile_is_seen(site: Path) -> None:
    discovery = DiscoveryService()
    assert discovery.find("late") is None
    distribution(site, "late-comer", "1.0", "late = phasewire.adapters.base:StrategyAdapter")
    assert discovery.find("late") is not None


# -- several with one name -----------------------------------------------------------------------------------------


def test_of_two_distributions_the_first_in_the_alphabet_is_chosen_with_a_warning(plugins: Path) -> None:
    with pytest.warns(UserWarning, match=r"offer an adapter 'twin'.*Twin_Alpha 1\.0.*'twin@twin-beta'"):
        assert found("twin").distribution == "Twin_Alpha"


def test_the_choice_does_not_depend_on_the_order_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zeta", "eta"):
        distribution(tmp_path / name, name, "1.0", f"same = {name}:Adapter")
    for order in (("zeta", "eta"), ("eta", "zeta")):
        with monkeypatch.context() as patch:
            for name in order:
                patch.syspath_prepend(tmp_path / name)
            with pytest.warns(UserWarning, match="'same@zeta'"):
                assert found("same").distribution == "eta"


def test_three_claims_on_one_name_are_all_named(site: Path) -> None:
    for name in ("c-dist", "a-dist", "b-dist"):
        distribution(site, name, "1.0", f"same = {name}:Adapter")
    with pytest.warns(UserWarning, match=r"That of a-dist.*'same@a-dist' or 'same@b-dist' or 'same@c-dist'"):
        assert found("same").distribution == "a-dist"


def test_one_service_warns_of_a_name_once(plugins: Path) -> None:
    discovery = DiscoveryService()
    with pytest.warns(UserWarning, match="twin") as caught:
        first, second = discovery.find("twin"), discovery.find("TWIN")
    assert first == second
    assert len(caught) == 1


def test_nothing_is_warned_of_when_another_name_is_asked_for(plugins: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DiscoveryService().records()
        DiscoveryService().names()
        assert found("fiveline").distribution == "five-line"


@pytest.mark.parametrize(("pin", "expected"), [("twin-alpha", "Twin_Alpha"), ("twin_beta", "twin-beta")])
def test_a_pin_chooses_between_two_without_a_warning(pin: str, expected: str, plugins: Path) -> None:
    record = found(f"Twin@{pin}")
    assert record.distribution == expected
    assert record.load().__module__ == expected.lower().replace("-", "_")


def test_a_native_name_is_never_taken_by_a_plug_in(plugins: Path) -> None:
    with pytest.warns(UserWarning, match=r"Phasewire's own adapter.*'transformerbridge@interpretune-like'"):
        record = found("TransformerBridge")
    assert record.native
    assert record.load().__module__ == "phasewire.adapters.transformer_bridge"
    assert "interpretune_like" not in sys.modules


def test_the_plug_in_with_a_native_name_can_be_pinned(plugins: Path) -> None:
    record = found("transformerbridge@Interpretune_Like")
    assert not record.native
    assert record.load().__name__ == "OtherBridgeAdapter"


def test_two_spellings_in_one_distribution_are_one_name(site: Path) -> None:
    distribution(site, "twice", "1.0", "Mine = twice:Second\nmine = twice:First\nMINE = twice:First")
    with pytest.warns(UserWarning, match="twice 1.0 offers the adapter 'mine' more than once, as 'twice:First' and"):
        assert found("mine").value == "twice:First"


def test_a_distribution_that_is_twice_on_the_path_counts_once_and_the_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path / "old", "Same.Dist", "1.0", "mine = same:Old")
    distribution(tmp_path / "new", "same-dist", "2.0", "mine = same:New")
    for name in ("old", "new"):
        monkeypatch.syspath_prepend(tmp_path / name)
    assert [record.value for record in DiscoveryService().records() if record.name == "mine"] == ["same:New"]
    assert found("mine").version == "2.0"


def test_a_newer_copy_without_the_entry_point_hides_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path / "old", "same-dist", "1.0", "mine = same:Old")
    distribution(tmp_path / "new", "same-dist", "2.0", "x = y:z", group="other")
    for name in ("old", "new"):
        monkeypatch.syspath_prepend(tmp_path / name)
    assert DiscoveryService().find("mine") is None


# -- metadata that is broken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry_points",
    [f"[{GROUP}]\nno equals sign\n".encode(), f"[{GROUP}]\nmine = \xff\xfe:Adapter".encode("latin-1")],
    ids=["no equals sign", "not UTF-8"],
)
def test_unreadable_entry_points_of_another_distribution_break_nothing(site: Path, entry_points: bytes) -> None:
    distribution(site, "unreadable", "1.0", entry_points)
    distribution(site, "readable", "1.0", "mine = phasewire.adapters.base:StrategyAdapter")
    assert found("mine").load() is StrategyAdapter


def test_unreadable_entry_points_are_reported_when_a_name_is_not_found(site: Path) -> None:
    distribution(site, "unreadable", "1.0", f"[{GROUP}]\nno equals sign\n".encode())
    with pytest.warns(UserWarning, match=r"cannot be read: unreadable \("):
        assert DiscoveryService().find("mine") is None


def test_unreadable_entry_points_are_reported_when_all_are_listed(site: Path) -> None:
    distribution(site, "unreadable", "1.0", f"[{GROUP}]\nno equals sign\n".encode())
    with pytest.warns(UserWarning, match=r"cannot be read: unreadable \("):
        DiscoveryService().records()


def test_a_distribution_without_a_name_breaks_nothing(site: Path) -> None:
    distribution(site, "nameless", "1.0", "mine = nameless:Adapter")
    (site / "nameless-1.0.dist-info" / "METADATA").unlink()
    assert found("fsdp").native
    with pytest.warns(UserWarning, match="cannot be read"):
        assert DiscoveryService().find("other") is None


@pytest.mark.parametrize(
    "value", ["", "no spaces here:Adapter", "module", ":Adapter", "module:", "a..b:C", "a.b:C.d()"]
)
def test_a_malformed_value_is_listed_and_refused_when_it_is_loaded(site: Path, value: str) -> None:
    distribution(site, "malformed", "1.0", f"mine = {value}")
    with pytest.raises(AdapterLoadError, match=r"'mine' of malformed 1\.0"):
        found("mine").load()


# -- loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "dotted_value.adapters:DottedAdapter",
        "dotted_value.adapters.DottedAdapter",
        " dotted_value.adapters : DottedAdapter [an-extra]",
    ],
)
def test_a_value_may_have_a_colon_or_a_dot_before_the_class(value: str, plugins: Path) -> None:
    assert AdapterRecord("mine", value).load().__name__ == "DottedAdapter"


def test_an_entry_point_with_a_dotted_value_loads(plugins: Path) -> None:
    assert found("dotted").value == "dotted_value.adapters.DottedAdapter"
    assert found("dotted").load().__module__ == "dotted_value.adapters"


class Outer:
    class Inner(StrategyAdapter):
        """An adapter inside a class."""


def test_a_nested_class_is_named_after_a_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nested_adapters", sys.modules[__name__])
    assert AdapterRecord("mine", "nested_adapters:Outer.Inner").load() is Outer.Inner


@pytest.mark.parametrize(
    ("name", "cause"),
    [("raises", RuntimeError), ("missing", ModuleNotFoundError), ("misspelt", ModuleNotFoundError)],
)
def test_a_plug_in_that_cannot_be_imported_is_reported_with_its_origin_and_cause(
    name: str, cause: type[BaseException], plugins: Path
) -> None:
    with pytest.raises(AdapterLoadError, match=rf"{name!r} of broken-imports 0\.9 \(entry point 'broken_") as caught:
        found(name).load()
    assert type(caught.value.__cause__) is cause


def test_the_traceback_of_a_broken_plug_in_reaches_into_its_file(plugins: Path) -> None:
    with pytest.raises(AdapterLoadError) as caught:
        found("raises").load()
    cause = caught.value.__cause__
    assert cause is not None
    traceback = cause.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback is not None
    assert Path(traceback.tb_frame.f_code.co_filename) == plugins / "broken_raises.py"


def test_a_plug_in_that_exits_does_not_end_the_program(plugins: Path) -> None:
    with pytest.raises(AdapterLoadError, match="SystemExit: no GPU, good bye") as caught:
        found("exits").load()
    assert isinstance(caught.value.__cause__, SystemExit)


def test_an_interrupt_during_the_import_passes(site: Path) -> None:
    (site / "interrupted_import.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        AdapterRecord("mine", "interrupted_import:Adapter").load()


def test_a_misspelt_class_is_reported_with_the_nearest_name(plugins: Path) -> None:
    with pytest.raises(AdapterLoadError, match=r"Did you mean 'PlainClass'\?") as caught:
        found("absent").load()
    assert isinstance(caught.value.__cause__, AttributeError)


def test_the_setting_that_named_the_adapter_stands_in_the_message(plugins: Path) -> None:
    with pytest.raises(AdapterLoadError, match=r"^custom_strategy_adapters\['ddp'\]: "):
        found("raises").load(where="custom_strategy_adapters['ddp']")


# -- the contract --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem"), [("plain", "the class PlainClass, which is no subclass"), ("function", "which is no class")]
)
def test_what_is_no_adapter_class_is_refused(name: str, problem: str, plugins: Path) -> None:
    with pytest.raises(AdapterContractError, match=problem) as caught:
        found(name).load()
    assert "phasewire.adapters.StrategyAdapter" in str(caught.value)


def test_a_value_that_names_only_a_module_is_refused(plugins: Path) -> None:
    with pytest.raises(AdapterLoadError, match="'no_adapter' is not the path of a class"):
        found("module_only").load()


def test_a_subclass_of_the_peers_class_is_told_which_import_to_change(plugins: Path, site: Path) -> None:
    package = site / "finetuning_scheduler"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "strategy_adapters.py").write_text("class StrategyAdapter: ...\n")
    try:
        with pytest.raises(AdapterContractError, match="finetuning-scheduler package") as caught:
            found("peer").load()
    finally:
        for name in ("finetuning_scheduler.strategy_adapters", "finetuning_scheduler"):
            sys.modules.pop(name, None)
    assert "from phasewire.adapters import StrategyAdapter" in str(caught.value)


def test_a_plug_in_for_the_peer_is_told_which_import_to_change_where_the_peer_is_not_installed(
    plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "finetuning_scheduler", None)
    with pytest.raises(AdapterLoadError, match=r"from phasewire\.adapters import StrategyAdapter"):
        found("peer").load()


def test_a_plug_in_for_a_later_contract_says_which_releases_fit(plugins: Path) -> None:
    fit = r"phasewire that drives 2\.x, newer than 0\.1\.0, or a release of next-contract for 1\.x, older than 3\.1\."
    with pytest.raises(AdapterContractError, match=rf"version 2\.0 .* drives 1\.x\. Install a release of {fit}"):
        found("nextcontract").load()


def adapter_of_version(version: object) -> type[StrategyAdapter]:
    return type("Versioned", (StrategyAdapter,), {"api_version": version})


def test_a_class_for_an_earlier_contract_says_which_releases_fit() -> None:
    record = AdapterRecord(
        "old", "old:Adapter", distribution="old-adapters", version="1.0", given=adapter_of_version("0.9")
    )
    fit = r"drives 0\.x, older than 0\.1\.0, or a release of old-adapters for 1\.x, newer than 1\.0\."
    with pytest.raises(AdapterContractError, match=fit):
        record.load()


@pytest.mark.parametrize("version", ["1.0", "1.7"])
def test_every_minor_version_of_the_contract_is_driven(version: str) -> None:
    adapter_class = adapter_of_version(version)
    assert AdapterRecord.of_class(adapter_class).load() is adapter_class


@pytest.mark.parametrize("version", ["1", "", "one", "1.0.0rc1", 1.0, None, (1, 0)])
def test_a_malformed_contract_version_is_refused(version: object) -> None:
    with pytest.raises(AdapterContractError, match="api_version"):
        AdapterRecord.of_class(adapter_of_version(version)).load()


# -- building ------------------------------------------------------------------------------------------------------


def test_a_record_builds_the_adapter_with_its_options(plugins: Path) -> None:
    adapter = found("acmenames")(prefix="tests")
    assert adapter.fts_optim_transform(["tests.layer.weight"]) == ["layer.weight"]


def test_a_misspelt_option_is_refused_with_the_nearest_one() -> None:
    class Demanding(StrategyAdapter):
        def __init__(self, temperature: float = 1.0) -> None:
            super().__init__()

    with pytest.raises(AdapterError, match=r"strategy_adapter_cfg: .*Did you mean 'temperature'\?"):
        AdapterRecord.of_class(Demanding)(temprature=2.0)


def test_an_option_that_the_base_adapter_does_not_take_is_refused() -> None:
    with pytest.raises(AdapterError, match="no option named 'prefix'"):
        AdapterRecord.of_class(StrategyAdapter)(prefix="x")


class FailingAdapter(StrategyAdapter):
    def __init__(self, error: BaseException) -> None:
        raise error


@pytest.mark.parametrize("error", [ImportError("transformer_lens is missing"), SystemExit(3), TypeError("no")])
def test_an_adapter_that_fails_while_it_is_built_is_reported_with_its_cause(error: BaseException) -> None:
    with pytest.raises(AdapterLoadError, match=r"FailingAdapter.*cannot be built") as caught:
        AdapterRecord.of_class(FailingAdapter)(error=error)
    assert caught.value.__cause__ is error


def test_an_error_of_the_adapters_own_choice_passes_unchanged() -> None:
    error = AdapterError("The prefix is empty.")
    with pytest.raises(AdapterError) as caught:
        AdapterRecord.of_class(FailingAdapter)(error=error)
    assert caught.value is error


def test_a_class_at_hand_makes_a_record(plugins: Path) -> None:
    record = AdapterRecord.of_class(Outer.Inner, name="Mine")
    assert record.name == "mine"
    assert record.value.endswith(":Outer.Inner")
    assert type(record()) is Outer.Inner


def test_a_scan_asks_each_distribution_at_most_a_few_questions(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages with no adapter cost one read of one file, however many there are."""
    for number in range(30):
        distribution(site, f"unrelated-{number}", "1.0", "x = y:z", group="other")
    reads: list[str] = []

    def counted(path: Path, *args: object, **options: object) -> str:
        if site in path.parents:
            reads.append(path.name)
        return original(path, *args, **options)

    original = Path.read_text
    monkeypatch.setattr(Path, "read_text", counted)
    DiscoveryService().names()
    assert_only(reads, {"entry_points.txt"}, at_most=30)


def test_a_name_asks_only_distributions_that_mention_it_who_they_are(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        distribution(site, f"offers-{number}", "1.0", f"name{number}x = m{number}:Adapter")
    read: list[str] = []
    original = Path.read_text

    def noted(path: Path, *args: object, **options: object) -> str:
        if site in path.parents and path.name == "METADATA":
            read.append(path.parent.name)
        return original(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", noted)
    found = DiscoveryService().find("Name7X")
    assert found is not None
    assert (found.distribution, found.value) == ("offers-7", "m7:Adapter")
    assert_only(read, {"offers_7-1.0.dist-info"}, at_most=5)


def assert_only(given: Iterable[str], allowed: set[str], *, at_most: int) -> None:
    given = list(given)
    assert set(given) <= allowed
    assert 0 < len(given) <= at_most


# -- many ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "imported_modules"), [("many7", {"many_plugin_7"}), (None, set())])
def test_of_a_hundred_plug_ins_only_the_one_that_is_used_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None, imported_modules: set[str]
) -> None:
    for number in range(100):
        module = f"many_plugin_{number}"
        broken = "raise OSError\n" if number % 10 == 0 else ""
        source = f"{broken}from phasewire.adapters import StrategyAdapter\nclass Adapter(StrategyAdapter): ...\n"
        (tmp_path / f"{module}.py").write_text(source)
        distribution(tmp_path, f"many-plugin-{number}", "1.0", f"many{number} = {module}:Adapter")
    mapping = None if wanted is None else {"auto": wanted}

    with on_the_path(tmp_path, monkeypatch):
        AdapterResolver().resolve(SingleDeviceStrategy(), custom_strategy_adapters=mapping)()

        assert {name for name in sys.modules if name.startswith("many_plugin_")} == imported_modules


# -- odd, and allowed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["My Adapter", "my adapter", "MY ADAPTER"])
def test_a_name_may_have_spaces_and_capitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    source = "from phasewire.adapters import StrategyAdapter\nclass Adapter(StrategyAdapter): ...\n"
    (tmp_path / "spaced_plugin.py").write_text(source)
    distribution(tmp_path, "spaced-plugin", "1.0", "My Adapter = spaced_plugin : Adapter [extra]")

    with on_the_path(tmp_path, monkeypatch):
        adapter = AdapterResolver().resolve(SingleDeviceStrategy(), custom_strategy_adapters={"auto": given})()

    assert type(adapter).__module__ == "spaced_plugin"


def test_a_plug_in_may_import_all_of_phasewire_and_look_itself_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "circular_plugin.py").write_text(
        "from phasewire.app import DiscoveryService\n"
        "from phasewire.containers import Container\n"
        "from phasewire.adapters import StrategyAdapter\n"
        "found = Container().discovery().find('circular') == DiscoveryService().find('circular')\n"
        "class Adapter(StrategyAdapter):\n"
        "    knows_itself = found\n"
    )
    distribution(tmp_path, "circular-plugin", "1.0", "circular = circular_plugin:Adapter")

    with on_the_path(tmp_path, monkeypatch):
        adapter = AdapterResolver().resolve(SingleDeviceStrategy(), custom_strategy_adapters={"auto": "circular"})()

    assert type(adapter).knows_itself
