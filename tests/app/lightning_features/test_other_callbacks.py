"""Lightning's own callbacks and its tuner, beside a schedule."""

import csv

import pytest
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner

from by_hand import EpochStates, same, train_by_hand
from phasewire.adapters import StrategyAdapter
from phasewire.app import CheckpointError, ConfigError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Batches, Notes, TunedModule, fit, make_trainer, state_of

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"], "max_transition_epoch": 4, "lr": 0.05},
    2: {"params": ["layers.0.*"], "lr": 0.01},
}
ALL_EPOCHS = {**SCHEDULE, 2: {**SCHEDULE[2], "max_transition_epoch": 6}}
LOSSES = [2.0, 3.0, 1.0, 4.0, 5.0, 6.0]
STARTS, BEST = {2: 1, 4: 2}, {1: 0, 2: 2}
DEPTHS = [0, 0, 1, 1, 2, 2]
BOTH = pytest.mark.parametrize("restore_best", [True, False], ids=["restoring the best", "by epochs"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def build(tmp_path, *callbacks, restore_best=True, epochs=6, settings=None, **options):
    notes = Notes()
    if restore_best:
        parts = [
            FinetuningScheduler(SCHEDULE, **(settings or {})),
            FTSEarlyStopping("val_loss", patience=99),
            FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}"),
        ]
    else:
        parts = [
            FinetuningScheduler(ALL_EPOCHS, epoch_transitions_only=True, restore_best=False, **(settings or {})),
            ModelCheckpoint(tmp_path / "newest"),
        ]
    return make_trainer(tmp_path, *parts, notes, *callbacks, max_epochs=epochs, **options), notes


def trained_by_hand(restore_best, epochs=6):
    torch.manual_seed(0)
    return train_by_hand(TunedModule(), SCHEDULE, STARTS, epochs=epochs, best=BEST if restore_best else None)


def mean_of(states, names):
    return {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in names}


# -- averaged weights ----------------------------------------------------------------------------------------------


class SeenAverages:
    """Keeps the averages that every epoch began and ended with."""

    def __init__(self, **options):
        super().__init__(**options)
        self.beginnings, self.ends = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.beginnings.append(state_of(self._average_model.module))

    def on_train_epoch_end(self, trainer, pl_module):
        super().on_train_epoch_end(trainer, pl_module)
        self.ends.append(state_of(self._average_model.module))


class Ema(SeenAverages, EMAWeightAveraging):
    pass


class Averaged(SeenAverages, WeightAveraging):
    pass


@pytest.mark.parametrize("make", [lambda: Ema(decay=0.5), Averaged], ids=["EMA", "equal weights"])
def test_averages_go_back_with_the_weights_they_are_the_average_of(tmp_path, make):
    averages, states = make(), EpochStates()
    trainer, notes = build(tmp_path, averages, states)
    module = TunedModule(LOSSES)

    fit(trainer, module)

    assert notes.depths == DEPTHS
    for start, depth in STARTS.items():
        best = BEST[depth]
        assert same(states.beginnings[start], states.ends[best])
        assert same(averages.beginnings[start], averages.ends[best])
        assert not same(averages.beginnings[start], states.beginnings[start])
    # What is trained does not depend on the averages; what the training leaves are the averages.
    assert same(states.ends[-1], trained_by_hand(restore_best=True))
    assert same(state_of(module), averages.ends[-1])


def test_averages_go_on_when_nothing_is_restored(tmp_path):
    averages, states = Ema(decay=0.5), EpochStates()
    trainer, notes = build(tmp_path, averages, states, restore_best=False)

    fit(trainer, TunedModule())

    assert notes.depths == DEPTHS
    assert all(same(averages.beginnings[start], averages.ends[start - 1]) for start in STARTS)
    assert same(states.ends[-1], trained_by_hand(restore_best=False))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
def test_a_run_with_averages_resumes_with_the_same_bits(tmp_path):
    def run(**options):
        every = ModelCheckpoint(tmp_path / "every", filename="{epoch}", save_top_k=-1)
        trainer, _ = build(tmp_path, Ema(decay=0.5), every)
        module = TunedModule(LOSSES)
        fit(trainer, module, **options)
        return state_of(module)

    whole = run()

    assert same(run(ckpt_path=tmp_path / "every" / "epoch=2.ckpt"), whole)


def test_averages_beside_an_adapter_that_saves_other_names_are_refused(tmp_path):
    class Renaming(StrategyAdapter):
        checkpoint_names = "renamed"

    settings = {"custom_strategy_adapters": {"auto": Renaming}}
    trainer, _ = build(tmp_path, EMAWeightAveraging(), settings=settings)

    with pytest.raises(
        ConfigError, match=r"EMAWeightAveraging saves the averaged weights under the module's own names"
    ):
        fit(trainer, TunedModule())


def test_averages_that_cannot_be_restored_stop_the_transition(tmp_path):
    class Forgets(EMAWeightAveraging):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            super().on_save_checkpoint(trainer, pl_module, checkpoint)
            del checkpoint["current_model_state"]["head.bias"]

    trainer, notes = build(tmp_path, Forgets())

    with pytest.raises(CheckpointError, match=r'best.epoch=0\.ckpt: Forgets failed .*(?s:.*)"head\.bias"'):
        fit(trainer, TunedModule(LOSSES))

    assert notes.depths == [0, 0]


@BOTH
def test_stochastic_averaging_in_the_last_phase_averages_its_epochs(tmp_path, restore_best):
    states = EpochStates()
    # Counted from 1: the averages are taken at the start of epochs 5, 6 and 7 (counted from 0).
    swa = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=6, annealing_epochs=1)
    trainer, notes = build(tmp_path, swa, states, restore_best=restore_best, epochs=8)
    module = TunedModule(LOSSES)

    fit(trainer, module)

    # A module with batch norm gets one epoch more, for its statistics.
    assert notes.depths == [*DEPTHS, 2, 2, 2]
    expected = mean_of(states.beginnings[5:8], dict(module.named_parameters()))
    torch.testing.assert_close(dict(module.named_parameters()), expected)


