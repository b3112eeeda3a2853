"""Early-stopping and checkpoint callbacks: found, converted, added, or refused."""

from datetime import timedelta

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from phasewire.app import CheckpointError, ConfigError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.phases.checkpoint_files import may_be_replaced
from tuning import Batches, TunedModule, fit, make_trainer

SCHEDULE = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}


def train(tmp_path, *callbacks, module=None, settings=None, **options):
    scheduler = FinetuningScheduler(SCHEDULE, **(settings or {}))
    trainer = make_trainer(tmp_path, scheduler, *callbacks, **{"max_epochs": 2, **options})
    fit(trainer, module or TunedModule())
    return trainer


def only(trainer, kind):
    (found,) = [callback for callback in trainer.callbacks if isinstance(callback, kind)]
    return found


def test_plain_callbacks_are_converted_in_place_with_every_setting(tmp_path):
    stopping = EarlyStopping(
        "val_loss", min_delta=0.25, patience=7, mode="max", strict=False, check_finite=False, stopping_threshold=50.0
    )
    checkpoint = ModelCheckpoint(
        tmp_path / "kept", filename="{epoch}-kept", monitor="val_loss", mode="max", save_top_k=3, every_n_epochs=1
    )
    before = {**vars(stopping)}, {**vars(checkpoint)}

    trainer = make_trainer(tmp_path, FinetuningScheduler(SCHEDULE), stopping, checkpoint, max_epochs=0)
    fit(trainer, TunedModule())

    assert only(trainer, EarlyStopping) is stopping
    assert only(trainer, ModelCheckpoint) is checkpoint
    assert isinstance(stopping, FTSEarlyStopping)
    assert isinstance(checkpoint, FTSCheckpoint)
    set_up_by_lightning = {"_check_on_train_epoch_end", "dirpath", "_fs"}
    for callback, settings in zip((stopping, checkpoint), before, strict=True):
        kept = {name: value for name, value in settings.items() if name not in set_up_by_lightning}
        assert {name: vars(callback)[name] for name in kept} == kept


def test_the_variable_of_a_converted_checkpoint_tells_the_best_path(tmp_path):
    checkpoint = ModelCheckpoint(monitor="val_loss")

    train(tmp_path, EarlyStopping("val_loss"), checkpoint)

    assert checkpoint.best_model_path.endswith(".ckpt")


def test_a_checkpoint_for_recovery_is_left_alone_beside_one_for_phases(tmp_path):
    recovery = ModelCheckpoint(tmp_path / "recovery", every_n_train_steps=1, save_top_k=-1)
    best = FTSCheckpoint(tmp_path / "best", monitor="val_loss")

    train(tmp_path, FTSEarlyStopping("val_loss"), recovery, best)

    assert type(recovery) is ModelCheckpoint
    assert len(list((tmp_path / "recovery").glob("*.ckpt"))) == 4
    assert len(list((tmp_path / "best").glob("*.ckpt"))) == 1


@pytest.mark.parametrize(
    "trigger",
    [
        {"every_n_train_steps": 2},
        {"train_time_interval": timedelta(minutes=5)},
        {"save_last": True},
        {"filename": "newest"},
    ],
)
def test_a_checkpoint_for_recovery_alone_gets_one_for_phases_beside_it(tmp_path, trigger):
    recovery = ModelCheckpoint(tmp_path / "recovery", **trigger)

    trainer = train(tmp_path, EarlyStopping("val_loss", mode="min"), recovery)

    assert type(recovery) is ModelCheckpoint
    assert only(trainer, FTSCheckpoint).monitor == "val_loss"


def test_the_monitored_checkpoint_is_chosen_among_several(tmp_path):
    newest = ModelCheckpoint(tmp_path / "newest")
    monitored = ModelCheckpoint(tmp_path / "best", monitor="val_loss")

    train(tmp_path, EarlyStopping("val_loss"), newest, monitored)

    assert type(newest) is ModelCheckpoint
    assert type(monitored) is FTSCheckpoint


def test_early_stopping_that_is_missing_is_added_with_the_monitor_of_the_checkpoint(tmp_path):
    trainer = train(tmp_path, FTSCheckpoint(monitor="val_loss", mode="max"))

    stopping = only(trainer, FTSEarlyStopping)
    assert (stopping.monitor, stopping.mode) == ("val_loss", "max")


def test_the_trainers_own_checkpoint_takes_the_monitor_of_early_stopping(tmp_path):
    trainer = train(tmp_path, EarlyStopping("val_loss", mode="max"))

    checkpoint = only(trainer, FTSCheckpoint)
    assert (checkpoint.monitor, checkpoint.mode) == ("val_loss", "max")
    assert checkpoint.best_model_path


def test_with_no_callback_at_all_val_loss_is_monitored_and_said(tmp_path):
    with pytest.warns(UserWarning, match="FTSEarlyStopping monitors 'val_loss'"):
        trainer = train(tmp_path)

    assert only(trainer, FTSEarlyStopping).monitor == "val_loss"
    assert only(trainer, FTSCheckpoint).monitor == "val_loss"


def test_checkpoints_stay_last(tmp_path):
    trainer = train(tmp_path, FTSCheckpoint(monitor="val_loss"))

    assert isinstance(trainer.callbacks[-1], FTSCheckpoint)


