"""The options of the Trainer, beside a schedule."""

from datetime import timedelta

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import CombinedLoader

from by_hand import EpochStates, same, train_by_hand
from phasewire.app import ConfigError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Batches, Notes, TunedModule, fit, make_trainer, state_of

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"], "max_transition_epoch": 4, "lr": 0.05},
    2: {"params": ["layers.0.*"], "lr": 0.01},
}
ALL_EPOCHS = {**SCHEDULE, 2: {**SCHEDULE[2], "max_transition_epoch": 6}}
NO_EPOCHS = {depth: {**phase, "max_transition_epoch": -1} for depth, phase in SCHEDULE.items()}
STARTS = {2: 1, 4: 2}
# The best epochs of LOSSES when phases 1 and 2 begin: one in phase 0, and one in phase 1.
LOSSES = [2.0, 3.0, 1.0, 4.0, 5.0, 6.0]
BEST = {1: 0, 2: 2}
DEPTHS = [0, 0, 1, 1, 2, 2]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class CheckedByScript(TunedModule):
    """Logs one scripted loss for every time that validation runs; the last one is repeated."""

    def __init__(self, losses, **options):
        super().__init__(**options)
        self._script = list(losses)
        self.checks = 0

    def on_validation_epoch_start(self):
        self.checks += 1

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.tensor(self._script[min(self.checks, len(self._script)) - 1]))


def restoring(tmp_path, *callbacks, schedule=SCHEDULE, patience=99, epochs=6, **options):
    """A Trainer with the default settings, in which early stopping has its say and the best is restored."""
    notes = Notes()
    stopping = FTSEarlyStopping("val_loss", patience=patience)
    checkpoint = FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}-{step}")
    trainer = make_trainer(
        tmp_path, FinetuningScheduler(schedule), notes, stopping, checkpoint, *callbacks, max_epochs=epochs, **options
    )
    return trainer, notes


def by_epochs(tmp_path, *callbacks, epochs=6, **options):
    """A Trainer in which epochs alone decide, and nothing is restored."""
    notes = Notes()
    scheduler = FinetuningScheduler(ALL_EPOCHS, epoch_transitions_only=True, restore_best=False)
    return make_trainer(tmp_path, scheduler, notes, *callbacks, max_epochs=epochs, **options), notes


BOTH = pytest.mark.parametrize("build", [restoring, by_epochs])


def reference(build, *, epochs=6, **options):
    torch.manual_seed(0)
    best = BEST if build is restoring else None
    return train_by_hand(TunedModule(), SCHEDULE, STARTS, epochs=epochs, best=best, **options)


# -- what a step is ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("callbacks", "options", "by_hand"),
    [
        ([], {}, {}),
        ([], {"accumulate_grad_batches": 2}, {"accumulate": 2}),
        ([GradientAccumulationScheduler({0: 2})], {}, {"accumulate": 2}),
        ([], {"precision": "bf16-mixed"}, {"forward": torch.autocast("cpu", torch.bfloat16)}),
        ([], {"num_sanity_val_steps": 2}, {}),
        ([], {"reload_dataloaders_every_n_epochs": 1}, {}),
    ],
    ids=["plain", "accumulation", "accumulation by a callback", "bf16-mixed", "sanity check", "reloaded data"],
)
def test_weights_are_those_of_a_plain_loop(tmp_path, build, callbacks, options, by_hand):
    trainer, notes = build(tmp_path, *callbacks, **options)
    module = TunedModule(LOSSES)

    fit(trainer, module)

    assert notes.depths == DEPTHS
    assert same(state_of(module), reference(build, **by_hand))


# -- when validation runs ------------------------------------------------------------------------------------------


def test_patience_that_ends_in_mid_epoch_ends_the_phase_with_that_epoch(tmp_path):
    # Two checks an epoch: the second of epochs 0 and 2 is worse, the one after it in epoch 2 is the best of all.
    trainer, notes = restoring(tmp_path, schedule=NO_EPOCHS, patience=1, epochs=8, val_check_interval=0.5)
    stopping = trainer.early_stopping_callback

    fit(trainer, CheckedByScript([5.0, 6.0, 4.0, 3.0, 4.0, 2.0, 2.5]))

    # Phase 1 is complete after the first check of epoch 2, and the better second one does not take that back.
    assert notes.depths == [0, 1, 1, 2]
    # The last phase ends the training where Lightning's callback does: in mid-epoch.
    assert (trainer.current_epoch, trainer.global_step) == (4, 7)
    assert stopping.stopped_epoch == 3


def test_the_best_of_a_mid_epoch_check_is_restored(tmp_path):
    class AfterFirstBatch(EpochStates):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 3:
                self.best = state_of(pl_module)

    states = AfterFirstBatch()
    trainer, notes = restoring(tmp_path, states, epochs=3, val_check_interval=0.5)

    fit(trainer, CheckedByScript([5.0, 5.0, 1.0, 5.0]))

    assert notes.depths == [0, 0, 1]
    assert same(states.beginnings[2], states.best)
    assert not same(states.beginnings[2], states.ends[1])


