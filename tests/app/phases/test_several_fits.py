"""One callback, several fits: nothing of one is left in the next."""

import copy
import pickle

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Notes, TunedModule, fit, make_trainer

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"], "max_transition_epoch": 4},
    2: {"params": ["layers.0.*"]},
}
NO_EPOCHS = {depth: {"params": phase["params"]} for depth, phase in SCHEDULE.items()}

# A second run finds the checkpoints of the first.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")


def test_the_best_checkpoint_of_one_fit_is_not_restored_in_the_next(tmp_path):
    scheduler, checkpoint = FinetuningScheduler(SCHEDULE), FTSCheckpoint(tmp_path / "best", monitor="val_loss")
    heads = []
    for losses, weight in (([5.0, 4.0, 3.0], 1.0), ([9.0], 100.0)):
        module = TunedModule(losses, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-9))
        nn.init.constant_(module.head.weight, weight)
        trainer = make_trainer(tmp_path, scheduler, FTSEarlyStopping("val_loss", patience=99), checkpoint, max_epochs=4)
        fit(trainer, module)
        heads.append(module.head.weight.mean().item())

    assert heads == pytest.approx([1.0, 100.0])
    assert checkpoint.best_model_score == 9.0


def test_the_patience_of_one_fit_is_not_used_up_in_the_next(tmp_path):
    scheduler, stopping = FinetuningScheduler(NO_EPOCHS, restore_best=False), FTSEarlyStopping("val_loss", patience=2)
    depths = []
    for name in ("first", "second"):
        notes = Notes()
        trainer = make_trainer(tmp_path / name, scheduler, stopping, notes, max_epochs=20)
        fit(trainer, TunedModule([1.0]))
        depths.append(notes.depths)

    assert depths == [[0, 0, 0, 1, 1, 2, 2]] * 2


def test_a_second_fit_of_the_same_trainer_begins_with_phase_zero(tmp_path):
    notes = Notes()
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE, restore_best=False),
        FTSEarlyStopping("val_loss", patience=99),
        notes,
        max_epochs=3,
    )
    fit(trainer, TunedModule())
    trainer.fit_loop.max_epochs = 6
    fit(trainer, TunedModule())

    # The epochs go on, so each phase has its one epoch.
    assert notes.depths == [0, 0, 1, 0, 1, 2]


def test_callbacks_that_the_module_gives_again_are_converted_again(tmp_path):
    class Configured(TunedModule):
        def configure_callbacks(self):
            return [
                EarlyStopping("val_loss", patience=1),
                ModelCheckpoint(tmp_path / "best", monitor="val_loss"),
            ]

    notes = Notes()
    trainer = make_trainer(tmp_path, FinetuningScheduler(NO_EPOCHS), notes, max_epochs=20)
    fit(trainer, Configured([1.0]))
    first = list(notes.depths)
    notes.epochs.clear()
    trainer.fit_loop.epoch_progress.reset()
    fit(trainer, Configured([1.0]))

    assert first == notes.depths == [0, 0, 1, 2]
    assert sum(isinstance(callback, EarlyStopping) for callback in trainer.callbacks) == 1
    assert sum(isinstance(callback, ModelCheckpoint) for callback in trainer.callbacks) == 1


def test_a_converted_early_stopping_ends_a_training_that_has_no_scheduler(tmp_path):
    stopping = EarlyStopping("val_loss", patience=2)
    fit(
        make_trainer(tmp_path / "tuned", FinetuningScheduler(NO_EPOCHS, restore_best=False), stopping, max_epochs=2),
        TunedModule([1.0]),
    )

    plain = make_trainer(tmp_path / "plain", stopping, max_epochs=30)
    fit(plain, TunedModule([1.0]))

    assert plain.current_epoch < 5


@pytest.mark.parametrize("after_a_fit", [False, True])
def test_the_scheduler_can_be_copied_and_pickled(tmp_path, after_a_fit):
    scheduler = FinetuningScheduler(SCHEDULE, restore_best=False, max_depth=1)
    if after_a_fit:
        fit(make_trainer(tmp_path, scheduler, FTSEarlyStopping("val_loss"), max_epochs=1), TunedModule())

    for copied in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):  # noqa: S301 - our own bytes
        notes = Notes()
        trainer = make_trainer(tmp_path / "copy", copied, notes, FTSEarlyStopping("val_loss", patience=9), max_epochs=4)
        fit(trainer, TunedModule())
        assert notes.depths == [0, 0, 1, 1]
