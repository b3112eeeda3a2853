"""Faults of the peer under ``ModelParallelStrategy``, each in a minimal script, with real sharded parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import FSDPModule

import phasewire.app as ours
from parallel_run import EPOCHS, LAYERS, SCHEDULE, ParallelModule, model_parallel, whole_state
from seam_recorder import leaving_no_process_group
from side_by_side import peer, quiet_peer
from tuning import fit, make_trainer

BY_EPOCHS = {**SCHEDULE, 2: {**SCHEDULE[2], "max_transition_epoch": EPOCHS}}


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


def train(
    kit: ModuleType, folder: Path, strategy: Any, module: ParallelModule, cfg: Mapping[str, Any] | None, **settings: Any
) -> dict[str, torch.Tensor]:
    """Train the three phases, and give the weights."""
    by_epochs = settings.get("epoch_transitions_only", False)
    schedule = {depth: dict(phase) for depth, phase in (BY_EPOCHS if by_epochs else SCHEDULE).items()}
    scheduler = kit.FinetuningScheduler(schedule, strategy_adapter_cfg=deepcopy(cfg), log_dir=str(folder), **settings)
    companions = [
        kit.FTSCheckpoint(str(folder), monitor="val_loss", save_top_k=-1, every_n_epochs=3 if by_epochs else 1)
    ]
    if not by_epochs:
        companions.append(kit.FTSEarlyStopping("val_loss", patience=99))
    trainer = make_trainer(folder, scheduler, *companions, strategy=strategy, max_epochs=EPOCHS)
    with quiet_peer():
        fit(trainer, module)
    return whole_state(module)


def plain_sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], type[Exception]]] = {
    "thawed after a validation": (
        {},
        {"fsdp_plan": LAYERS},
        {"epoch_transitions_only": True, "restore_best": False},
        KeyError,
    ),
    "wrapped parts": ({}, {"fsdp_plan": {r"layers\.[01]": {"act_ckpt": ["wrapped", {}]}, "head": {}}}, {}, KeyError),
    "no optimizer state": ({"optimizer": plain_sgd}, {"fsdp_plan": LAYERS}, {}, IndexError),
}


def compare(folder: Path, fault: str) -> None:
    options, cfg, settings, error = FAULTS[fault]
    with pytest.raises(error):
        train(peer, folder / "peer", model_parallel(), ParallelModule(**options), cfg, **settings)

    expected = train(ours, folder / "alone", "auto", ParallelModule(**options), None, **settings)
    found = train(ours, folder / "ours", model_parallel(), ParallelModule(**options), cfg, **settings)
    torch.testing.assert_close(found, expected)


def test_what_a_sharded_phase_thaws_after_a_validation_is_what_is_trained(tmp_path: Path) -> None:
    compare(tmp_path, "thawed after a validation")


def test_the_best_is_restored_where_activations_are_checkpointed_by_wrappers(tmp_path: Path) -> None:
    compare(tmp_path, "wrapped parts")


def test_the_best_of_a_sharded_run_is_restored_with_an_optimizer_that_keeps_nothing(tmp_path: Path) -> None:
    compare(tmp_path, "no optimizer state")


def test_a_part_of_a_part_that_the_plan_names_before_is_sharded(tmp_path: Path) -> None:
    sharded = {}
    for kit in (ours, peer):
        module = ParallelModule()
        train(kit, tmp_path / kit.__name__, model_parallel(), module, {"fsdp_plan": {".*": {}, "layers.0": {}}})
        sharded[kit] = [name for name, part in module.named_modules() if isinstance(part, FSDPModule)]

    assert sharded[ours] == ["", "layers.0"]
    assert sharded[peer] == [""]
