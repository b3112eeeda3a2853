"""What Lightning still calls when a run fails, and that a StrategySeam is gone afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import OnExceptionCheckpoint

import seam_processes
from process_runner import run_script
from seam_recorder import (
    STRATEGIES,
    Batches,
    Journal,
    RecordedModule,
    Recorder,
    events_of_process,
    leaving_no_process_group,
    make_trainer,
    shadowed_methods,
)

pytestmark = [
    # A fit without ckpt_path beside an OnExceptionCheckpoint looks for its file.
    pytest.mark.filterwarnings("ignore:.*The last model of the previous `fit` call will be used:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*there is no last checkpoint available:UserWarning"),
]

BEFORE_TRAINING = (
    "callback.setup",
    "module.setup",
    "module.configure_model",
    "strategy.setup: entered",
    "module.configure_optimizers",
    "strategy.setup: left",
    "callback.on_fit_start",
)

# `callback.teardown` is missing.
AFTER_AN_EXCEPTION = ("callback.on_exception", "strategy.teardown")

AFTER_AN_EXCEPTION_WITH_AN_EMERGENCY_CHECKPOINT = (
    "callback.on_exception",
    "strategy.lightning_module_state_dict",
    "callback.state_dict",
    "callback.on_save_checkpoint",
    "strategy.save_checkpoint",
    "strategy.teardown",
)

RESUMED_FROM_THE_EMERGENCY_CHECKPOINT = (
    "callback.setup",
    "module.setup",
    "module.configure_model",
    "strategy.load_checkpoint",
    "module.on_load_checkpoint",
    "strategy.load_model_state_dict",
    "callback.on_load_checkpoint",
    "callback.load_state_dict",
    "strategy.setup: entered",
    "module.configure_optimizers",
    "strategy.setup: left",
    "callback.on_fit_start",
    "strategy.load_optimizer_state_dict",
    "strategy.teardown",
    "callback.on_fit_end",
    "callback.teardown",
)

BEFORE_READING = {
    "single_device": BEFORE_TRAINING[:3],
    "ddp": BEFORE_TRAINING[:3],
    "model_parallel, sharded file": BEFORE_TRAINING,
    "model_parallel, full file": BEFORE_TRAINING,
}


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_emergency_checkpoint_passes_the_seam_after_on_exception(strategy: str, tmp_path: Path) -> None:
    journal = Journal(fail_at="module.training_step")
    # Given first, to show that Lightning moves it last.
    trainer = make_trainer(STRATEGIES[strategy](1), OnExceptionCheckpoint(tmp_path), Recorder(journal))

    run_into_error(trainer, journal)

    assert tuple(journal.events) == (*BEFORE_TRAINING, *AFTER_AN_EXCEPTION_WITH_AN_EMERGENCY_CHECKPOINT)
    assert shadowed_methods(trainer.strategy) == set()


def test_a_fit_without_ckpt_path_resumes_from_the_emergency_checkpoint(tmp_path: Path) -> None:
    journal = Journal(fail_at="module.training_step")
    trainer = make_trainer("auto", OnExceptionCheckpoint(tmp_path), Recorder(journal))
    run_into_error(trainer, journal)
    journal.events.clear()
    journal.fail_at = None

    trainer.fit(RecordedModule(journal), Batches(), Batches())

    assert tuple(journal.events) == RESUMED_FROM_THE_EMERGENCY_CHECKPOINT
    assert shadowed_methods(trainer.strategy) == set()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("point", BEFORE_TRAINING[1:])
def test_an_exception_during_setup_still_tears_the_strategy_down(strategy: str, point: str) -> None:
    journal = Journal(fail_at=point)
    trainer = make_trainer(STRATEGIES[strategy](1), Recorder(journal))

    run_into_error(trainer, journal)

    reached = BEFORE_TRAINING[: BEFORE_TRAINING.index(point) + 1]
    assert tuple(journal.events) == (*reached, *AFTER_AN_EXCEPTION)
    assert shadowed_methods(trainer.strategy) == set()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_checkpoint_that_cannot_be_read_ends_the_resume_at_load_checkpoint(strategy: str, tmp_path: Path) -> None:
    journal = Journal()
    trainer = make_trainer(STRATEGIES[strategy](1), Recorder(journal))

    with pytest.raises((FileNotFoundError, ValueError), match="no_such_file"):
        trainer.fit(RecordedModule(journal), Batches(), Batches(), ckpt_path=tmp_path / "no_such_file.ckpt")

    assert tuple(journal.events) == (*BEFORE_READING[strategy], "strategy.load_checkpoint", *AFTER_AN_EXCEPTION)
    assert shadowed_methods(trainer.strategy) == set()


def test_a_keyboard_interrupt_tears_the_strategy_down_like_an_exception() -> None:
    journal = Journal(fail_at="module.training_step", error=KeyboardInterrupt())
    trainer = make_trainer("auto", Recorder(journal))
    handler = signal.getsignal(signal.SIGINT)

    try:
        with pytest.raises(SystemExit):
            trainer.fit(RecordedModule(journal), Batches(), Batches())
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores the signal from then on

    assert tuple(journal.events) == (*BEFORE_TRAINING, *AFTER_AN_EXCEPTION)
    assert shadowed_methods(trainer.strategy) == set()


def test_forked_processes_leave_the_exception_to_a_main_process_that_was_never_set_up(tmp_path: Path) -> None:
    run_script(Path(seam_processes.__file__), str(tmp_path), "forked")

    # The emergency checkpoint is written by the main process, from weights that were not trained.
    assert events_of_process(tmp_path / "events", "main process") == [
        "callback.on_exception",
        "callback.state_dict",
        "callback.on_save_checkpoint",
        "ProcessRaisedException",
        "shadowed methods: []",
    ]
    # The process that fails second may be ended on its way.
    reached = [tuple(events_of_process(tmp_path / "events", f"rank {rank}")) for rank in (0, 1)]
    assert BEFORE_TRAINING in reached
    assert all(events == BEFORE_TRAINING[: len(events)] for events in reached)


def run_into_error(trainer: pl.Trainer, journal: Journal) -> None:
    with pytest.raises(type(journal.error), match="stop here"):
        trainer.fit(RecordedModule(journal), Batches(), Batches())
