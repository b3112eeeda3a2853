"""Tests of a project that trains with the container: parts are replaced by overriding their providers.

Copy it beside your own tests. ``pytest test_training.py`` runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from dependency_injector import providers
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from phasewire.adapters import StrategyAdapter
from phasewire.app import (
    DiscoveryService,
    FinetuningScheduler,
    ResolvedSchedule,
    Schedule,
    ScheduleError,
    ScheduleValidator,
    Settings,
)
from phasewire.containers import Container

CONFIG = """
scheduler:
  ft_schedule:
    0: {params: ['head\\..*'], max_transition_epoch: 1}
    1: {params: ['body\\..*'], max_transition_epoch: 2}
  epoch_transitions_only: true
  restore_best: false
"""


class Classifier(LightningModule):
    """The model of the project."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        rows, kinds = batch
        return functional.cross_entropy(self.head(self.body(rows)), kinds)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.SGD((weight for weight in self.parameters() if weight.requires_grad), lr=0.1)


class AdapterThatCounts(StrategyAdapter):
    """Counts the phases that begin, for the tests; in a run it would be an installed plug-in."""

    begun: ClassVar[list[int]] = []

    def on_phase_thawed(self, depth: int) -> None:
        """Count one."""
        self.begun.append(depth)


class ValidatorOfTheHeadOnly(ScheduleValidator):
    """Refuses a schedule that trains anything but the head: a rule of this project."""

    def validate(
        self,
        schedule: Schedule,
        named_params: Mapping[str, nn.Parameter],
        **options: Any,  # noqa: ANN401  # they go through
    ) -> ResolvedSchedule:
        """Validate as always, and then ask for more."""
        resolved = super().validate(schedule, named_params, **options)
        for depth, phase in enumerate(resolved.phases):
            if any(not name.startswith("head.") for name in phase.params):
                raise ScheduleError("This project trains the head alone.", where=f"phase {depth}")
        return resolved


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """The container of the project, with its configuration."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    container = Container()
    container.config.from_yaml(tmp_path / "config.yaml")
    return container


def fit(scheduler: FinetuningScheduler, folder: Path) -> None:
    """Train for as many epochs as the schedule has phases."""
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[scheduler],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), DataLoader(TensorDataset(torch.randn(8, 4), torch.arange(8) % 2), batch_size=4))


def test_all_phases_of_the_configuration_are_trained(container: Container, tmp_path: Path) -> None:
    scheduler = container.scheduler()
    fit(scheduler, tmp_path)
    assert scheduler.curr_depth == 1


def test_one_argument_is_overridden_where_the_callback_is_made(container: Container, tmp_path: Path) -> None:
    scheduler = container.scheduler(max_depth=0)
    fit(scheduler, tmp_path)
    assert scheduler.curr_depth == 0


def test_an_adapter_that_is_not_installed_is_found_by_a_discovery_of_ours(container: Container, tmp_path: Path) -> None:
    AdapterThatCounts.begun.clear()
    here = {"counting": f"{__name__}:{AdapterThatCounts.__name__}"}
    with container.discovery.override(providers.Factory(DiscoveryService, native=here)):
        fit(container.scheduler(custom_strategy_adapters={"auto": "counting"}), tmp_path)
    assert AdapterThatCounts.begun == [0, 1]


def test_a_validator_of_ours_refuses_the_schedule(container: Container, tmp_path: Path) -> None:
    container.validator.override(providers.Factory(ValidatorOfTheHeadOnly))
    with pytest.raises(ScheduleError, match="phase 1: This project trains the head alone"):
        fit(container.scheduler(), tmp_path)


def test_settings_are_overridden_for_a_while(container: Container) -> None:
    with container.settings.override(Settings.model_validate({"scheduler": {"max_depth": 0}})):
        assert container.scheduler().settings.max_depth == 0
    assert container.scheduler().settings.max_depth == -1
