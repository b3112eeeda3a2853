"""What torch refuses to do without a GPU: run it with ``pytest -m gpu``."""

import pytest
import torch
from torch import nn

from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Notes, TunedModule, fit, make_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch wraps SyncBatchNorm layers on GPUs only"),
]

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 1},
    1: {"params": ["layers.2.*"], "max_transition_epoch": 2},
    2: {"params": ["layers.[01].*"]},
}


def test_synchronised_batch_norm_stays_and_is_thawed(tmp_path):
    notes = Notes()
    module = TunedModule()
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE),
        FTSEarlyStopping("val_loss"),
        FTSCheckpoint(tmp_path / "best", monitor="val_loss"),
        notes,
        accelerator="gpu",
        strategy="ddp",
        sync_batchnorm=True,
        max_epochs=3,
    )
    fit(trainer, module)

    assert isinstance(module.layers[2], nn.SyncBatchNorm)
    assert notes.depths == [0, 1, 2]
    assert "layers.2.weight" not in notes.epochs[0].trainable
    assert "layers.2.weight" in notes.epochs[1].trainable
