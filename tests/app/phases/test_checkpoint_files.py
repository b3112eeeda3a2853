"""A run knows its own checkpoints, and keeps the names that it has taken until the files are there."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from phasewire.app import CheckpointError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.name_claims import NameClaims
from tuning import TunedModule, fit, make_trainer

LOSSES = [4.0, 3.0, 2.0, 1.0]
SECONDS = 60


def train(tmp_path, checkpoint, *others, **options):
    trainer = make_trainer(
        tmp_path,
        *others,
        FinetuningScheduler({0: {"params": ["head.*"]}}),
        FTSEarlyStopping("val_loss", patience=99),
        checkpoint,
        **{"max_epochs": 4, **options},
    )
    fit(trainer, TunedModule(LOSSES))


def hidden_in(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_that_a_user_saves_is_not_taken_for_that_of_another_run(tmp_path, recwarn):
    class Saving(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"epoch={trainer.current_epoch}.ckpt")

    train(tmp_path, FTSCheckpoint(tmp_path, monitor="val_loss", filename="{epoch}"), Saving())
    assert [str(each.message) for each in recwarn if "Another run" in str(each.message)] == []


def test_a_file_that_appears_while_a_run_trains_is_that_of_another_run(tmp_path):
    class Saving(Callback):
        def on_train_start(self, trainer, pl_module):
            (tmp_path / "epoch=0.ckpt").write_bytes(b"")

    with pytest.warns(UserWarning, match=r"Another run saves .*epoch=0\.ckpt is not this run's"):
        train(tmp_path, FTSCheckpoint(tmp_path, monitor="val_loss", filename="{epoch}"), Saving())


class Waiting(TorchCheckpointIO):
    """Writes nothing until it may."""

    def __init__(self):
        self.may_write = threading.Event()

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        assert self.may_write.wait(SECONDS)
        super().save_checkpoint(checkpoint, path, storage_options)


def test_a_name_is_kept_from_others_until_an_asynchronous_save_has_written_the_file(tmp_path):
    plugin, name = Waiting(), tmp_path / "epoch=0.ckpt"

    class Other(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                self.was_there, self.could_claim = name.exists(), NameClaims().claim(name)
                plugin.may_write.set()

    other = Other()
    checkpoint = FTSCheckpoint(tmp_path, monitor="val_loss", filename="{epoch}", save_top_k=-1)
    train(tmp_path, checkpoint, other, plugins=[AsyncCheckpointIO(plugin)])
    assert (other.was_there, other.could_claim) == (False, False)
    assert hidden_in(tmp_path) == []


def test_a_name_that_waits_for_its_file_is_not_taken_a_second_time(tmp_path):
    plugin = Waiting()

    class Last(Callback):
        def on_train_end(self, trainer, pl_module):
            plugin.may_write.set()

    checkpoint = FTSCheckpoint(tmp_path, monitor="val_loss", filename="newest", save_top_k=2)
    train(tmp_path, checkpoint, Last(), plugins=[AsyncCheckpointIO(plugin)], max_epochs=2)
    epochs = {Path(name): torch.load(name, weights_only=True)["epoch"] for name in checkpoint.best_k_models}
    assert sorted(epochs.values()) == [0, 1]
    assert epochs[Path(checkpoint.best_model_path)] == 1


class Full(TorchCheckpointIO):
    """Has no room for a file."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        raise OSError(errno.ENOSPC, "no space left")


@pytest.mark.parametrize("epochs", [1, 3])
def test_what_an_asynchronous_save_fails_with_comes_out_of_the_fit(tmp_path, epochs):
    checkpoint = FTSCheckpoint(tmp_path, monitor="val_loss", filename="{epoch}")
    with pytest.raises((OSError, CheckpointError), match="no space left"):
        train(tmp_path, checkpoint, plugins=[AsyncCheckpointIO(Full())], max_epochs=epochs)
    assert hidden_in(tmp_path) == []


def test_no_claim_stays_when_a_fit_with_asynchronous_saves_fails(tmp_path):
    class Failing(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                raise ValueError("an accident")

    plugin = Waiting()
    threading.Timer(0.5, plugin.may_write.set).start()
    checkpoint = FTSCheckpoint(tmp_path, monitor="val_loss", filename="{epoch}")
    with pytest.raises(ValueError, match="an accident"):
        train(tmp_path, checkpoint, Failing(), plugins=[AsyncCheckpointIO(plugin)])
    assert hidden_in(tmp_path) == []
    assert NameClaims().claim(checkpoint.best_model_path)