@pytest.mark.parametrize(
    ("checkpoint", "problem"),
    [
        (FTSCheckpoint(monitor="val_loss", save_top_k=0), "save_top_k=0"),
        (FTSCheckpoint(monitor="val_loss", save_weights_only=True), "save_weights_only=True"),
    ],
)
def test_a_checkpoint_that_cannot_give_the_best_is_refused(tmp_path, checkpoint, problem):
    with pytest.raises(ConfigError, match=rf"restore_best=True .* {problem}"):
        train(tmp_path, EarlyStopping("val_loss"), checkpoint)


def test_restoring_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="restore_best=True needs checkpoints"):
        train(tmp_path, EarlyStopping("val_loss"), enable_checkpointing=False)


def test_training_without_checkpoints_works_when_nothing_is_restored(tmp_path):
    trainer = train(tmp_path, EarlyStopping("val_loss"), settings={"restore_best": False}, enable_checkpointing=False)

    assert trainer.current_epoch == 2
    assert not list(tmp_path.rglob("*.ckpt"))


def test_two_early_stoppings_are_refused_until_one_says_that_it_ends_phases(tmp_path):
    with pytest.raises(ConfigError, match=r"EarlyStopping\(monitor='val_loss'\), EarlyStopping\(monitor='other'\)"):
        train(tmp_path, EarlyStopping("val_loss"), EarlyStopping("other"))

    plain = EarlyStopping("val_loss", patience=9)
    trainer = train(
        tmp_path, plain, FTSEarlyStopping("val_loss", patience=9, mode="max"), FTSCheckpoint(monitor="val_loss")
    )
    assert type(plain) is EarlyStopping
    assert trainer.current_epoch == 2


@pytest.mark.parametrize("kind", [FTSEarlyStopping, FTSCheckpoint])
def test_two_of_ours_are_refused(tmp_path, kind):
    with pytest.raises(ConfigError, match=f"2 {kind.__name__} callbacks"):
        train(tmp_path, kind(monitor="val_loss"), kind(monitor="val_loss", mode="max"))


@pytest.mark.parametrize("kind", [FTSEarlyStopping, FTSCheckpoint])
def test_ours_without_a_scheduler_are_refused(tmp_path, kind):
    trainer = make_trainer(tmp_path, kind(monitor="val_loss"), max_epochs=1)

    with pytest.raises(ConfigError, match=f"{kind.__name__} is in a Trainer that has no FinetuningScheduler"):
        fit(trainer, TunedModule())


@pytest.mark.parametrize(
    ("stopping", "checkpoint", "culprit"),
    [
        (FTSEarlyStopping("val_los"), FTSCheckpoint(monitor="val_loss"), "FTSEarlyStopping"),
        (FTSEarlyStopping("val_loss"), FTSCheckpoint(monitor="val_los"), "FTSCheckpoint"),
    ],
)
def test_a_metric_that_is_never_logged_is_named_with_those_that_are(tmp_path, stopping, checkpoint, culprit):
    with pytest.raises(ConfigError, match=rf"{culprit} monitors 'val_los', .* Did you mean 'val_loss'\?"):
        train(tmp_path, stopping, checkpoint)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`:UserWarning")
def test_a_metric_is_not_called_missing_when_nothing_validates(tmp_path):
    trainer = make_trainer(tmp_path, FinetuningScheduler(SCHEDULE), EarlyStopping("val_loss"), max_epochs=2)

    with pytest.raises(ConfigError, match="The Trainer runs no validation"):
        trainer.fit(TunedModule(), train_dataloaders=Batches(), val_dataloaders=None)


def test_two_schedulers_in_one_trainer_are_refused(tmp_path):
    trainer = make_trainer(tmp_path, FinetuningScheduler(SCHEDULE), FinetuningScheduler(SCHEDULE, max_depth=1))

    with pytest.raises(ConfigError, match="2 FinetuningScheduler callbacks"):
        fit(trainer, TunedModule())


class OwnState(FTSEarlyStopping):
    """Checks its state itself."""

    @property
    def wait_count(self):
        return 0

    @wait_count.setter
    def wait_count(self, value):
        if value:
            raise ConfigError("The state is another callback's.")


def test_a_state_that_cannot_be_restored_is_told_of_once():
    with pytest.raises(
        CheckpointError, match=r"FTSEarlyStopping cannot be read \(KeyError.*written by another release"
    ):
        FTSEarlyStopping("val_loss").load_state_dict({"patience": 3})
    with pytest.raises(ConfigError, match=r"^The state is another callback's\.$"):
        OwnState("val_loss").load_state_dict({**FTSEarlyStopping("val_loss").state_dict(), "wait_count": 3})


@pytest.mark.parametrize("content", [[1, 2], {"global_step": 0}, {"global_step": 0, "state_dict": [1]}])
def test_a_file_that_is_no_checkpoint_is_not_replaced(tmp_path, content):
    trainer = make_trainer(tmp_path)
    trainer.strategy.connect(TunedModule())
    torch.save(content, tmp_path / "foreign.ckpt")

    assert not may_be_replaced(tmp_path / "foreign.ckpt", [], trainer)
