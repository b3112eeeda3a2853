"""Schedules in TransformerLens names that are generated, and the names of a plan."""

from __future__ import annotations

import json
import re
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log goes to the stderr of its first import, and a runner's is soon closed
import pytest
import yaml
from typer.testing import CliRunner, Result

from bridges import BridgedModule, bridged, token_loader
from phasewire.app import FinetuningScheduler, FTSEarlyStopping
from phasewire.app.cli import app
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


# -- plans ---------------------------------------------------------------------------------------------------------


def planned(folder: Path, architecture: str, schedule: object, *options: str, **cfg: object) -> Result:
    (folder / "schedule.yaml").write_text(yaml.safe_dump(schedule))
    config = {
        "model": {"class_path": "bridges.SmallBridge", "init_args": {"architecture": architecture}},
        "scheduler": {
            "ft_schedule": str(folder / "schedule.yaml"),
            "custom_strategy_adapters": {"single_device": "transformerbridge"},
            "strategy_adapter_cfg": {"use_tl_names": True, **cfg},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return CliRunner().invoke(app, ["plan", "--config", str(folder / "config.yaml"), *options])


def tensors(result: Result) -> list[int]:
    assert result.exit_code == 0, result.output
    return [len(phase["names"]) for phase in json.loads(result.stdout)["phases"]]


BY_BLOCK = {
    0: {"params": [r"ln_final\..*"]},
    1: {"params": [r"blocks\.1\.attn\..*"]},
    2: {"params": [r"(pos_)?embed\."]},
}


def test_a_plan_is_in_the_names_of_the_schedule_and_counts_the_norms_that_come_along(tmp_path: Path) -> None:
    assert tensors(planned(tmp_path, "LlamaForCausalLM", BY_BLOCK, "--json", "--on-cpu")) == [1, 6, 1]
    assert tensors(planned(tmp_path, "GPT2LMHeadModel", BY_BLOCK, "--json", "--on-cpu")) == [2, 12, 2]
    without = planned(
        tmp_path, "LlamaForCausalLM", BY_BLOCK, "--json", "--on-cpu", model_view_cfg={"implicit_ln_thaw": False}
    )
    assert tensors(without) == [1, 4, 1]


def test_a_plan_refuses_what_a_fit_refuses(tmp_path: Path) -> None:
    result = planned(tmp_path, "LlamaForCausalLM", {0: {"params": ["blocks.0.attn.b_Q"]}}, "--on-cpu")
    assert result.exit_code == 2
    assert "'blocks.0.attn.b_Q' cannot be thawed" in re.sub(r"\s+", " ", result.stderr)


def test_a_plan_of_a_bridge_without_values_asks_for_the_cpu(tmp_path: Path) -> None:
    result = planned(tmp_path, "LlamaForCausalLM", BY_BLOCK)
    assert result.exit_code == 2
    assert "--on-cpu" in result.stderr