@BOTH
def test_stochastic_averaging_that_begins_before_the_last_phase_is_refused(tmp_path, restore_best):
    swa = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=0.5)
    trainer, notes = build(tmp_path, swa, restore_best=restore_best)

    with pytest.raises(
        ConfigError, match=r"begins at epoch 2 .*phase 2, the last one, begins at epoch 4\. .*EMAWeight"
    ):
        fit(trainer, TunedModule())

    assert not notes.epochs


def test_stochastic_averaging_is_refused_where_early_stopping_alone_ends_a_phase(tmp_path):
    schedule = {**SCHEDULE, 1: {"params": ["layers.1.*"]}}
    swa = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=5)
    stopping = FTSEarlyStopping("val_loss")
    trainer = make_trainer(tmp_path, FinetuningScheduler(schedule, restore_best=False), stopping, swa, max_epochs=6)

    with pytest.raises(
        ConfigError,
        match=r"begins when early stopping or another criterion ends the phase before\. .*max_transition_epoch",
    ):
        fit(trainer, TunedModule())


def test_stochastic_averaging_may_begin_at_any_time_in_a_schedule_of_one_phase(tmp_path):
    swa = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)
    stopping, notes = FTSEarlyStopping("val_loss", patience=99), Notes()
    scheduler = FinetuningScheduler({0: {"params": ["head.*"]}}, restore_best=False)

    fit(make_trainer(tmp_path, scheduler, stopping, swa, notes, max_epochs=3), TunedModule())

    assert notes.depths == [0, 0, 0, 0]


# -- callbacks that thaw -------------------------------------------------------------------------------------------


class OwnFinetuning(BaseFinetuning):
    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.layers)

    def finetune_function(self, pl_module, epoch, optimizer):
        self.unfreeze_and_add_param_group(pl_module.layers, optimizer)


@BOTH
@pytest.mark.parametrize("make", [BackboneFinetuning, OwnFinetuning])
@pytest.mark.parametrize("of_the_module", [False, True], ids=["of the Trainer", "of the module"])
def test_another_callback_that_thaws_is_refused(tmp_path, restore_best, make, of_the_module):
    module, other = TunedModule(), make()
    if of_the_module:
        module.configure_callbacks = lambda: [other]
    trainer, _ = build(tmp_path, *([] if of_the_module else [other]), restore_best=restore_best)

    with pytest.raises(
        ConfigError, match=rf"{make.__name__} freezes and thaws parameters too.* Remove {make.__name__}"
    ):
        fit(trainer, module)


# -- callbacks of the module ---------------------------------------------------------------------------------------


def test_the_callbacks_of_a_module_may_be_all_there_are(tmp_path):
    notes, states = Notes(), EpochStates()

    class Configured(TunedModule):
        def configure_callbacks(self):
            return [
                FinetuningScheduler(SCHEDULE),
                EarlyStopping("val_loss", patience=99),
                ModelCheckpoint(tmp_path / "best", monitor="val_loss"),
                states,
            ]

    trainer = make_trainer(tmp_path, notes, max_epochs=6)
    module = Configured(LOSSES)
    fit(trainer, module)

    assert notes.depths == DEPTHS
    assert same(state_of(module), trained_by_hand(restore_best=True))


