"""What is logged: one line a transition, on rank 0, at a level of ours alone, and nothing is printed."""

import logging

import pytest
from lightning.pytorch.utilities import rank_zero_only

from phasewire.adapters import rank_zero
from phasewire.app import FinetuningScheduler
from watched import events_in

OURS = "lightning.pytorch.phasewire"


@pytest.fixture
def lines(caplog):
    """The lines of our logger, at INFO."""
    with caplog.at_level(logging.INFO):
        yield lambda: [record.getMessage() for record in caplog.records if record.name == OURS]


def test_each_transition_is_one_line_that_tells_all_of_it(train, tmp_path, lines):
    train()

    first, second, third = [line for line in lines() if line.startswith("Phase")]
    assert first == (
        "Phase 0 of 2 begins at epoch 0. Thawed 2 tensors with 5 parameters (head.weight, head.bias). Trained now: "
        "5 of 53 parameters (9.4%), lr 0.1."
    )
    assert second == (
        "Phase 1 of 2 begins at epoch 1, because max_transition_epoch ended phase 0. Thawed 2 tensors with 20 "
        "parameters (layers.1.weight, layers.1.bias). Trained now: 25 of 53 parameters (47.2%), lr 0.1, 0.02. Weights "
        f"were restored from the best checkpoint (phase 0, epoch 0, val_loss 3): {tmp_path / 'best' / 'epoch=0.ckpt'}"
    )
    assert third.startswith("Phase 2 of 2 begins at epoch 4, because early stopping ended phase 1. ")


def test_a_resumed_run_tells_where_it_goes_on(train, tmp_path, lines):
    train(max_epochs=2)
    checkpoint = tmp_path / "best" / "last.ckpt"

    train(max_epochs=4, resume=checkpoint)

    (line,) = [line for line in lines() if line.startswith("Training resumes")]
    assert line == (
        f"Training resumes in phase 1 of 2, at epoch 2, from {checkpoint}. Trained now: 25 of 53 parameters (47.2%), "
        "lr 0.1, 0.02."
    )


def test_nothing_is_printed(train, capsys):
    train()

    printed = capsys.readouterr()
    assert printed.out == ""


def test_other_ranks_are_silent(monkeypatch, caplog):
    monkeypatch.setattr(rank_zero_only, "rank", 1)

    with caplog.at_level(logging.DEBUG):
        rank_zero.info("It happened.")
        rank_zero.debug("It happened so.")

    assert caplog.records == []


def test_a_message_tells_the_place_in_our_code_that_it_comes_from(train, caplog):
    with caplog.at_level(logging.INFO):
        train(max_epochs=1)

    places = {record.filename for record in caplog.records if record.name == OURS}
    assert "fit_watch.py" in places
    assert "rank_zero.py" not in places


@pytest.mark.parametrize(("level", "is_said"), [("DEBUG", True), ("INFO", True), ("WARNING", False), (35, False)])
def test_the_level_is_that_of_our_logger_alone(train, caplog, level, is_said):
    others = [logging.getLogger(name) for name in (None, "lightning", "lightning.pytorch", "lightning.fabric")]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in others]

    train(max_epochs=2, settings={"logging_level": level})

    assert [(logger.level, list(logger.handlers), logger.propagate) for logger in others] == before
    assert any(record.name == OURS for record in caplog.records) == is_said
    FinetuningScheduler()  # the level of the others


def test_every_child_of_our_logger_follows_it(train):
    train(max_epochs=1, settings={"logging_level": "ERROR"})

    assert not logging.getLogger(f"{OURS}.something").isEnabledFor(logging.INFO)
    FinetuningScheduler()


def test_what_ends_the_fit_is_recorded(train, tmp_path):
    train()
    train(max_epochs=2)

    ends = [(event["how"], event["reason"]) for event in events_in(tmp_path) if event["event"] == "fit_ended"]
    assert ends == [("finished", "early stopping on val_loss"), ("finished", "max_epochs or max_steps was reached")]
