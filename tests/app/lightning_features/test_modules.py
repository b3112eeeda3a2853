"""What a module may do by itself: its optimization, its metrics, its lr schedulers."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import lr_scheduler
from torchmetrics import MeanMetric, MeanSquaredError

from by_hand import EpochStates, same, train_by_hand
from phasewire.app import ConfigError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
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


def build(tmp_path, *callbacks, restore_best=True, epochs=6, **settings):
    notes = Notes()
    if restore_best:
        parts = [
            FinetuningScheduler(SCHEDULE, **settings),
            FTSEarlyStopping("val_loss", patience=99),
            FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}"),
        ]
    else:
        parts = [
            FinetuningScheduler(ALL_EPOCHS, epoch_transitions_only=True, restore_best=False, **settings),
            ModelCheckpoint(tmp_path / "newest"),
        ]
    return make_trainer(tmp_path, *parts, notes, *callbacks, max_epochs=epochs), notes


def trained_by_hand(restore_best):
    torch.manual_seed(0)
    return train_by_hand(TunedModule(), SCHEDULE, STARTS, epochs=6, best=BEST if restore_best else None)


# -- manual optimization -------------------------------------------------------------------------------------------


class Manual(TunedModule):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()

    def on_train_epoch_end(self):
        if self.lr_schedulers() is not None:
            self.lr_schedulers().step()


@BOTH
def test_manual_optimization_ends_with_the_weights_of_a_plain_loop(tmp_path, restore_best):
    trainer, notes = build(tmp_path, restore_best=restore_best)
    module = Manual(LOSSES)

    fit(trainer, module)

    assert notes.depths == DEPTHS
    assert same(state_of(module), trained_by_hand(restore_best))


@BOTH
def test_an_lr_scheduler_stepped_by_hand_follows_the_phases(tmp_path, restore_best):
    trainer, notes = build(tmp_path, restore_best=restore_best)

    fit(trainer, Manual(LOSSES, scheduler=lambda optimizer: lr_scheduler.StepLR(optimizer, 1, gamma=0.5)))

    assert notes.epochs[5].lrs == (0.1 * 0.5**5, 0.05 * 0.5**3, 0.01 * 0.5)


# -- lr schedulers -------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("interval", "steps_an_epoch"), [("epoch", 1), ("step", 2)])
def test_an_lr_scheduler_keeps_its_interval_in_every_phase(tmp_path, restore_best, interval, steps_an_epoch):
    trainer, notes = build(tmp_path, restore_best=restore_best)

    fit(
        trainer,
        TunedModule(
            LOSSES,
            scheduler=lambda optimizer: {
                "scheduler": lr_scheduler.ExponentialLR(optimizer, 0.5),
                "interval": interval,
            },
        ),
    )

    for epoch in notes.epochs:
        steps = [(epoch.number - start) * steps_an_epoch for start in (0, 2, 4)][: epoch.depth + 1]
        assert epoch.lrs == tuple(lr * 0.5**step for lr, step in zip((0.1, 0.05, 0.01), steps, strict=False))


@BOTH
def test_no_lr_scheduler_leaves_the_rates_of_all_phases(tmp_path, restore_best):
    trainer, notes = build(tmp_path, restore_best=restore_best)

    fit(trainer, TunedModule(LOSSES))

    assert [epoch.lrs for epoch in notes.epochs[::2]] == [(0.1,), (0.1, 0.05), (0.1, 0.05, 0.01)]


def cyclic(optimizer):
    return {"scheduler": lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=4), "interval": "step"}


def test_an_untested_lr_scheduler_is_refused_with_the_ones_that_are_tested(tmp_path):
    trainer, _ = build(tmp_path)

    with pytest.raises(ConfigError, match=r"CyclicLR .*Use one of ConstantLR, .*allow_untested=True"):
        fit(trainer, TunedModule(LOSSES, scheduler=cyclic))


def test_an_untested_lr_scheduler_is_the_users_affair_if_allowed(tmp_path):
    trainer, notes = build(tmp_path, allow_untested=True, max_depth=0)

    fit(trainer, TunedModule(LOSSES, scheduler=cyclic))

    assert notes.depths == [0] * 6
    assert [epoch.lrs[0] for epoch in notes.epochs] == pytest.approx([0.01, 0.055, 0.1, 0.055, 0.01, 0.055])


# -- metrics -------------------------------------------------------------------------------------------------------


class WithMetrics(TunedModule):
    """Logs metric objects, one of them with its state in checkpoints."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.error = MeanSquaredError()
        self.seen = MeanMetric()
        self.seen.persistent(True)

    def training_step(self, batch, batch_idx):
        self.seen(batch[0].mean())
        self.log("seen", self.seen)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.error(self(x), y)
        self.log("val_loss", self.error)


def test_metrics_of_the_module_end_phases_and_find_the_best(tmp_path):
    notes, states = Notes(), EpochStates()
    checkpoint = FTSCheckpoint(tmp_path / "best", monitor="val_loss", mode="max", filename="{epoch}")
    # Training makes the error smaller, so as a score to be maximised it is at its best at first.
    stopping = FTSEarlyStopping("val_loss", mode="max", patience=1)
    schedule = {depth: {**phase, "max_transition_epoch": -1} for depth, phase in SCHEDULE.items()}
    trainer = make_trainer(tmp_path, FinetuningScheduler(schedule), stopping, checkpoint, notes, states)
    module = WithMetrics()

    fit(trainer, module)

    errors = [error_of(module, state) for state in states.ends]
    best = max(range(len(errors)), key=errors.__getitem__)
    assert notes.depths == [0, 0, 1, 2]
    assert float(checkpoint.best_model_score) == pytest.approx(errors[best])
    assert same(without_metrics(states.beginnings[3]), without_metrics(states.ends[best]))


def error_of(module, state):
    module.load_state_dict(state)
    module.eval()
    with torch.no_grad():
        return float(torch.stack([torch.nn.functional.mse_loss(module(x), y) for x, y in Batches(1)]).mean())


def without_metrics(state):
    return {name: value for name, value in state.items() if not name.startswith("seen")}


# -- several runs --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
@BOTH
@pytest.mark.parametrize("between", [None, "test", "validate", "predict"])
def test_a_second_fit_begins_anew_whatever_checkpoint_was_read_between(tmp_path, restore_best, between):
    trainer, notes = build(tmp_path, restore_best=restore_best)
    fit(trainer, TunedModule(LOSSES))
    first = list(notes.epochs)
    torch.manual_seed(0)
    module = TunedModule(LOSSES)
    if between is not None:
        # Into another module: loading changes the weights, as it should, and nothing else.
        other = TunedModule(LOSSES)
        getattr(trainer, between)(other, Batches(1), ckpt_path=trainer.checkpoint_callback.best_model_path)
        assert all(parameter.requires_grad for parameter in other.parameters())
        assert trainer.ckpt_path is not None
    notes.epochs.clear()
    trainer.fit_loop.epoch_progress.reset()

    fit(trainer, module)

    assert notes.epochs == first
    assert same(state_of(module), trained_by_hand(restore_best))