# -- learning rates ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("first", [True, False], ids=["before the scheduler", "after it"])
def test_the_learning_rate_monitor_follows_groups_that_are_added(tmp_path, restore_best, first):
    monitor = LearningRateMonitor("step", log_momentum=True, log_weight_decay=True)
    logger = CSVLogger(tmp_path, "logs")
    trainer, _ = build(tmp_path, monitor, restore_best=restore_best, logger=logger, log_every_n_steps=1)
    if first:
        trainer.callbacks.remove(monitor)
        trainer.callbacks.insert(0, monitor)

    fit(trainer, TunedModule(LOSSES))

    assert monitor.lrs == {"lr-SGD/pg1": [0.1] * 12, "lr-SGD/pg2": [0.05] * 8, "lr-SGD/pg3": [0.01] * 4}
    assert monitor.last_momentum_values["lr-SGD/pg3-momentum"] == 0.9
    with (tmp_path / "logs" / "version_0" / "metrics.csv").open() as file:
        logged = [row for row in csv.DictReader(file) if row["lr-SGD/pg3"]]
    assert [(row["step"], row["lr-SGD/pg2"]) for row in logged] == [(step, "0.05") for step in ("8", "9", "10", "11")]


class WithRate(TunedModule):
    def __init__(self, *arguments):
        super().__init__(*arguments, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=self.lr))
        self.lr, self.batch_size = 0.1, 2


class ManyBatches(Batches):
    """As many as a learning-rate finder needs."""

    def __init__(self):
        super().__init__()
        self._batches = self._batches * 10


@BOTH
def test_a_rate_found_by_the_tuner_is_trained_with_from_phase_zero(tmp_path, restore_best):
    trainer, notes = build(tmp_path, restore_best=restore_best)
    module = WithRate(LOSSES)
    before = state_of(module)

    found = Tuner(trainer).lr_find(module, ManyBatches(), Batches(1), num_training=20, attr_name="lr").suggestion()

    assert same(state_of(module), before)
    assert module.lr == found
    trainer.fit(module, Batches(), Batches(1))
    assert notes.depths == DEPTHS
    assert [epoch.lrs for epoch in notes.epochs[::2]] == [(found,), (found, 0.05), (found, 0.05, 0.01)]


@BOTH
@pytest.mark.parametrize("first", [True, False], ids=["before the scheduler", "after it"])
def test_a_rate_found_by_a_callback_is_trained_with_from_phase_zero(tmp_path, restore_best, first):
    finder = LearningRateFinder(num_training_steps=20, attr_name="lr")
    trainer, notes = build(tmp_path, finder, restore_best=restore_best)
    if first:
        trainer.callbacks.remove(finder)
        trainer.callbacks.insert(0, finder)
    module = WithRate(LOSSES)

    trainer.fit(module, ManyBatches(), Batches(1))

    found = finder.optimal_lr.suggestion()
    assert notes.depths == DEPTHS
    assert module.lr == found != 0.1
    assert [epoch.lrs for epoch in notes.epochs[::2]] == [(found,), (found, 0.05), (found, 0.05, 0.01)]


def test_a_finder_in_the_middle_of_the_training_leaves_the_phases_alone(tmp_path):
    class AtEpochThree(LearningRateFinder):
        def on_fit_start(self, trainer, pl_module):
            pass

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 3:
                self.lr_find(trainer, pl_module)

    def run(*finder):
        torch.manual_seed(0)
        trainer, notes = build(tmp_path / str(len(finder)), *finder)
        module = WithRate(LOSSES)
        trainer.fit(module, ManyBatches(), Batches(1))
        return notes, state_of(module)

    finder = AtEpochThree(num_training_steps=20, attr_name="lr", update_attr=False)
    with_finder, without = run(finder), run()

    assert finder.optimal_lr is not None
    assert with_finder[0].epochs == without[0].epochs
    assert same(with_finder[1], without[1])


# -- batch sizes ---------------------------------------------------------------------------------------------------


class WithLoader(WithRate):
    def train_dataloader(self):
        x, y = (torch.cat(parts) for parts in zip(*Batches(), strict=True))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=self.batch_size)

    def val_dataloader(self):
        return Batches(1)


@BOTH
@pytest.mark.parametrize("as_callback", [True, False], ids=["callback", "tuner"])
def test_a_batch_size_that_was_found_is_trained_with_from_phase_zero(tmp_path, restore_best, as_callback):
    options = {"steps_per_trial": 1, "init_val": 2, "max_trials": 2}
    finder = [BatchSizeFinder(**options)] if as_callback else []
    trainer, notes = build(tmp_path, *finder, restore_best=restore_best)
    module = WithLoader(LOSSES)
    before = state_of(module)
    if not as_callback:
        Tuner(trainer).scale_batch_size(module, **options)
        assert same(state_of(module), before)

    trainer.fit(module)

    assert module.batch_size == 4
    assert notes.depths == DEPTHS
    # Batches() has two batches of four rows too. The weights are those of a run that began with that size.
    torch.manual_seed(0)
    expected = train_by_hand(WithRate(), SCHEDULE, STARTS, epochs=6, best=BEST if restore_best else None)
    assert same(state_of(module), expected)
