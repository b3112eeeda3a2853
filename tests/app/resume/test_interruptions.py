"""Moments at which plain Lightning loses something, or at which a checkpoint is half of what it should be."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.loggers import CSVLogger

from phasewire.app import CheckpointError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from resuming import Job, Moment, PowerCutError, differences
from tuning import TunedModule, fit, make_trainer, state_of

BY_EPOCHS = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.[12].*"], "max_transition_epoch": 4},
    2: {"params": ["layers.0.*"]},
}
BY_PATIENCE = {depth: {"params": phase["params"]} for depth, phase in BY_EPOCHS.items()}
# The best is found in epoch 2; epochs 3 and 4 use up a patience of 2.
LOSSES = (3.0, 2.0, 1.0, 4.0, 4.0, 0.5, 6.0, 7.0)

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")


def assert_same(whole, resumed):
    assert differences(whole.everything(), resumed.everything()) == []
    assert differences(whole.best_files(), resumed.best_files()) == []
    assert resumed.knife.epochs == {step: whole.knife.epochs[step] for step in resumed.knife.epochs}


@pytest.mark.parametrize(
    ("restore_best", "moment"),
    [(True, "restoring"), (True, "thawing"), (True, "thawed"), (False, "thawing"), (False, "thawed")],
)
@pytest.mark.parametrize("transition", [0, 1])
def test_a_checkpoint_saved_on_an_exception_within_a_transition_resumes_before_it(
    tmp_path, restore_best, moment, transition
):
    job = Job(BY_EPOCHS, val_losses=LOSSES, lr_scheduler="lambda by step", restore_best=restore_best, on_exception=True)
    whole = job.start(tmp_path / "whole")
    cut = job.start(tmp_path / "cut", cut=Moment(moment, transition))
    assert cut.cut

    resumed = job.start(tmp_path / "cut", ckpt_path=cut.newest("exception"))

    assert_same(whole, resumed)


def test_a_transition_that_fails_between_state_and_rates_is_begun_again_with_the_newest_rates(tmp_path, monkeypatch):
    # The best checkpoint is that of epoch 0, with the rates of epoch 0.
    job = Job(BY_EPOCHS, val_losses=(1.0, 2.0, 3.0), lr_scheduler="lambda by step", patience=99, on_exception=True)
    whole = job.start(tmp_path / "whole")
    load = torch.optim.AdamW.load_state_dict

    def loading_and_failing(optimizer, state):
        load(optimizer, state)
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "load_state_dict", loading_and_failing)
        cut = job.start(tmp_path / "cut")
    assert cut.cut

    resumed = job.start(tmp_path / "cut", ckpt_path=cut.newest("exception"))

    assert_same(whole, resumed)


def test_a_run_that_early_stopping_ended_stays_ended(tmp_path):
    job = Job({0: {"params": ["head.*"]}}, epochs=8, val_losses=LOSSES, patience=2)
    whole = job.start(tmp_path)
    assert whole.trainer.current_epoch == 5

    resumed = job.start(tmp_path, ckpt_path=whole.newest())

    assert resumed.knife.epochs == {}
    assert_same(whole, resumed)


def test_a_run_that_early_stopping_ended_goes_on_with_more_patience(tmp_path):
    job = Job({0: {"params": ["head.*"]}}, epochs=7, val_losses=LOSSES, patience=2)
    ended = job.start(tmp_path)

    resumed = replace(job, patience=3).start(tmp_path, ckpt_path=ended.newest())

    assert [epoch for epoch, *_ in list(resumed.knife.epochs.values())[::2]] == [5, 6]


def test_the_reason_why_training_stopped_is_still_told_with_validation_within_epochs(tmp_path):
    job = Job({0: {"params": ["head.*"]}}, epochs=8, val_losses=LOSSES, trainer={"val_check_interval": 1})

    whole = job.start(tmp_path)

    stopping = whole.trainer.early_stopping_callback
    assert stopping.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED


@pytest.mark.parametrize("lr_scheduler", ["none", "plateau"])
def test_the_validation_after_the_last_batch_of_an_epoch_is_done_by_the_resumed_run(tmp_path, lr_scheduler):
    job = Job(BY_PATIENCE, epochs=8, val_losses=LOSSES, lr_scheduler=lr_scheduler, recovery={"every_n_train_steps": 2})
    whole = job.start(tmp_path / "whole")
    for epoch in range(4):
        folder = tmp_path / f"cut {epoch}"
        cut = job.start(folder, cut=Moment("validation starts", epoch))

        resumed = job.start(folder, ckpt_path=cut.newest())

        assert resumed.knife.calls["validation ends"] == whole.knife.calls["validation ends"] - epoch
        assert_same(whole, resumed)


def test_a_second_resume_counts_the_epochs_of_the_first(tmp_path):
    # Both times from the last batch of an epoch, after the first of which no validation follows.
    options = {"check_val_every_n_epoch": 2}
    job = Job(BY_EPOCHS, epochs=6, val_losses=LOSSES, trainer=options, recovery={"every_n_train_steps": 2})
    whole = job.start(tmp_path / "whole")
    first = job.start(tmp_path / "cut", cut=Moment("batch starts", 2))
    second = job.start(tmp_path / "cut", cut=Moment("batch starts", 2), ckpt_path=first.newest())

    resumed = job.start(tmp_path / "cut", ckpt_path=second.newest())

    assert min(resumed.knife.epochs) == 4
    assert_same(whole, resumed)


@pytest.mark.parametrize("hook", ["validation starts", "validation ends"])
def test_a_validation_that_fails_is_done_by_the_run_that_resumes_from_the_exception(tmp_path, hook):
    job = Job(BY_PATIENCE, epochs=8, val_losses=LOSSES, on_exception=True)
    whole = job.start(tmp_path / "whole")
    cut = job.start(tmp_path / "cut", cut=Moment(hook, 1))

    resumed = job.start(tmp_path / "cut", ckpt_path=cut.newest("exception"))

    assert_same(whole, resumed)


def test_a_reduce_on_plateau_scheduler_misses_no_step(tmp_path):
    job = Job({0: {"params": ["head.*"]}}, epochs=6, val_losses=LOSSES, lr_scheduler="plateau", patience=99)
    whole = job.start(tmp_path / "whole")
    cut = job.start(tmp_path / "cut", cut=Moment("epoch saved", 3))

    resumed = job.start(tmp_path / "cut", ckpt_path=cut.newest())

    assert resumed.trainer.lr_scheduler_configs[0].scheduler.last_epoch == 6
    assert_same(whole, resumed)


def test_a_reduce_on_plateau_scheduler_whose_metric_is_unknown_misses_a_step_with_a_warning(tmp_path):
    job = Job({0: {"params": ["head.*"]}}, epochs=6, val_losses=LOSSES, lr_scheduler="plateau", patience=99)
    cut = job.start(tmp_path, cut=Moment("epoch saved", 3))
    checkpoint = torch.load(cut.newest(), weights_only=True)
    checkpoint["callbacks"]["phasewire.FinetuningScheduler"]["loop"]["metrics"] = {}
    torch.save(checkpoint, tmp_path / "changed.ckpt")

    with pytest.warns(UserWarning, match="monitors 'val_loss' misses one step: epoch 3 was interrupted"):
        resumed = job.start(tmp_path, ckpt_path=tmp_path / "changed.ckpt")

    assert resumed.trainer.lr_scheduler_configs[0].scheduler.last_epoch == 5


def test_a_checkpoint_after_validation_leaves_early_stopping_its_metric(tmp_path):
    # Early stopping looks at the metric when the epoch ends; plain Lightning fails here.
    job = Job(BY_PATIENCE, epochs=8, val_losses=LOSSES, recovery={"save_on_train_epoch_end": False})
    whole = job.start(tmp_path / "whole")
    cut = job.start(tmp_path / "cut", cut=Moment("validation saved", 3))

    resumed = job.start(tmp_path / "cut", ckpt_path=cut.newest())

    assert_same(whole, resumed)


def test_max_steps_ends_no_epoch_a_second_time(tmp_path):
    # Plain Lightning does, and early stopping fails or counts twice.
    job = Job(BY_PATIENCE, epochs=8, val_losses=LOSSES, trainer={"max_steps": 13})
    whole = job.start(tmp_path / "whole")
    for epoch in range(3):
        cut = job.start(tmp_path / f"cut {epoch}", cut=Moment("epoch saved", epoch))

        resumed = job.start(tmp_path / f"cut {epoch}", ckpt_path=cut.newest())

        assert_same(whole, resumed)


# -- the files of the best checkpoints -----------------------------------------------------------------------------


def test_a_best_checkpoint_is_kept_as_long_as_the_newest_recovery_checkpoint_names_it(tmp_path):
    # Epoch 2 is better than epoch 1, but the recovery checkpoint of epoch 1 still restores epoch 1 when phase 1 begins.
    job = Job(BY_EPOCHS, val_losses=LOSSES, recovery={"every_n_epochs": 2})
    whole = job.start(tmp_path / "whole")

    cut = job.start(tmp_path / "cut", cut=Moment("epoch saved", 2))
    assert {path.name for path in (tmp_path / "cut" / "best").iterdir()} == {
        "epoch=1-step=4.ckpt",
        "epoch=2-step=6.ckpt",
    }
    resumed = job.start(tmp_path / "cut", ckpt_path=cut.newest())

    assert_same(whole, resumed)


def test_the_recovery_checkpoint_of_an_epoch_knows_the_best_checkpoint_of_that_epoch(tmp_path):
    # Whatever the order of the callbacks is.
    job = Job(BY_EPOCHS, val_losses=LOSSES, recovery_first=True)
    whole = job.start(tmp_path / "whole")
    cut = job.start(tmp_path / "cut", cut=Moment("epoch saved", 1))

    resumed = job.start(tmp_path / "cut", ckpt_path=cut.newest())

    assert resumed.knife.calls["epoch saved"] == 3
    assert_same(whole, resumed)


def test_only_the_best_checkpoints_are_left_in_the_end(tmp_path):
    job = Job(BY_EPOCHS, val_losses=LOSSES)

    whole = job.start(tmp_path)

    assert list(whole.best_files()) == ["epoch=2-step=6.ckpt"]


def test_a_file_with_other_content_is_not_written_over(tmp_path):
    job = Job(BY_EPOCHS, val_losses=LOSSES, optimizer="sgd", save_top_k=-1)
    whole = job.start(tmp_path)
    kept = whole.best_files()

    # The same run goes on from the middle with another optimizer step: a fork, whose files have the same names.
    checkpoint = torch.load(next((tmp_path / "recovery").glob("epoch=1-*")), weights_only=True)
    checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 0.001
    torch.save(checkpoint, tmp_path / "fork.ckpt")
    forked = job.start(tmp_path, ckpt_path=tmp_path / "fork.ckpt")

    assert {name: forked.best_files()[name] for name in kept}.keys() == kept.keys()
    assert differences({name: forked.best_files()[name] for name in kept}, kept) == []
    assert "epoch=2-step=6-v1.ckpt" in forked.best_files()


@pytest.mark.parametrize("save_last", [True, "link"])
def test_a_run_resumes_from_the_last_checkpoint(tmp_path, save_last):
    job = Job(BY_EPOCHS, val_losses=LOSSES, checkpoint={"save_last": save_last}, recovery={"every_n_epochs": 99})
    whole = job.start(tmp_path / "whole")
    cut = job.start(tmp_path / "cut", cut=Moment("epoch saved", 2))
    again = job.start(tmp_path / "cut", cut=Moment("epoch starts", 1), ckpt_path="last")
    assert cut.cut
    assert again.cut

    resumed = job.start(tmp_path / "cut", ckpt_path="last")

    assert_same(whole, resumed)
    assert min(resumed.knife.epochs) > 0


def test_a_run_resumes_from_its_best_checkpoint(tmp_path):
    job = Job(BY_EPOCHS, val_losses=LOSSES, save_top_k=-1)
    whole = job.start(tmp_path / "whole")
    job.start(tmp_path / "cut", cut=Moment("epoch saved", 2))

    resumed = job.start(tmp_path / "cut", ckpt_path=tmp_path / "cut" / "best" / "epoch=2-step=6.ckpt")

    assert_same(whole, resumed)


def versioned_run(folder, *, epochs, ckpt_path=None):
    """A run whose checkpoints go to the folder of its logger, which is a new one for every run."""
    torch.manual_seed(0)
    module = TunedModule((1.0, 2.0, 3.0, 4.0, 5.0), only_trainable=False)
    trainer = make_trainer(
        folder,
        FinetuningScheduler(BY_EPOCHS),
        FTSEarlyStopping("val_loss", patience=99),
        FTSCheckpoint(monitor="val_loss", filename="{epoch}"),
        ModelCheckpoint(folder / "recovery", save_top_k=-1, filename="{epoch}"),
        logger=CSVLogger(folder),
        max_epochs=epochs,
    )
    fit(trainer, module, ckpt_path=ckpt_path)
    return trainer, state_of(module)


def test_the_best_checkpoint_counts_although_the_folder_is_another_one(tmp_path):
    _, expected = versioned_run(tmp_path / "whole", epochs=5)
    versioned_run(tmp_path / "cut", epochs=2)

    trainer, state = versioned_run(tmp_path / "cut", epochs=5, ckpt_path=tmp_path / "cut" / "recovery" / "epoch=1.ckpt")

    best = Path(trainer.checkpoint_callback.best_model_path)
    assert (best.name, best.parent.parent.name) == ("epoch=0.ckpt", "version_0")
    assert trainer.checkpoint_callback.best_model_score == 1.0
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


def test_the_best_checkpoint_is_found_where_its_folder_was_moved_to(tmp_path):
    job = Job(BY_EPOCHS, val_losses=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), patience=99)
    whole = job.start(tmp_path / "whole")
    cut = job.start(tmp_path / "cut", cut=Moment("epoch saved", 1))
    shutil.move(cut.folder, tmp_path / "moved")

    resumed = job.start(tmp_path / "moved", ckpt_path=tmp_path / "moved" / "recovery" / "epoch=1-step=4.ckpt")

    assert_same(whole, resumed)


def test_a_best_checkpoint_that_is_nowhere_is_named(tmp_path):
    job = Job(BY_EPOCHS, val_losses=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), patience=99)
    cut = job.start(tmp_path, cut=Moment("epoch saved", 1))
    shutil.rmtree(tmp_path / "best")

    with pytest.raises(CheckpointError, match=r"epoch=0-step=2\.ckpt: The checkpoint cannot be read"):
        job.start(tmp_path, ckpt_path=cut.newest())
