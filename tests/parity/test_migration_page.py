"""docs/migration.md names everything that the installed peer has, and what it calls the same is the same."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from phasewire import adapters, app
from side_by_side import peer  # it imports the package without its warnings

fts_supporters, strategy_adapters, types = peer.fts_supporters, peer.strategy_adapters, peer.types

#: A heading of the page to the class of the peer.
CLASSES = {
    "Attributes and methods of `FinetuningScheduler`": peer.FinetuningScheduler,
    "Arguments, attributes and methods of `FTSEarlyStopping`": peer.FTSEarlyStopping,
    "Arguments, attributes and methods of `FTSCheckpoint`": peer.FTSCheckpoint,
    "Members of `StrategyAdapter`": strategy_adapters.StrategyAdapter,
    "Arguments and members of `FSDPStrategyAdapter`": strategy_adapters.FSDPStrategyAdapter,
    "Arguments and members of `ModelParallelStrategyAdapter`": strategy_adapters.ModelParallelStrategyAdapter,
}


@pytest.fixture(scope="module")
def tables(repository: Path) -> dict[str, dict[str, str]]:
    """For each heading, the names of the peer and what the page says of each."""
    found: dict[str, dict[str, str]] = {}
    for section in (repository / "docs" / "migration.md").read_text().split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        rows = re.findall(r"^\| (`.+?) \| (.+) \|$", text, re.MULTILINE)
        found[heading] = {name: here for names, here in rows for name in re.findall(r"`([^`]+)`", names)}
    return found


def members(cls: type) -> set[str]:
    """The public members that a class of the peer defines itself, those of its instances included."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("finetuning_scheduler")]
    found = {name for base in own for name in [*vars(base), *vars(base).get("__annotations__", {})]}
    of_lightning = {EarlyStopping, ModelCheckpoint} & set(cls.__mro__)
    if of_lightning:
        (base,) = of_lightning
        found |= set(vars(cls(monitor="loss"))) - set(vars(base(monitor="loss")))
    else:
        found |= set(vars(cls()))
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("heading", CLASSES)
def test_every_member_of_a_class_of_the_peer_is_named(heading: str, tables: dict[str, dict[str, str]]) -> None:
    expected = members(CLASSES[heading])
    if CLASSES[heading] in (strategy_adapters.FSDPStrategyAdapter, strategy_adapters.ModelParallelStrategyAdapter):
        expected -= members(strategy_adapters.StrategyAdapter)
        tables[heading].pop("act_ckpt", None), tables[heading].pop("cpu_offload_policy", None)
    assert set(tables[heading]) == expected


@pytest.mark.parametrize(
    ("module", "package"),
    [("finetuning_scheduler", peer), ("finetuning_scheduler.strategy_adapters", strategy_adapters)],
)
def test_every_name_of_a_package_of_the_peer_is_named(
    module: str, package: object, tables: dict[str, dict[str, str]]
) -> None:
    assert set(tables[f"The package `{module}`"]) == set(package.__all__)


@pytest.mark.parametrize(("name", "module"), [("types", types), ("fts_supporters", fts_supporters)])
def test_what_else_a_module_of_the_peer_defines_is_named(
    name: str, module: object, tables: dict[str, dict[str, str]]
) -> None:
    source = inspect.getsource(module)
    defined = set(re.findall(r"^(?:class |def )?([A-Za-z]\w*)(?:\(.*| = .*|: TypeAlias = .*)$", source, re.MULTILINE))
    defined = {each for each in defined if hasattr(module, each)} - set(peer.__all__) - {"log"}
    assert set(tables[f"The module `finetuning_scheduler.{name}`"]) == defined


def test_every_argument_of_the_callback_is_named_and_has_the_same_default(tables: dict[str, dict[str, str]]) -> None:
    theirs = dict(inspect.signature(peer.FinetuningScheduler).parameters)
    ours = inspect.signature(app.FinetuningScheduler).parameters
    table = tables["Arguments of `FinetuningScheduler`"]
    assert list(table) == list(theirs)
    for name, parameter in theirs.items():
        assert table[name].startswith("the same")
        assert ours[name].default == parameter.default


def test_what_is_called_the_same_exists_here(tables: dict[str, dict[str, str]]) -> None:
    for heading, cls in CLASSES.items():
        ours = getattr(app, cls.__name__, None) or getattr(adapters, cls.__name__)
        known = {*dir(ours), *vars(ours).get("__annotations__", {}), *inspect.signature(ours).parameters}
        known |= {"exec_ft_phase", "fts_handle"} if issubclass(ours, adapters.StrategyAdapter) else set()
        if heading.startswith("Arguments, attributes"):
            known |= set(vars(ours(monitor="loss")))
        same = {name for name, here in tables[heading].items() if here.startswith("the same")}
        assert same - known <= {"act_ckpt", "cpu_offload_policy"}  # keys of fsdp_plan


def test_every_key_of_a_schedule_is_named(tables: dict[str, dict[str, str]], repository: Path) -> None:
    keys = set(tables["Keys of a schedule"])
    assert {"params", "lr", "max_transition_epoch", *peer.ScheduleParsingMixin.VALID_REINIT_KEYS} <= keys
    # The peer looks keys up by their text.
    source = inspect.getsource(fts_supporters)
    looked_up = set(re.findall(r"""(?:\[|get\(|in )?["'](\w+_(?:init|cfg|lrs)|class_path|init_args)["']""", source))
    assert looked_up - {"reinit_optim_cfg", "reinit_lr_cfg"} <= keys
