"""A run of three phases, and what there is to watch of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import TunedModule, fit, make_trainer

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 1},
    1: {"params": ["layers.1.*"], "lr": 0.02},
    2: {"params": ["layers.0.*"], "lr": 0.03},
}
#: The losses by which patience ends phase 1 with epoch 3, and the training with epoch 5.
LOSSES = [3.0, 2.0, 2.5, 2.6, 1.0, 1.5, 1.6]


@pytest.fixture
def train(tmp_path) -> Callable:
    """Trains the three phases."""

    def run(*callbacks, settings=None, module=None, patience=2, resume=None, **options):
        torch.manual_seed(0)
        trainer = make_trainer(
            tmp_path,
            FinetuningScheduler(SCHEDULE, **(settings or {})),
            FTSEarlyStopping("val_loss", patience=patience),
            FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}", save_last=True),
            *callbacks,
            **options,
        )
        with warnings.catch_warnings():
            # Tests train again where they have trained.
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty", UserWarning)
            # A run that is resumed in the middle of an epoch.
            warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before the epoch", UserWarning)
            fit(trainer, module or TunedModule(LOSSES), ckpt_path=resume)
        return trainer

    return run
