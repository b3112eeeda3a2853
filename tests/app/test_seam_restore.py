"""Going back to a checkpoint while a Trainer runs, as ``app/lightning_seams.py`` does it between phases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateFinder
from lightning.pytorch.plugins import Precision
from torch import nn
from torch.optim import Optimizer

from phasewire.app.lightning_seams import loading_checkpoint, restore_model_state, restore_optimizer_state
from seam_recorder import (
    STRATEGIES,
    Batches,
    Journal,
    RecordedModule,
    Recorder,
    adam_steps_of,
    leaving_no_process_group,
    make_trainer,
    weight_of,
)

RESTORED_MESSAGE = "Restored all states from the checkpoint"


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


class ScaledPrecision(Precision):
    """A precision plugin with a state, as the one with a gradient scaler has."""

    def __init__(self) -> None:
        self.scale = 1

    def state_dict(self) -> dict[str, int]:
        return {"scale": self.scale}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.scale = state_dict["scale"]


def learned(trainer: pl.Trainer) -> dict[str, float]:
    """What a restore brings back."""
    return {
        "weight": weight_of(trainer.lightning_module),
        "adam steps": adam_steps_of(trainer),
        "scale": trainer.precision_plugin.scale,
    }


def progress(trainer: pl.Trainer) -> dict[str, object]:
    """What a restore leaves alone."""
    (config,) = trainer.lr_scheduler_configs
    return {
        "epoch": trainer.current_epoch,
        "step": trainer.global_step,
        "scheduler steps": config.scheduler.last_epoch,
        "resumed from": trainer.ckpt_path,
    }


class GoesBack(Callback):
    """Saves after the first epoch and spoils the weights, trains one epoch with them, and goes back."""

    def __init__(self, journal: Journal, path: Path) -> None:
        self.journal = journal
        self.path = path

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: RecordedModule) -> None:
        if trainer.current_epoch == 1:
            self.saved = learned(trainer)
            trainer.save_checkpoint(self.path)
            with torch.no_grad():
                pl_module.layer.weight.mul_(7.0)
            trainer.precision_plugin.scale = 7
        if trainer.current_epoch == 2:
            self.progress_before, self.spoilt = progress(trainer), learned(trainer)
            self.journal.events.clear()
            with loading_checkpoint(trainer, str(self.path)) as self.checkpoint:
                restore_model_state(trainer)
                restore_optimizer_state(trainer)
            self.events = tuple(self.journal.events)
            self.progress_after, self.restored = progress(trainer), learned(trainer)


RESTORE = (
    "strategy.load_checkpoint",
    "module.on_load_checkpoint",
    "strategy.load_model_state_dict",
    "strategy.load_optimizer_state_dict",
)

CALL_ORDER = {
    "single_device": RESTORE,
    "ddp": RESTORE,
    "model_parallel, sharded file": RESTORE,
    "model_parallel, full file": RESTORE,
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_restore_within_a_fit_brings_back_what_was_learned_and_nothing_else(strategy: str, tmp_path: Path) -> None:
    journal = Journal()
    witness = GoesBack(journal, tmp_path / "saved.ckpt")
    trainer = make_trainer(
        STRATEGIES[strategy](1), Recorder(journal), witness, max_epochs=3, plugins=[ScaledPrecision()]
    )

    trainer.fit(RecordedModule(journal), Batches(), Batches())

    assert witness.events == CALL_ORDER[strategy]
    assert witness.restored == witness.saved
    assert witness.spoilt.items().isdisjoint(witness.saved.items())
    assert witness.progress_after == witness.progress_before
    assert witness.progress_before == {"epoch": 2, "step": 4, "scheduler steps": 2, "resumed from": None}
    assert witness.checkpoint["epoch"] == 1


def test_a_learning_rate_finder_saves_and_restores_everything_before_on_fit_start(tmp_path: Path) -> None:
    journal = Journal()
    module = RecordedModule(journal)
    module.lr = 0.1
    finder = LearningRateFinder(num_training_steps=3)

    make_trainer("auto", finder, Recorder(journal), default_root_dir=tmp_path).fit(module, Batches(), Batches())

    start, end = journal.events.index("strategy.setup: left") + 1, journal.events.index("callback.on_fit_start")
    # So a load_state_dict within a fit is no proof that the fit resumes.
    assert tuple(journal.events[start:end]) == (
        "strategy.lightning_module_state_dict",
        "callback.state_dict",
        "callback.on_save_checkpoint",
        "strategy.save_checkpoint",
        "strategy.load_checkpoint",
        "module.on_load_checkpoint",
        "strategy.load_model_state_dict",
        "callback.on_load_checkpoint",
        "callback.load_state_dict",
        "strategy.load_optimizer_state_dict",
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_after_a_validation_a_sharded_module_shows_parameters_that_its_optimizer_does_not_hold(strategy: str) -> None:
    held: dict[str, bool] = {}

    class LooksAtParameters(Callback):
        def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            held["on_fit_start"] = holds_all(trainer.optimizers[0], pl_module)

        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            held["on_validation_end"] = holds_all(trainer.optimizers[0], pl_module)

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            held["on_train_epoch_start"] = holds_all(trainer.optimizers[0], pl_module)

    trainer = make_trainer(STRATEGIES[strategy](1), LooksAtParameters(), max_epochs=2)
    trainer.fit(RecordedModule(Journal()), Batches(), Batches())

    # What loading_checkpoint undoes, and whatever else touches parameters between epochs must undo.
    whole = not strategy.startswith("model_parallel")
    assert held == {"on_fit_start": True, "on_validation_end": whole, "on_train_epoch_start": whole}


def holds_all(optimizer: Optimizer, module: nn.Module) -> bool:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return all(id(parameter) in held for parameter in module.parameters())


@pytest.fixture
def fitted(tmp_path: Path) -> pl.Trainer:
    """A Trainer that resumed from ``first.ckpt``, with ``best.ckpt`` beside it."""
    module = RecordedModule(Journal())
    trainer = make_trainer("auto")
    trainer.fit(module, Batches(), Batches())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    trainer = make_trainer("auto", max_epochs=2)
    trainer.fit(module, Batches(), Batches(), ckpt_path=tmp_path / "first.ckpt")
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    return trainer


def test_the_checkpoint_is_released_after_the_block(
    fitted: pl.Trainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with loading_checkpoint(fitted, str(tmp_path / "best.ckpt")) as checkpoint:
        assert checkpoint["epoch"] == 2
    with torch.no_grad():
        fitted.lightning_module.layer.weight.fill_(7.0)

    restore_model_state(fitted)

    assert weight_of(fitted.lightning_module) == 7.0
    assert fitted.ckpt_path == tmp_path / "first.ckpt"
    assert RESTORED_MESSAGE in caplog.text


def test_a_restore_that_fails_leaves_no_trace(
    fitted: pl.Trainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with (
        pytest.raises(ValueError, match="not this one"),
        loading_checkpoint(fitted, str(tmp_path / "best.ckpt")),
    ):
        raise ValueError("not this one")
    with torch.no_grad():
        fitted.lightning_module.layer.weight.fill_(7.0)

    restore_model_state(fitted)

    assert weight_of(fitted.lightning_module) == 7.0
    assert fitted.ckpt_path == tmp_path / "first.ckpt"
    assert RESTORED_MESSAGE not in caplog.text


def test_a_checkpoint_that_cannot_be_read_leaves_no_trace(fitted: pl.Trainer, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"), loading_checkpoint(fitted, str(tmp_path / "missing.ckpt")):
        pytest.fail("there is nothing to restore from")

    assert fitted.ckpt_path == tmp_path / "first.ckpt"


def test_objects_are_read_only_where_their_classes_are_known(fitted: pl.Trainer, tmp_path: Path) -> None:
    saved = tmp_path / "best.ckpt"
    torch.save({**torch.load(saved, weights_only=False), "somebody's": {Path("notes.txt")}}, saved)

    with pytest.raises(UnpicklingError, match="Path"), loading_checkpoint(fitted, str(saved)):
        pytest.fail("the file is not to be trusted")
    known = torch.serialization.safe_globals([type(Path())])
    with known, loading_checkpoint(fitted, str(saved)) as checkpoint:
        assert checkpoint["somebody's"] == {Path("notes.txt")}


def test_outside_a_fit_no_optimizer_state_is_restored(fitted: pl.Trainer, tmp_path: Path) -> None:
    journal = Journal()

    class RestoresWhileValidating(Callback):
        def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            journal.events.clear()
            with loading_checkpoint(trainer, str(tmp_path / "best.ckpt")):
                restore_model_state(trainer)
                restore_optimizer_state(trainer)
            self.events = tuple(journal.events)

    witness = RestoresWhileValidating()
    make_trainer("auto", Recorder(journal), witness).validate(RecordedModule(journal), Batches(), verbose=False)

    assert witness.events == RESTORE[:-1]
