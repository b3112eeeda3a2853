"""Schedules in TransformerLens names that are generated, and the names of a plan."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bridges import BridgedModule, bridged, token_loader
from phasewire.app import FinetuningScheduler, FTSEarlyStopping
from tuning import Notes, make_trainer

SOURCES = ("GPT2LMHeadModel", "MixtralForCausalLM")


def generated(folder: Path, architecture: str, **settings) -> tuple[dict[int, dict], Notes, FinetuningScheduler]:
    """Train the first phase of a generated schedule, and give the file."""
    source, notes = bridged(architecture), Notes()
    scheduler = FinetuningScheduler(
        custom_strategy_adapters={"auto": "transformerbridge"},
        strategy_adapter_cfg={"use_tl_names": True},
        log_dir=folder,
        restore_best=False,
        **settings,
    )
    trainer = make_trainer(folder, scheduler, FTSEarlyStopping("val_loss"), notes, max_epochs=1)
    trainer.fit(BridgedModule(source.bridge), token_loader(), token_loader(1))
    (file,) = folder.glob("BridgedModule_ft_schedule*.yaml")
    return yaml.safe_load(file.read_text()), notes, scheduler


@pytest.mark.parametrize("architecture", SOURCES)
def test_the_default_schedule_has_every_name_once(tmp_path: Path, architecture: str) -> None:
    schedule, _, scheduler = generated(tmp_path, architecture)
    listed = [name for phase in schedule.values() for name in phase["params"]]
    assert sorted(listed) == sorted(scheduler.strategy_adapter.get_named_params_for_schedule_validation())
    assert all(len(phase["params"]) <= 2 for phase in schedule.values())
    assert schedule[0]["params"][0].split(".")[0] in ("ln_final", "unembed")
    assert not any("_original_component" in name for name in listed)


@pytest.mark.parametrize("architecture", SOURCES)
@pytest.mark.parametrize("generator", ["per_block", "discriminative"])
def test_a_schedule_by_blocks_is_the_same_for_every_architecture(
    tmp_path: Path, architecture: str, generator: str
) -> None:
    schedule, _, scheduler = generated(tmp_path, architecture, schedule_generator=generator)
    assert [phase["params"] for phase in schedule.values()][1:3] == [[r"blocks\.1\..*"], [r"blocks\.0\..*"]]
    taken = [name for phase in scheduler.ft_schedule.values() for name in phase["params"]]
    assert sorted(taken) == sorted(scheduler.strategy_adapter.get_named_params_for_schedule_validation())


@pytest.mark.parametrize("architecture", SOURCES)
def test_phases_of_equal_mass_take_every_name(tmp_path: Path, architecture: str) -> None:
    settings = {"schedule_generator": "equal_mass", "schedule_generator_cfg": {"phases": 2}}
    _, _, scheduler = generated(tmp_path, architecture, **settings)
    taken = [name for phase in scheduler.ft_schedule.values() for name in phase["params"]]
    assert len(scheduler.ft_schedule) == 2
    assert sorted(taken) == sorted(scheduler.strategy_adapter.get_named_params_for_schedule_validation())
