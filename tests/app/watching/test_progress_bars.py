"""The Trainer's progress bar shows the phase, and what ends it, whichever bar it is."""

import copy
import io
import pickle

import pytest
import rich
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar, TQDMProgressBar

from phasewire.app import FinetuningScheduler
from phasewire.app.watching.progress_bar import PhaseInBar
from phasewire.app.watching.standing import Standing
from tuning import TunedModule, make_trainer

AT_EPOCH = {
    0: "0/2 until val_loss patience 0/2 or epoch 1",
    1: "1/2 until val_loss patience 0/2",
    2: "1/2 until val_loss patience 0/2",
    3: "1/2 until val_loss patience 1/2",
    4: "2/2 until max_epochs 10 or val_loss patience 0/2",
    5: "2/2 until max_epochs 10 or val_loss patience 0/2",
    6: "2/2 until max_epochs 10 or val_loss patience 1/2",
}


class OwnBar(ProgressBar):
    """A bar of a user, with something of its own to show."""

    def disable(self):
        pass

    def get_metrics(self, trainer, pl_module):
        return super().get_metrics(trainer, pl_module) | {"mine": 7}


class OwnPhase(OwnBar):
    """A bar that shows a phase of the user's own."""

    def get_metrics(self, trainer, pl_module):
        return {"phase": "of the moon"}


class Shown(Callback):
    """Notes what the bar is given in every epoch."""

    def __init__(self):
        self.at_epoch = {}

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.at_epoch[trainer.current_epoch] = trainer.progress_bar_callback.get_metrics(trainer, pl_module)


class Fails(TunedModule):
    def on_train_epoch_start(self):
        if self.current_epoch == 2:
            raise ZeroDivisionError("a bug of the user")


def test_a_bar_is_given_the_phase_and_what_ends_it_beside_its_own(train):
    shown = Shown()

    train(OwnBar(), shown, enable_progress_bar=True)

    assert {epoch: metrics["phase"] for epoch, metrics in shown.at_epoch.items()} == AT_EPOCH
    assert all(metrics["mine"] == 7 for metrics in shown.at_epoch.values())


def test_a_limit_of_time_is_among_what_ends_the_last_phase(train):
    shown = Shown()

    train(OwnBar(), shown, enable_progress_bar=True, max_epochs=-1, max_time={"hours": 1})

    assert shown.at_epoch[4]["phase"] == "2/2 until max_time or val_loss patience 0/2"


def test_tqdm_shows_the_phase(train, capsys):
    train(TQDMProgressBar(), enable_progress_bar=True)

    assert "phase=1/2 until val_loss patience 1/2" in capsys.readouterr().out


def test_rich_shows_the_phase(train):
    file = io.StringIO()
    try:
        train(
            RichProgressBar(console_kwargs={"file": file, "force_terminal": True, "width": 200}),
            enable_progress_bar=True,
        )
    finally:
        rich.reconfigure()

    assert "phase: 1/2 until val_loss patience 1/2" in file.getvalue()


def test_the_phase_is_not_shown_where_it_is_not_wanted(train):
    shown = Shown()

    train(OwnBar(), shown, enable_progress_bar=True, settings={"progress_bar": False})

    assert all("phase" not in metrics for metrics in shown.at_epoch.values())


def test_a_metric_of_the_user_wins(train):
    shown = Shown()

    train(OwnPhase(), shown, enable_progress_bar=True)

    assert {metrics["phase"] for metrics in shown.at_epoch.values()} == {"of the moon"}


def test_the_bar_is_left_as_it_was(train):
    bar = OwnBar()

    train(bar, enable_progress_bar=True)

    assert "get_metrics" not in vars(bar)
    with pytest.raises(ZeroDivisionError):
        train(bar, enable_progress_bar=True, module=Fails())
    assert "get_metrics" not in vars(bar)


def test_what_a_user_has_put_on_the_bar_is_put_back(train):
    bar, shown = OwnBar(), Shown()

    def own(trainer, pl_module):
        return {"own": 1}

    bar.get_metrics = own
    train(bar, shown, enable_progress_bar=True)

    assert {**shown.at_epoch[1]} == {"phase": AT_EPOCH[1], "own": 1}
    assert bar.get_metrics is own


def test_a_bar_that_shows_the_phase_can_be_copied_and_pickled(tmp_path):
    bar = TQDMProgressBar()
    trainer = make_trainer(tmp_path, FinetuningScheduler(), bar, enable_progress_bar=True)
    in_bar = PhaseInBar(trainer)
    in_bar.show(Standing(depth=1, final_depth=3, trained=1, total=2, groups=(), rate_range=None, ends="epoch 4"))

    for twin in (copy.deepcopy(bar), pickle.loads(pickle.dumps(bar))):  # noqa: S301  # our own
        assert twin.get_metrics(trainer, None)["phase"] == "1/3 until epoch 4"
    in_bar.remove()
    assert "phase" not in bar.get_metrics(trainer, None)