def test_validation_by_steps_across_epochs_moves_on_at_the_next_epoch(tmp_path):
    trainer, notes = restoring(
        tmp_path, schedule=NO_EPOCHS, patience=1, epochs=9, val_check_interval=3, check_val_every_n_epoch=None
    )

    fit(trainer, CheckedByScript([1.0]))

    # Checks after steps 3, 6, 9, ...: the second, in epoch 2, is the first without an improvement.
    assert notes.depths == [0, 0, 0, 1, 1, 2]
    assert trainer.global_step == 12


def test_epochs_without_validation_neither_use_up_patience_nor_save_a_best(tmp_path):
    states = EpochStates()
    trainer, notes = restoring(tmp_path, states, schedule=NO_EPOCHS, patience=1, epochs=20, check_val_every_n_epoch=2)

    fit(trainer, CheckedByScript([1.0, 2.0, 0.5, 2.0]))

    assert notes.depths == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert same(states.beginnings[4], states.ends[1])
    assert same(states.beginnings[8], states.ends[5])


def test_a_phase_shorter_than_the_interval_of_validation_begins_without_restoring(tmp_path):
    states = EpochStates()
    trainer, notes = restoring(tmp_path, states, check_val_every_n_epoch=3, epochs=5)

    with pytest.warns(UserWarning, match="Phase 1 begins without restoring: no best checkpoint was saved yet"):
        fit(trainer, TunedModule(LOSSES))

    assert notes.depths == [0, 0, 1, 1, 2]
    assert same(states.beginnings[2], states.ends[1])
    assert same(states.beginnings[4], states.ends[2])


class WithoutValidation(TunedModule):
    validation_step = None

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss, on_epoch=True)
        return loss


@pytest.mark.parametrize("options", [{}, {"limit_val_batches": 0}], ids=["no loop", "limit_val_batches=0"])
def test_epochs_alone_need_no_validation(tmp_path, options):
    module = TunedModule() if options else WithoutValidation()
    trainer, notes = by_epochs(tmp_path, **options)

    trainer.fit(module, Batches(), Batches(1) if options else None)

    assert notes.depths == DEPTHS
    assert same(state_of(module), reference(by_epochs))


def test_a_metric_of_training_ends_phases_and_finds_the_best_without_validation(tmp_path):
    class Scripted(WithoutValidation):
        def on_train_epoch_end(self):
            self.log("scripted", torch.tensor([3.0, 4.0, 2.0, 5.0, 6.0, 7.0][self.current_epoch]))

    notes, states = Notes(), EpochStates()
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(NO_EPOCHS),
        FTSEarlyStopping("scripted", patience=1),
        FTSCheckpoint(tmp_path / "best", monitor="scripted"),
        notes,
        states,
    )

    trainer.fit(Scripted(), Batches())

    assert notes.depths == [0, 0, 1, 1, 2]
    assert same(states.beginnings[2], states.ends[0])
    assert same(states.beginnings[4], states.ends[2])


def test_a_metric_of_validation_without_validation_is_refused(tmp_path):
    trainer, _ = restoring(tmp_path, limit_val_batches=0)

    with pytest.raises(ConfigError, match=r"'val_loss', which is not logged.* The Trainer runs no validation"):
        fit(trainer, TunedModule())


# -- trying things out ---------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("batches", [True, 3])
def test_a_fast_dev_run_is_one_epoch_of_phase_zero(tmp_path, build, batches):
    trainer, notes = build(tmp_path, fast_dev_run=batches)

    fit(trainer, TunedModule())

    assert notes.depths == [0]
    assert trainer.global_step == min(batches, len(Batches()))


def test_a_fast_dev_run_leaves_nothing_even_when_it_generates_a_schedule(tmp_path):
    notes = Notes()
    trainer = make_trainer(tmp_path / "run", FinetuningScheduler(), EarlyStopping("val_loss"), notes, fast_dev_run=True)

    fit(trainer, TunedModule())

    assert notes.epochs[0].trainable == ("head.weight", "head.bias")
    assert not list(tmp_path.rglob("*"))


def test_without_checkpoints_phases_move_on_and_nothing_is_saved(tmp_path):
    trainer, notes = by_epochs(tmp_path, enable_checkpointing=False)

    fit(trainer, TunedModule())

    assert notes.depths == DEPTHS
    assert not list(tmp_path.rglob("*.ckpt"))


def test_restoring_the_best_without_checkpoints_is_refused(tmp_path):
    stopping = FTSEarlyStopping("val_loss")
    trainer = make_trainer(tmp_path, FinetuningScheduler(SCHEDULE), stopping, enable_checkpointing=False)

    with pytest.raises(ConfigError, match=r"enable_checkpointing=False\): restore_best=True needs checkpoints"):
        fit(trainer, TunedModule())


BAREBONES = {"barebones": True, "logger": None, "num_sanity_val_steps": None}


