"""Faults of the peer in finding adapters, reading schedules and resuming, each in a minimal script."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import phasewire.adapters
import phasewire.app as ours
from case_parts import BLOCK_0, BLOCK_1, HEAD, phases
from parity_case import Batches, Case
from side_by_side import peer, quiet_peer, train, train_both
from tuning import make_trainer

CASE = Case(name="setup", schedule=phases(), max_epochs=3)


# -- resuming --------------------------------------------------------------------------------------------------------


def resume(kit: ModuleType, folder: Path) -> list[int]:
    """Train into phase 2, then one epoch more with ``fit(ckpt_path=...)``; give the depth after each."""
    depths: list[int] = []
    for epochs, path in ((5, None), (6, folder / "last.ckpt")):
        scheduler = kit.FinetuningScheduler(phases(), restore_best=False)
        stopping = kit.FTSEarlyStopping("val_loss", patience=99)
        checkpoint = kit.FTSCheckpoint(folder, monitor="val_loss", save_last=True)
        trainer = make_trainer(folder, scheduler, stopping, checkpoint, max_epochs=epochs)
        with quiet_peer():
            trainer.fit(CASE.module(), train_dataloaders=Batches(CASE), val_dataloaders=Batches(CASE), ckpt_path=path)
        depths.append(scheduler.curr_depth)
    return depths


def test_a_resumed_run_goes_on_in_its_phase(tmp_path: Path) -> None:
    assert resume(ours, tmp_path / "ours") == [2, 2]
    assert resume(peer, tmp_path / "peer") == [2, 1], "the peer begins at phase 0 again"


class _Failing:
    def before_restore_model(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        raise LookupError("no such name")


class FailingOurs(_Failing, phasewire.adapters.StrategyAdapter):
    """An adapter that cannot translate a checkpoint."""


class FailingPeers(_Failing, peer.strategy_adapters.StrategyAdapter):
    """The same on the peer's base class."""


def test_a_checkpoint_that_cannot_be_translated_is_not_restored(tmp_path: Path) -> None:
    mine, theirs = (
        train(CASE, kit, tmp_path / name, custom_strategy_adapters={"single_device": f"{__name__}:{name}"})
        for kit, name in ((ours, "FailingOurs"), (peer, "FailingPeers"))
    )

    assert isinstance(mine.error, ours.CheckpointError)
    assert theirs.error is None
    assert theirs.epochs[2].restored, "the peer restores it untranslated"


# -- adapters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two installed packages: one has an adapter, in capitals, and a claim to ``fsdp``; one has what is no adapter."""
    site = tmp_path / "site"
    for package, source, names in (
        (
            "acme",
            "from side_by_side import peer\nclass Acme(peer.strategy_adapters.StrategyAdapter): ...\n",
            "Acme = acme:Acme\nfsdp = acme:Acme\n",
        ),
        ("junk", "class Junk: ...\n", "junk = junk:Junk\n"),
    ):
        information = site / f"{package}-1.0.dist-info"
        information.mkdir(parents=True)
        (site / f"{package}.py").write_text(source)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[finetuning_scheduler.strategy_adapters]\n{names}")
    monkeypatch.syspath_prepend(site)
    # The peer keeps what it finds in a dict of its module.
    monkeypatch.setattr(peer.fts, "STRATEGY_ADAPTERS", adapters := dict(peer.fts.STRATEGY_ADAPTERS))
    monkeypatch.setattr(peer.fts_supporters, "STRATEGY_ADAPTERS", adapters)
    yield
    for package in ("acme", "junk"):
        sys.modules.pop(package, None)


@pytest.mark.usefixtures("installed")
def test_a_package_that_is_not_used_is_not_imported(tmp_path: Path) -> None:
    train(CASE, ours, tmp_path / "ours")
    assert not {"acme", "junk"} & sys.modules.keys()

    train(CASE, peer, tmp_path / "peer")
    assert {"acme", "junk"} <= sys.modules.keys()


@pytest.mark.usefixtures("installed")
def test_a_plug_in_does_not_silently_take_the_place_of_a_native_adapter(tmp_path: Path) -> None:
    train(CASE, peer, tmp_path / "peer")

    assert peer.fts.STRATEGY_ADAPTERS["fsdp"].__name__ == "Acme"
    with pytest.warns(UserWarning, match="fsdp"):
        assert ours.DiscoveryService().find("fsdp").load() is phasewire.adapters.FSDPStrategyAdapter


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("mapping", "theirs", "mine"),
    [
        ({"single_device": "Acme"}, MisconfigurationException, "AdapterContractError"),
        ({"single_device": "junk"}, AttributeError, "AdapterContractError"),
        ({"auto": "parity_adapters:Ours"}, MisconfigurationException, None),
    ],
    ids=["a name in capitals", "what is no adapter", "auto"],
)
def test_a_mapping_finds_what_it_names_or_says_what_is_wrong(
    tmp_path: Path, mapping: dict[str, str], theirs: type[Exception], mine: str | None
) -> None:
    options = {"custom_strategy_adapters": mapping, "strategy_adapter_cfg": {"prefix": ""} if mine is None else None}
    outcomes = [train(CASE, kit, tmp_path / kit.__name__, **options) for kit in (ours, peer)]

    assert isinstance(outcomes[1].error, theirs)
    # An adapter of the peer is found, and refused because of its base class.
    assert (type(outcomes[0].error).__name__ if outcomes[0].error else None) == mine


def test_the_inspection_of_names_uses_the_transform_of_the_adapter() -> None:
    def transform(self: Any, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
        return [name.upper() for name in orig_pl]

    mine, theirs = (
        type("Upper", (base,), {"fts_optim_transform": transform})().fts_optim_inspect(["a"])
        for base in (phasewire.adapters.StrategyAdapter, peer.strategy_adapters.StrategyAdapter)
    )

    assert mine == ["A"]
    assert theirs == ["a"]


# -- schedules -------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    case = Case(name="typo", schedule=phases(one={"learning_rate": 0.02}), max_epochs=3)
    mine, theirs = train_both(case, tmp_path)

    assert isinstance(mine.error, ours.ScheduleError)
    assert theirs.epochs[2].groups[1].lr == 1e-5, "the peer ignores it"


def test_phases_with_a_gap_and_a_negative_number_are_refused(tmp_path: Path) -> None:
    schedule = {-1: {"params": [HEAD]}, 0: {"params": [BLOCK_1], "max_transition_epoch": 1}, 2: {"params": [BLOCK_0]}}
    case = Case(name="gap", schedule=schedule, max_epochs=3)
    mine, theirs = train_both(case, tmp_path)

    assert isinstance(mine.error, ours.ScheduleError)
    assert isinstance(theirs.error, KeyError)
    assert theirs.epochs, "the peer finds out when the phase is due"
