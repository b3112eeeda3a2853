"""The default wiring in ``config.yaml``: complete, at the defaults, and every key of it does something."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from pydantic import BaseModel

from phasewire.app import Settings
from phasewire.app.config_file import load_yaml
from phasewire.app.settings import DiscoverySettings, SchedulerSettings
from phasewire.containers import Container

BORING = "lightning.pytorch.demos.boring_classes"

#: A value for each setting of the callback that is not its default.
OTHER_VALUES = {
    "ft_schedule": {0: {"params": ["layer.*"]}},
    "max_depth": 2,
    "base_max_lr": 0.25,
    "restore_best": False,
    "gen_ft_sched_only": True,
    "epoch_transitions_only": True,
    "reinit_optim_cfg": {"optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}},
    "reinit_lr_cfg": {
        "lr_scheduler_init": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
    },
    "strategy_adapter_cfg": {"use_tl_names": True},
    "custom_strategy_adapters": {"auto": "transformerbridge"},
    "allow_untested": True,
    "apply_lambdas_new_pgs": True,
    "logging_level": logging.DEBUG,
    "enforce_phase0_params": False,
    "frozen_bn_track_running_stats": False,
    "log_dir": "logs",
    "schedule_generator": "equal_mass",
    "schedule_generator_cfg": {"phases": 2},
    "transition_criteria": ({"plateau": {"window": 3}}, "epochs"),
    "progress_bar": False,
    "log_phase_metrics": False,
    "run_record": False,
}


@pytest.fixture
def container(repository):
    """A container that was given the default wiring."""
    container = Container()
    container.config.from_yaml(repository / "config.yaml")
    return container


@pytest.fixture(autouse=True)
def _same_logging_level():
    logger = logging.getLogger("phasewire")
    level = logger.level
    yield
    logger.setLevel(level)


def keys_of(model: type[BaseModel]) -> dict[str, object]:
    """The fields of a model, those of the sections in it included."""
    sections = {"scheduler": SchedulerSettings, "discovery": DiscoverySettings}
    return {name: keys_of(sections[name]) if name in sections else None for name in model.model_fields}


def test_the_file_has_every_setting_and_no_other(repository):
    document = load_yaml(repository / "config.yaml").mapping()
    in_file = {
        name: dict.fromkeys(value) if isinstance(value, dict) and name != "trainer" else None
        for name, value in document.items()
    }
    assert in_file == keys_of(Settings)


def test_every_setting_of_the_file_has_a_comment_above_it(repository):
    lines = (repository / "config.yaml").read_text().splitlines()
    uncommented = [
        line
        for above, line in pairwise(lines)
        if line and not line.lstrip().startswith("#") and not above.lstrip().startswith("#")
    ]
    assert uncommented == []


def test_the_file_is_at_the_defaults(container):
    assert container.settings() == Settings()


@pytest.mark.parametrize("name", SchedulerSettings.model_fields)
def test_each_setting_of_the_callback_reaches_it(name, container):
    value = OTHER_VALUES[name]
    assert getattr(container.scheduler().settings, name) != value
    container.config.from_dict({"scheduler": {name: value}})
    assert getattr(container.scheduler().settings, name) == value


def test_the_group_decides_which_adapters_are_found(container, tmp_path, monkeypatch):
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[my.adapters]\nelsewhere = nowhere:Nothing\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "elsewhere" not in container.discovery().names()
    container.config.discovery.group.from_value("my.adapters")
    assert "elsewhere" in container.discovery().names()


def test_model_data_and_trainer_are_what_the_file_names(container):
    container.config.from_dict(
        {
            "model": {"class_path": f"{BORING}.BoringModel"},
            "datamodule": {"class_path": f"{BORING}.BoringDataModule"},
            "trainer": {"max_epochs": 3, "accelerator": "cpu", "logger": False, "enable_checkpointing": False},
        }
    )
    assert isinstance(container.model(), BoringModel)
    assert isinstance(container.datamodule(), BoringDataModule)
    assert container.trainer().max_epochs == 3


def test_the_seed_is_in_the_settings_for_whoever_runs(container):
    container.config.seed_everything.from_value(7)
    assert container.settings().seed_everything == 7
