"""Installed plug-ins drive real fits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from typer.testing import CliRunner

from phasewire.adapters import AdapterContractError, AdapterLoadError, ScheduleError
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.cli import app
from tuning import Batches, Notes, TunedModule, fit, make_trainer

HEAD_ONLY = {0: {"params": ["head.*"]}}


def callbacks() -> list[Callback]:
    """Early stopping that never stops, so that phases end by their epochs; and the best checkpoint to restore."""
    return [FTSEarlyStopping(monitor="val_loss", patience=100), FTSCheckpoint(monitor="val_loss")]


def run(
    folder: Path, adapter: str, schedule: object = None, epochs: int = 4, cfg: dict | None = None
) -> tuple[FinetuningScheduler, Notes, TunedModule]:
    scheduler = FinetuningScheduler(
        schedule,
        custom_strategy_adapters={"auto": adapter},
        strategy_adapter_cfg=cfg,
        log_dir=folder,
    )
    notes, module = Notes(), TunedModule()
    fit(make_trainer(folder, scheduler, notes, *callbacks(), max_epochs=epochs), module)
    return scheduler, notes, module


def test_a_plug_in_gives_names_of_its_own_to_the_parameters(plugins: Path, tmp_path: Path) -> None:
    schedule = {
        0: {"params": [r"tests\.head\..*"], "max_transition_epoch": 1},
        1: {"params": [r"tests\.layers\.0\..*"]},
    }
    scheduler, notes, _ = run(tmp_path, "AcmeNames", schedule, epochs=2, cfg={"prefix": "tests"})
    assert type(scheduler.strategy_adapter).__name__ == "PrefixedNamesAdapter"
    assert [epoch.trainable for epoch in notes.epochs] == [
        ("head.weight", "head.bias"),
        ("layers.0.weight", "layers.0.bias", "head.weight", "head.bias"),
    ]


def test_a_plug_in_of_five_lines_takes_part_in_a_fit(plugins: Path, tmp_path: Path) -> None:
    schedule = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.*"]}}
    _, notes, module = run(tmp_path, "fiveline", schedule, epochs=2)
    assert notes.depths == [0, 1]
    assert module.hparams["phase"] == 1


def test_a_plug_in_generates_validates_and_trains_schedules_in_a_way_of_its_own(plugins: Path, tmp_path: Path) -> None:
    scheduler, notes, _ = run(tmp_path, "layerwise")
    generated = yaml.safe_load((tmp_path / "layerwise.yaml").read_text())
    assert {depth: phase["params"] for depth, phase in generated.items()} == {
        0: ["head"],
        1: ["layers.2"],
        2: ["layers.1"],
        3: ["layers.0"],
    }
    assert notes.depths == [0, 1, 2, 3]
    assert notes.epochs[0].trainable == ("head.weight", "head.bias")
    assert notes.epochs[1].trainable == ("layers.2.weight", "layers.2.bias", "head.weight", "head.bias")
    assert len(notes.epochs[3].trainable) == len(list(TunedModule().parameters()))
    assert scheduler.max_depth == 3


def test_a_schedule_in_the_syntax_of_a_plug_in_is_expanded_by_the_plug_in(plugins: Path, tmp_path: Path) -> None:
    schedule = {0: {"params": ["head"], "max_transition_epoch": 1}, 1: {"params": ["layers.[01]"]}}
    scheduler, notes, _ = run(tmp_path, "layerwise", schedule, epochs=2)
    assert scheduler.ft_schedule[1]["params"] == ["layers.0", "layers.1"]
    assert [group for epoch in notes.epochs[1:] for group in epoch.groups] == [
        ("head.weight", "head.bias"),
        ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"),
    ]


def test_what_a_plug_in_finds_wrong_with_a_schedule_stops_the_fit(plugins: Path, tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match="phase 0: No layer matches"):
        run(tmp_path, "layerwise", {0: {"params": ["hed"]}})


def test_a_broken_plug_in_stops_only_the_fit_that_uses_it(plugins: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterLoadError, match="licence server"):
        run(tmp_path, "raises")
    assert list(tmp_path.iterdir()) == []
    _, notes, _ = run(tmp_path, "fiveline", HEAD_ONLY, epochs=1)
    assert notes.depths == [0]


def test_what_is_no_adapter_stops_the_fit_before_anything_is_written(plugins: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterContractError, match="PlainClass"):
        run(tmp_path, "plain")
    assert list(tmp_path.iterdir()) == []


def test_installed_plug_ins_are_not_imported_by_a_fit_that_maps_none(plugins: Path, tmp_path: Path) -> None:
    scheduler = FinetuningScheduler(HEAD_ONLY, log_dir=tmp_path)
    fit(make_trainer(tmp_path, scheduler, *callbacks(), max_epochs=1), TunedModule())
    assert not {path.stem for path in plugins.glob("*.py")} & set(sys.modules)
    assert not (tmp_path / "slow_start.log").exists()


@pytest.mark.parametrize(
    ("adapter", "cfg", "first"),
    [
        ("blocknames", None, "blocks.0.weight"),
        ("blocknames", {"checkpoint_names": "flat"}, "layers/0/weight"),
        ("blockfunctions", None, "layers.0.weight"),
        ("blockfunctions", {"checkpoint_names": "flat"}, "layers/0/weight"),
    ],
)
def test_a_plug_in_that_only_renames_has_its_names_on_disk_and_restores_them_on_every_path(
    plugins: Path, tmp_path: Path, adapter: str, cfg: dict | None, first: str
) -> None:
    schedule = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.*"]}}
    _, notes, _ = run(tmp_path, adapter, schedule, epochs=2, cfg=cfg)
    assert notes.depths == [0, 1]
    (best,) = tmp_path.rglob("*.ckpt")
    saved = torch.load(best, weights_only=True)
    assert next(iter(saved["state_dict"])) == first

    scheduler = FinetuningScheduler(schedule, custom_strategy_adapters={"auto": adapter}, log_dir=tmp_path / "again")
    trainer = make_trainer(tmp_path / "again", scheduler, *callbacks(), max_epochs=3)
    validated = TunedModule()
    trainer.validate(validated, Batches(), ckpt_path=best, verbose=False)
    weights = {name: value.clone() for name, value in validated.state_dict().items()}
    values = zip(weights.values(), saved["state_dict"].values(), strict=True)
    assert all(torch.equal(one, other) for one, other in values)
    fit(trainer, TunedModule(), ckpt_path=best)
    assert trainer.current_epoch == 3


def test_the_command_converts_what_a_plug_in_wrote_without_being_told_of_it(plugins: Path, tmp_path: Path) -> None:
    _, _, module = run(tmp_path, "blocknames", HEAD_ONLY, epochs=1)
    (best,) = tmp_path.rglob("*.ckpt")
    for word, first in (("flat", "layers/0/weight"), ("canonical", "layers.0.weight"), ("blocks", "blocks.0.weight")):
        done = CliRunner().invoke(
            app, ["checkpoint", "convert", str(best), str(tmp_path / f"{word}.ckpt"), "--to", word]
        )
        assert done.exit_code == 0, done.output
        converted = torch.load(tmp_path / f"{word}.ckpt", weights_only=True)
        assert next(iter(converted["state_dict"])) == first
        values = zip(converted["state_dict"].values(), module.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for one, other in values)
    again = TunedModule.load_from_checkpoint(tmp_path / "canonical.ckpt")
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in again.state_dict().items())


def test_the_command_reads_a_plain_state_dict_by_the_plug_in_that_is_named(plugins: Path, tmp_path: Path) -> None:
    own = TunedModule().state_dict()
    state = {name.replace("layers", "blocks").replace("head", "unembed"): value for name, value in own.items()}
    torch.save(state, tmp_path / "plain.pt")
    words = ["--to", "canonical", "--model", "tuning.TunedModule", "--adapter", "blocknames"]
    done = CliRunner().invoke(
        app, ["checkpoint", "convert", str(tmp_path / "plain.pt"), str(tmp_path / "start.ckpt"), *words]
    )
    assert done.exit_code == 0, done.output
    started = TunedModule.load_from_checkpoint(tmp_path / "start.ckpt")
    values = zip(started.state_dict().values(), state.values(), strict=True)
    assert all(torch.equal(one, other) for one, other in values)
