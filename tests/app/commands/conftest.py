"""A user's project in a folder of its own, and the command line run in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning.pytorch  # noqa: F401  # its log goes to the stderr of its first import, and a runner's is soon closed
import pytest
import yaml
from typer.testing import CliRunner, Result

from phasewire.app.cli import app

MODULE = """
import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset


class Classifier(L.LightningModule):
    def __init__(self, width: int = 4):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, width))
        self.head = torch.nn.Linear(width, 2)

    def training_step(self, batch, batch_idx):
        rows, kinds = batch
        return torch.nn.functional.cross_entropy(self.head(self.backbone(rows)), kinds)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD([weight for weight in self.parameters() if weight.requires_grad], lr=0.1)


class WithOwnData(Classifier):
    def train_dataloader(self):
        return rows()

    def val_dataloader(self):
        return rows()


class TwoOptimizers(Classifier):
    def __init__(self, automatic: bool):
        super().__init__()
        self.automatic_optimization = automatic

    def configure_optimizers(self):
        return [torch.optim.SGD(self.head.parameters(), lr=0.1), torch.optim.SGD(self.backbone.parameters(), lr=0.1)]


class Silent(Classifier):
    def validation_step(self, batch, batch_idx):
        pass


class Broken(Classifier):
    def training_step(self, batch, batch_idx):
        raise ZeroDivisionError("a bug in the model")


class NeedsValues(Classifier):
    def __init__(self, width: int = 4):
        super().__init__(width)
        # Not linspace: transformers replaces it for a while, and torch keeps what it was when first asked for a device.
        self.scale = torch.arange(3.0).sum().item()


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return rows()

    def val_dataloader(self):
        return rows()


class NoModule:
    pass


class NeedsTrainerToBuild(Classifier):
    def configure_model(self):
        self.more = torch.nn.Linear(self.trainer.max_epochs, 2)


def rows():
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(8, 3, generator=generator), torch.arange(8) % 2), batch_size=4)
"""

#: Trains the classifier of the project's module for three epochs, and thaws its head, then its backbone.
CONFIG = {
    "seed_everything": 1,
    "model": {"class_path": "own_project.Classifier", "init_args": {"width": 5}},
    "datamodule": {"class_path": "own_project.Data"},
    "trainer": {
        "max_epochs": 3,
        "accelerator": "cpu",
        "devices": 1,
        "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "."}},
        "callbacks": [{"class_path": "phasewire.app.FTSCheckpoint", "init_args": {"monitor": "val_loss"}}],
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    },
    "scheduler": {
        "epoch_transitions_only": True,
        "ft_schedule": {
            0: {"params": [r"head\..*"], "max_transition_epoch": 1},
            1: {"params": [r"backbone\..*"], "max_transition_epoch": 3},
        },
    },
}

Run = Callable[..., Result]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the user's module ``own_project`` and a valid ``config.yaml``."""
    (tmp_path / "own_project.py").write_text(MODULE)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_project", None)


@pytest.fixture
def run() -> Run:
    """The command line, run in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """The command line, which must report an error; gives the message."""

    def run_refused(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("Error: ")
        assert "Traceback" not in result.output
        return result.stderr

    return run_refused