@pytest.mark.filterwarnings(r"ignore:You are trying to `self\.log\(\)` but `Trainer\(barebones=True\)`:UserWarning")
def test_a_barebones_trainer_moves_on_by_epochs(tmp_path):
    trainer, notes = by_epochs(tmp_path, **BAREBONES)
    module = TunedModule()

    fit(trainer, module)

    assert notes.depths == DEPTHS
    assert same(state_of(module), reference(by_epochs))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"restore_best": False}, "logs nothing, so no metric can end a phase"),
        ({"ft_schedule": ALL_EPOCHS, "epoch_transitions_only": True}, "restore_best=True needs checkpoints"),
    ],
    ids=["early stopping", "restoring the best"],
)
def test_a_barebones_trainer_is_refused_what_it_does_not_have(tmp_path, settings, problem):
    trainer = make_trainer(tmp_path, FinetuningScheduler(**{"ft_schedule": SCHEDULE, **settings}), **BAREBONES)

    with pytest.raises(ConfigError, match=rf"Trainer\(barebones=True\): .*{problem}"):
        fit(trainer, TunedModule())


# -- when training ends --------------------------------------------------------------------------------------------


@BOTH
def test_max_steps_ends_the_training_in_the_phase_it_is_in(tmp_path, build):
    trainer, notes = build(tmp_path, max_steps=5)

    fit(trainer, TunedModule(LOSSES))

    assert notes.depths == [0, 0, 1]
    assert trainer.global_step == 5


@BOTH
def test_max_steps_without_max_epochs_trains_all_phases(tmp_path, build):
    trainer, notes = build(tmp_path, epochs=None, max_steps=12)

    fit(trainer, TunedModule(LOSSES))

    assert notes.depths == DEPTHS


@pytest.mark.parametrize("patience", [1, 99])
def test_the_end_of_max_time_ends_the_training_and_not_only_the_phase(tmp_path, patience):
    class EndsInEpochOne(Timer):
        def time_elapsed(self, stage=None):
            return 60.0 if self.trainer.current_epoch == 1 else 0.0

        def on_fit_start(self, trainer, *arguments):
            self.trainer = trainer
            super().on_fit_start(trainer, *arguments)

    timer = EndsInEpochOne(duration=timedelta(seconds=30), interval="epoch")
    trainer, notes = restoring(tmp_path, timer, schedule=NO_EPOCHS, patience=patience)

    fit(trainer, TunedModule([1.0]))

    assert notes.depths == [0, 0]
    assert trainer.should_stop


def test_a_max_time_that_is_over_trains_nothing(tmp_path):
    trainer, notes = restoring(tmp_path, max_time=timedelta(0))

    fit(trainer, TunedModule(LOSSES))

    assert (notes.depths, trainer.global_step) == ([], 0)


def test_min_epochs_prolongs_the_last_phase_and_no_other(tmp_path):
    trainer, notes = restoring(tmp_path, schedule=NO_EPOCHS, patience=1, epochs=20, min_epochs=8)

    fit(trainer, TunedModule([1.0]))

    assert notes.depths == [0, 0, 1, 2, 2, 2, 2, 2]


# -- data and loggers ----------------------------------------------------------------------------------------------


class SeveralLoaders(TunedModule):
    def training_step(self, batch, batch_idx):
        return sum(super(SeveralLoaders, self).training_step(part, batch_idx) for part in batch.values())

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        script = ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 5.0, 6.0])[dataloader_idx]
        self.log("val_loss", torch.tensor(script[self.current_epoch]))


def fit_several(trainer):
    training = CombinedLoader({"a": Batches(), "b": Batches(3)}, "min_size")
    trainer.fit(SeveralLoaders(), training, [Batches(1), Batches(2)])


def test_the_metric_of_one_of_several_loaders_ends_phases_and_another_finds_the_best(tmp_path):
    notes, states = Notes(), EpochStates()
    checkpoint = FTSCheckpoint(tmp_path / "best", monitor="val_loss/dataloader_idx_1", filename="{epoch}")
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(NO_EPOCHS, max_depth=1),
        FTSEarlyStopping("val_loss/dataloader_idx_0", patience=2),
        checkpoint,
        notes,
        states,
        max_epochs=4,
    )

    fit_several(trainer)

    assert notes.depths == [0, 0, 0, 1]
    assert checkpoint.best_model_score == 3.0
    assert same(states.beginnings[3], states.ends[1])


def test_a_metric_without_the_suffix_of_its_loader_is_refused_with_the_names_that_are(tmp_path):
    trainer, _ = restoring(tmp_path)

    with pytest.raises(ConfigError, match=r"'val_loss', .*Did you mean 'val_loss/dataloader_idx_0'"):
        fit_several(trainer)


@BOTH
@pytest.mark.parametrize("logger", [False, True], ids=["logger=False", "a logger"])
def test_schedules_and_checkpoints_lie_where_the_logger_says(tmp_path, build, logger):
    checkpoint = ModelCheckpoint(filename="kept")
    trainer, _ = build(tmp_path, checkpoint, logger=CSVLogger(tmp_path, "logs") if logger else False, epochs=1)

    fit(trainer, TunedModule())

    folder = tmp_path / "logs" / "version_0" if logger else tmp_path
    assert (folder / "TunedModule_ft_schedule.yaml").exists()
    assert (folder / "checkpoints" / "kept.ckpt").exists()
