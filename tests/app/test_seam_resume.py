"""The functions of ``app/lightning_seams.py`` that a resumed fit needs, on Trainers without a scheduler."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from phasewire.app.lightning_seams import (
    begin_epoch_anew,
    last_saved,
    linking_with,
    restore_save_progress,
    resume_after_epoch,
    resume_before_validation,
    save_progress,
    validation_follows,
)
from tuning import Batches, TunedModule, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")


class Journal(Callback):
    """Notes what is called, and what the loaded checkpoint is changed to."""

    def __init__(self, change=None, begin=None):
        self.change, self.begin = change, begin
        self.calls, self.answers = [], []

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        if self.change is not None:
            self.answers.append(self.change(checkpoint))

    def on_train_start(self, trainer, pl_module):
        if self.begin is not None:
            self.begin(trainer)

    def on_train_epoch_start(self, trainer, pl_module):
        self.calls.append(f"epoch {trainer.current_epoch}")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.calls.append(f"batch {batch_idx}")
        self.answers.append(validation_follows(trainer))

    def on_validation_end(self, trainer, pl_module):
        self.calls.append("validation")
        self.answers.append(validation_follows(trainer))


def run(folder, journal, *, ckpt_path=None, epochs=2, every=None, **options):
    torch.manual_seed(0)
    saves = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **(every or {"every_n_epochs": 1}))
    trainer = make_trainer(folder, journal, saves, max_epochs=epochs, **options)
    trainer.fit(TunedModule(), Batches(), Batches(1), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({}, [False, True, False]),
        ({"val_check_interval": 1}, [True, False, True, False]),
        ({"limit_val_batches": 0}, [False, False]),
        ({"check_val_every_n_epoch": 2}, [False, False]),
    ],
)
def test_it_is_known_whether_validation_follows_a_batch(tmp_path, options, answers):
    journal = Journal()

    run(tmp_path, journal, epochs=1, **options)

    assert journal.answers == answers


def test_lightning_alone_passes_over_the_validation_after_the_last_batch(tmp_path):
    run(tmp_path, Journal(), every={"every_n_train_steps": 1})
    journal = Journal()

    run(tmp_path, journal, ckpt_path=tmp_path / "step=2.ckpt", every={"every_n_train_steps": 1})

    assert journal.calls == ["batch 0", "batch 1", "validation"]


def test_a_fit_resumes_before_the_validation(tmp_path):
    run(tmp_path, Journal(), every={"every_n_train_steps": 1})
    journal = Journal(change=resume_before_validation)

    run(tmp_path, journal, ckpt_path=tmp_path / "step=2.ckpt", every={"every_n_train_steps": 1})

    assert journal.calls == ["validation", "epoch 1", "batch 0", "batch 1", "validation"]


@pytest.mark.parametrize("options", [{}, {"max_steps": 6}], ids=["by epochs", "by steps"])
def test_a_fit_resumes_after_the_epoch(tmp_path, options):
    run(tmp_path, Journal(), **options)
    journal = Journal(change=resume_after_epoch, begin=begin_epoch_anew)

    run(tmp_path, journal, ckpt_path=tmp_path / "step=2.ckpt", **options)

    assert journal.answers[0] is True
    assert journal.calls == ["epoch 1", "batch 0", "batch 1", "validation"]


def test_a_checkpoint_within_an_epoch_was_not_saved_after_it(tmp_path):
    run(tmp_path, Journal(), every={"every_n_train_steps": 1})

    for step in (1, 2, 3):
        checkpoint = torch.load(tmp_path / f"step={step}.ckpt", weights_only=True)
        before = str(checkpoint["loops"])
        assert not resume_after_epoch(checkpoint)
        assert str(checkpoint["loops"]) == before


def test_a_callback_saves_no_second_time_in_the_step_that_was_restored(tmp_path):
    trainer = run(tmp_path, Journal())
    saved = save_progress(trainer.checkpoint_callback, saving_at=None)
    assert saved == {"step": 4, "deferred": False}
    assert last_saved(trainer.checkpoint_callback) == str(tmp_path / "step=4.ckpt")
    other = ModelCheckpoint(tmp_path / "other", filename="other")
    restore_save_progress(other, saved)
    assert save_progress(other, saving_at=7) == {"step": 7, "deferred": False}

    other.setup(trainer, trainer.lightning_module, "fit")
    other.on_validation_end(trainer, trainer.lightning_module)
    other.on_train_epoch_end(trainer, trainer.lightning_module)

    assert last_saved(other) == ""


def test_a_callback_replaces_its_link_in_the_given_way(tmp_path):
    replaced = []

    @linking_with(lambda link, target: replaced.append((link.name, target.name)))
    class Linking(ModelCheckpoint):
        pass

    trainer = make_trainer(tmp_path, Linking(tmp_path, filename="{step}", save_last="link"), max_epochs=2)
    trainer.fit(TunedModule(), Batches(), Batches(1))

    assert replaced == [("last.ckpt", "step=2.ckpt"), ("last.ckpt", "step=4.ckpt")]


def test_a_folder_in_the_place_of_the_link_is_removed_first(tmp_path):
    seen = []
    linking = linking_with(lambda link, target: seen.append(link.exists()))(type("Linking", (ModelCheckpoint,), {}))
    (tmp_path / "last.ckpt" / "shard").mkdir(parents=True)

    trainer = make_trainer(
        tmp_path,
        linking(tmp_path, filename="{step}", save_last="link", enable_version_counter=False),
        max_epochs=1,
    )
    trainer.fit(TunedModule(), Batches(), Batches(1))

    assert seen == [False]
