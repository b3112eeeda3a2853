"""What a fit replaces on the Trainer, the strategy, the module and the process is put back, however it ends."""

from __future__ import annotations

import logging
import signal

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, OnExceptionCheckpoint

from phasewire.adapters import Renaming, StrategyAdapter
from phasewire.adapters.rank_zero import LOGGER_NAME
from phasewire.app import CheckpointError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from resuming import differences, expected_warnings
from tuning import TunedModule, fit, make_trainer

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 1},
    1: {"params": ["layers.1.*"], "max_transition_epoch": 3},
    2: {"params": ["layers.0.*"], "max_transition_epoch": 5},
}


class BrokenError(Exception):
    """What a run ends with here."""


class Blocks(StrategyAdapter):
    """Stores other names than the module's."""

    def checkpoint_renamings(self):
        return {"blocks": Renaming({"layers": "blocks"})}


def raising_in(hook, *, error=BrokenError):
    def fails(self, *_, **__):
        raise error

    return type("Raising", (StrategyAdapter,), {hook: fails})


class Ending(Callback):
    """Ends a run when a batch of an epoch begins."""

    def __init__(self, error, epoch):
        self.error, self.epoch = error, epoch

    def on_train_batch_start(self, trainer, *_):
        if trainer.current_epoch == self.epoch:
            raise self.error


ENDINGS = {
    "it ends": {},
    "an exception in phase 1": {"callback": Ending(BrokenError(), 2)},
    "Ctrl+C in phase 1": {"callback": Ending(KeyboardInterrupt(), 2)},
    "the schedule is refused": {"adapter": raising_in("validate_ft_sched")},
    "the module is refused": {"adapter": raising_in("on_after_init_fts")},
    "the start is refused": {"adapter": raising_in("on_before_fts_fit_start")},
    "a restore is refused": {"adapter": raising_in("before_restore_model")},
    "a transition fails": {"adapter": raising_in("on_before_restore_optimizers_and_lrs")},
    "the connection is refused": {"adapter": raising_in("connect")},
}


def replaced(*objects):
    """The attributes that stand over methods of the class."""
    return {
        f"{type(each).__name__}.{name}"
        for each in objects
        for name, value in vars(each).items()
        if callable(value) and callable(getattr(type(each), name, None))
    }


def state_of_all(trainer, module):
    logger = logging.getLogger(LOGGER_NAME)
    return {
        "replaced": replaced(trainer, trainer.strategy, module, trainer.fit_loop),
        "checkpoint plug-in": type(trainer.strategy.checkpoint_io),
        "max_epochs": trainer.max_epochs,
        "statistics": [layer.track_running_stats for layer in module.modules() if hasattr(layer, "running_mean")],
        "logger": (logger.level, list(logger.handlers), logger.propagate),
        "SIGTERM": signal.getsignal(signal.SIGTERM),
        "hooks": [len(part._forward_hooks) + len(part._backward_hooks) for part in module.modules()],
    }


def run(folder, module, *, adapter=StrategyAdapter, callback=None, **options):
    scheduler = FinetuningScheduler(
        SCHEDULE,
        logging_level=logging.DEBUG,
        frozen_bn_track_running_stats=False,
        custom_strategy_adapters={"auto": adapter},
        **options,
    )
    callbacks = [scheduler, FTSEarlyStopping("val_loss", patience=99), FTSCheckpoint(folder, monitor="val_loss")]
    trainer = make_trainer(folder, *callbacks, *filter(None, [callback]), max_epochs=4)
    before = state_of_all(trainer, module)
    interrupt = signal.getsignal(signal.SIGINT)
    error = None
    try:
        with expected_warnings():
            fit(trainer, module)
    except (BrokenError, CheckpointError, SystemExit) as raised:
        error = raised
    finally:
        signal.signal(signal.SIGINT, interrupt)  # Lightning ignores it from a first Ctrl+C on
    return trainer, before, error


@pytest.mark.parametrize("ending", ENDINGS)
def test_everything_is_put_back_when(ending, tmp_path):
    module = TunedModule()

    trainer, before, error = run(tmp_path, module, **ENDINGS[ending])

    assert (error is None) == (ending == "it ends")
    assert state_of_all(trainer, module) == before


def test_the_run_itself_has_its_level_its_epochs_and_its_frozen_statistics(tmp_path):
    # Else the test above would see nothing that could be put back.
    seen = []

    class Looking(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append(state_of_all(trainer, pl_module))

    _, before, _ = run(tmp_path, TunedModule(), callback=Looking())

    assert {key for key, value in seen[0].items() if value != before[key]} == {
        "replaced",
        "max_epochs",
        "statistics",
        "logger",
        "SIGTERM",
    }


# -- checkpoints that are saved on an exception --------------------------------------------------------------------


KINDS = ("OnExceptionCheckpoint", "ModelCheckpoint(save_on_exception=True)")


def on_exception(folder, kind):
    if kind == "OnExceptionCheckpoint":
        return OnExceptionCheckpoint(folder / "saved")
    return ModelCheckpoint(
        folder / "saved", save_on_exception=True, save_top_k=-1, filename="{step}", every_n_epochs=99
    )


def train(folder, *callbacks, ckpt_path=None, best=None):
    torch.manual_seed(0)
    module = TunedModule((3.0, 2.0, 1.0, 4.0, 5.0, 6.0), only_trainable=False)
    scheduler = FinetuningScheduler(
        SCHEDULE,
        custom_strategy_adapters={"auto": Blocks},
        strategy_adapter_cfg={"checkpoint_names": "blocks"},
    )
    best = best or FTSCheckpoint(folder / "best", monitor="val_loss")
    trainer = make_trainer(folder, scheduler, EarlyStopping("val_loss", patience=99), best, *callbacks, max_epochs=5)
    with expected_warnings():
        try:
            fit(trainer, module, ckpt_path=ckpt_path)
        except BrokenError as error:
            return error
    return module.state_dict()


@pytest.mark.parametrize(
    ("kind", "epoch"),
    # Lightning's ModelCheckpoint saves none before the first step.
    [(kind, epoch) for kind in KINDS for epoch in (0, 1, 3) if epoch or kind == "OnExceptionCheckpoint"],
)
def test_what_is_saved_on_an_exception_has_the_adapters_names_and_is_resumed_to_the_bit(tmp_path, kind, epoch):
    whole = train(tmp_path / "whole")
    error = train(tmp_path / "cut", Ending(BrokenError(), epoch), on_exception(tmp_path / "cut", kind))
    assert isinstance(error, BrokenError)
    (path,) = (tmp_path / "cut" / "saved").glob("*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert {name.partition(".")[0] for name in saved["state_dict"]} == {"blocks", "head"}
    assert saved["phasewire"]["parameter_names"] == "blocks"

    resumed = train(tmp_path / "cut", on_exception(tmp_path / "cut", kind), ckpt_path=path)

    assert differences(dict(whole), dict(resumed)) == []


def test_what_is_saved_on_an_exception_does_not_replace_the_best_checkpoint_of_that_name(tmp_path):
    best = FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="best", save_on_exception=True)

    train(tmp_path, Ending(BrokenError(), 4), best=best)

    steps = {path.name: torch.load(path, weights_only=True)["global_step"] for path in (tmp_path / "best").iterdir()}
    assert steps == {"best.ckpt": 6, "best-v1.ckpt": 8}
    assert best.best_model_path == str(tmp_path / "best" / "best.ckpt")
