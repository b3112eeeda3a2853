"""The callback and its companions in the YAML of LightningCLI."""

import logging
import re
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
from lightning.pytorch.cli import LightningCLI

from phasewire.adapters.rank_zero import LOGGER_NAME
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping, ScheduleError
from tuning import Batches, Notes, TunedModule

SCHEDULE = """
0: {params: ['head.*'], max_transition_epoch: 1}
1:
  params: ['layers.1.*']
  lr: 1e-3
"""
INLINE = "{0: {params: ['head.*'], max_transition_epoch: 1}, 1: {params: ['layers.1.*'], lr: 1e-3}}"
CONFIG = """
seed_everything: 1
trainer:
  accelerator: cpu
  max_epochs: 3
  num_sanity_val_steps: 0
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: phasewire.app.FinetuningScheduler
      init_args:
        ft_schedule: %(schedule)s
        max_depth: 1
        base_max_lr: 1e-4
        restore_best: %(restore_best)s
        logging_level: DEBUG
        reinit_lr_cfg: %(reinit)s
    - {class_path: phasewire.app.FTSEarlyStopping, init_args: {monitor: val_loss, patience: 7}}
    - {class_path: phasewire.app.FTSCheckpoint, init_args: {monitor: val_loss, save_top_k: 2}}
    - {class_path: tuning.Notes}
"""
REINIT = (
    "{lr_scheduler_init: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 1, gamma: 7e-1}}, "
    "pl_lrs_cfg: {interval: epoch}}"
)


class Module(TunedModule):
    def __init__(self) -> None:
        super().__init__()


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return Batches()

    def val_dataloader(self):
        return Batches(1)


@pytest.fixture(autouse=True)
def _a_script_without_arguments(empty_dir, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    # Lightning 2.6 calls jsonargparse by names that are deprecated there.
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    Path("schedule.yaml").write_text(SCHEDULE)
    logger = logging.getLogger(LOGGER_NAME)
    level = logger.level
    yield
    logger.setLevel(level)


def config(schedule="schedule.yaml", reinit="null", restore_best="true"):
    Path("config.yaml").write_text(CONFIG % {"schedule": schedule, "reinit": reinit, "restore_best": restore_best})
    return "config.yaml"


def command_line(*arguments, run=True):
    return LightningCLI(
        Module, Data, args=list(arguments), run=run, save_config_kwargs={"config_filename": "used.yaml"}
    )


def callback(cli, kind):
    (found,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, kind)]
    return found


@pytest.mark.parametrize("schedule", ["schedule.yaml", INLINE], ids=["file", "inline"])
def test_fit_trains_the_phases_of_the_configuration(schedule):
    cli = command_line("fit", "--config", config(schedule))

    notes = callback(cli, Notes)
    assert notes.depths == [0, 1, 1]
    assert notes.epochs[1].groups == (("head.weight", "head.bias"), ("layers.1.weight", "layers.1.bias"))
    assert notes.epochs[1].lrs == (0.1, 1e-3)
    assert callback(cli, FTSEarlyStopping).patience == 7
    assert callback(cli, FTSCheckpoint).save_top_k == 2


def test_settings_keep_their_types():
    cli = command_line("--config", config(INLINE, REINIT, restore_best="false"), run=False)

    settings = callback(cli, FinetuningScheduler).settings
    assert settings.ft_schedule == {
        0: {"params": ["head.*"], "max_transition_epoch": 1},
        1: {"params": ["layers.1.*"], "lr": 1e-3},
    }
    assert settings.reinit_lr_cfg == {
        "lr_scheduler_init": {
            "class_path": "torch.optim.lr_scheduler.StepLR",
            "init_args": {"step_size": 1, "gamma": 0.7},
        },
        "pl_lrs_cfg": {"interval": "epoch"},
    }
    assert (settings.base_max_lr, settings.max_depth, settings.restore_best) == (1e-4, 1, False)
    assert settings.logging_level == logging.DEBUG


@pytest.mark.parametrize("schedule", ["schedule.yaml", INLINE], ids=["file", "inline"])
def test_the_printed_configuration_says_the_same_again(schedule, capsys):
    first = command_line("--config", config(schedule, REINIT), run=False)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command_line("--config", config(schedule, REINIT), "--print_config", run=False)
    Path("printed.yaml").write_text(capsys.readouterr().out)

    again = command_line("--config", "printed.yaml", run=False)

    assert callback(again, FinetuningScheduler).settings == callback(first, FinetuningScheduler).settings
    assert vars(callback(again, FTSEarlyStopping)) == vars(callback(first, FTSEarlyStopping))


def test_the_configuration_that_fit_saves_trains_again():
    first = command_line("fit", "--config", config(INLINE))

    again = command_line("fit", "--config", "used.yaml", "--trainer.default_root_dir", "again")

    assert callback(again, Notes).epochs == callback(first, Notes).epochs


def test_settings_can_be_given_on_the_command_line():
    cli = command_line(
        "--trainer.callbacks+=phasewire.app.FinetuningScheduler",
        "--trainer.callbacks.ft_schedule=schedule.yaml",
        "--trainer.callbacks.base_max_lr=1e-3",
        "--trainer.callbacks.epoch_transitions_only=true",
        "--trainer.callbacks.logging_level=30",
        "--trainer.logger=false",
        "--seed_everything=1",
        run=False,
    )

    settings = callback(cli, FinetuningScheduler).settings
    assert settings.ft_schedule == "schedule.yaml"
    assert (settings.base_max_lr, settings.epoch_transitions_only, settings.logging_level) == (1e-3, True, 30)


def test_a_schedule_file_is_read_as_strictly_as_without_the_command_line():
    Path("schedule.yaml").write_text(SCHEDULE + "0: {params: [layers.0.weight]}\n")

    with pytest.raises(ScheduleError, match=r"schedule\.yaml.*line 6"):
        command_line("fit", "--config", config())


@pytest.mark.filterwarnings("ignore:`Module.configure_optimizers` will be overridden:UserWarning")
def test_the_optimizer_of_the_command_line_is_made_to_hold_phase_zero():
    cli = command_line("fit", "--config", config(), "--optimizer=AdamW", "--optimizer.lr=0.05")

    assert type(cli.trainer.optimizers[0]).__name__ == "AdamW"
    assert callback(cli, Notes).epochs[0].groups == (("head.weight", "head.bias"),)
    assert callback(cli, Notes).epochs[1].lrs == (0.05, 1e-3)


def test_the_configuration_in_the_documentation_is_one(repository):
    page = (repository / "docs" / "lightning-features.md").read_text()
    (text,) = re.findall(r"^```yml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    Path("config.yaml").write_text(text)

    cli = command_line("--config", "config.yaml", "--seed_everything=1", "--trainer.logger=false", run=False)

    assert callback(cli, FinetuningScheduler).settings.ft_schedule[1] == {"params": ["layers.*"], "lr": 1e-5}
    assert callback(cli, FTSEarlyStopping).patience == 2


def test_transition_criteria_are_named_with_their_options():
    criteria = "[{plateau: {window: 3}}, phasewire.app.phases.criteria:EpochCriterion]"
    given = config(INLINE, reinit=f"null\n        transition_criteria: {criteria}")

    cli = command_line("--config", given, run=False)

    assert callback(cli, FinetuningScheduler).settings.transition_criteria == (
        {"plateau": {"window": 3}},
        "phasewire.app.phases.criteria:EpochCriterion",
    )
