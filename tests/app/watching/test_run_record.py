"""The record of a run: what it holds, and that it survives a crash, a resume and a full disk."""

import inspect
import json
import math
from collections import Counter

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from phasewire.adapters import ConfigError
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.watching.run_record import RunRecord, read_record
from tuning import TunedModule, fit, make_trainer
from watched import events_in

NAME = "phasewire_run.jsonl"


class NotANumber(TunedModule):
    def training_step(self, batch, batch_idx):
        self.log("odd", torch.tensor(math.nan))
        return super().training_step(batch, batch_idx)


class Fails(TunedModule):
    def on_train_epoch_start(self):
        if self.current_epoch == 2:
            raise ZeroDivisionError("a bug of the user")


def test_a_run_is_told_from_its_beginning_to_its_end(train, tmp_path):
    train(max_epochs=2)

    events = events_in(tmp_path)
    assert [event["event"] for event in events] == [
        "fit_began",
        "phase_began",
        "checkpoint_saved",
        "epoch_ended",
        "phase_began",
        "checkpoint_saved",
        "epoch_ended",
        "fit_ended",
    ]
    began, phase, saved, epoch, second = events[:5]
    assert (began["module"], began["parameters"], began["last_phase"], began["resumed_from"]) == (
        "TunedModule",
        53,
        2,
        None,
    )
    assert began["schedule"][1] == {
        "params": ["layers.1.weight", "layers.1.bias"],
        "max_transition_epoch": -1,
        "lr": 0.02,
    }
    assert began["versions"].keys() == {"phasewire", "lightning", "torch", "python"}
    assert (phase["phase"], phase["epoch"], phase["parameters"], phase["restored"]) == (0, 0, 5, None)
    assert (saved["path"], saved["score"]) == (str(tmp_path / "best" / "epoch=0.ckpt"), 3.0)
    assert (epoch["epoch"], epoch["step"], epoch["lrs"], epoch["metrics"]) == (0, 2, [0.1], {"val_loss": 3.0})
    assert second["restored"]["path"] == saved["path"]
    assert second["groups"] == [{"group": 1, "lr": 0.02, "phase": 1}]
    assert second["ended_by"] == ["epochs"]


def test_a_resumed_run_appends_to_the_same_record(train, tmp_path):
    train(max_epochs=2)
    before = (tmp_path / NAME).read_bytes()

    train(max_epochs=4, resume=tmp_path / "best" / "last.ckpt")

    assert (tmp_path / NAME).read_bytes().startswith(before)
    again = [event for event in events_in(tmp_path) if event["event"] == "fit_began"][1]
    assert (again["epoch"], again["resumed_from"]) == (2, str(tmp_path / "best" / "last.ckpt"))
    saved = Counter(event["path"] for event in events_in(tmp_path) if event["event"] == "checkpoint_saved")
    assert set(saved.values()) == {1}


def test_checkpoints_are_found_from_wherever_the_record_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = make_trainer(
        "run",
        FinetuningScheduler({0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}),
        FTSEarlyStopping("val_loss"),
        FTSCheckpoint(monitor="val_loss"),  # its folder follows from the one of the Trainer
        max_epochs=2,
    )
    fit(trainer, TunedModule([2.0, 1.0]))

    events = events_in(tmp_path / "run")
    paths = [event["path"] for event in events if event["event"] == "checkpoint_saved"]
    paths += [event["restored"]["path"] for event in events if event.get("restored")]
    paths.append(events[-1]["best_checkpoint"])
    assert len(paths) == 4
    assert all(path.startswith(str(tmp_path / "run" / "checkpoints")) for path in paths)


def test_the_epoch_before_a_crash_is_there(train, tmp_path):
    with pytest.raises(ZeroDivisionError):
        train(module=Fails([3.0, 2.0, 1.0]))

    events = events_in(tmp_path)
    assert [event["epoch"] for event in events if event["event"] == "epoch_ended"] == [0, 1]
    assert (events[-1]["event"], events[-1]["how"], events[-1]["reason"]) == (
        "fit_ended",
        "failed",
        "ZeroDivisionError: a bug of the user",
    )


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    record = RunRecord(tmp_path)
    record.append("one", {"number": 1})
    with record.path.open("ab") as file:
        file.write(b'{"event": "two", "numb')

    record.append("three", {"number": 3})

    stored = read_record(record.path)
    assert [(event["event"], event["number"]) for event in stored.events] == [("one", 1), ("three", 3)]
    assert stored.unreadable == 1


def test_a_line_of_brackets_within_brackets_counts_as_unreadable(tmp_path):
    path = tmp_path / "phasewire_run.jsonl"
    path.write_text(json.dumps({"event": "run_begun"}) + "\n" + "[" * 100_000 + "\n")
    assert read_record(path).unreadable == 1


def test_every_line_is_json_in_the_strict_sense(train, tmp_path):
    train(module=NotANumber([3.0]), max_epochs=1)

    def refuse(constant):
        raise ValueError(constant)

    for line in (tmp_path / NAME).read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    (epoch,) = [event for event in events_in(tmp_path) if event["event"] == "epoch_ended"]
    assert epoch["metrics"]["odd"] == "nan"


@pytest.mark.parametrize("options", [{"settings": {"run_record": False}}, {"fast_dev_run": 2}])
def test_none_is_written_where_none_is_wanted(train, tmp_path, options):
    train(**{"max_epochs": 1, **options})

    assert not (tmp_path / NAME).exists()


def test_a_run_goes_on_without_a_record_that_cannot_be_written(train, tmp_path):
    (tmp_path / NAME).mkdir()

    with pytest.warns(UserWarning, match=r"record of the run cannot be written .* Training goes on") as warned:
        trainer = train(max_epochs=2)

    assert trainer.current_epoch == 2
    assert len([each for each in warned if "record of the run" in str(each.message)]) == 1


def test_a_record_of_a_newer_format_is_refused(tmp_path):
    RunRecord(tmp_path).append("fit_began", {"format": 99})

    with pytest.raises(ConfigError, match="format 99, and this release of Phasewire reads 1"):
        read_record(tmp_path / NAME)


def test_tied_and_batch_norm_parameters_are_counted_once(tmp_path):
    from phasewire.app.watching.standing import Thawed

    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
    module[2].weight = module[0].weight
    thawed = Thawed(module)

    assert thawed.total == 4 + 2 + 2 + 2 + 2
    assert thawed.add(0, ["0.weight", "2.bias"]) == 6
    assert thawed.add(1, ["0.weight", "0.bias"]) == 6
    assert thawed.trained == 8
    assert thawed.phase_of("0.weight") == 0


class OwnMetrics(Callback):
    """Puts metrics of its own beside those that are logged, as a user may."""

    def on_validation_end(self, trainer, pl_module):
        trainer.callback_metrics.update(
            mine=1.5, count=np.int64(2), vector=torch.ones(2), text="a", wave=torch.tensor(1j), one=torch.ones(1, 1)
        )


@pytest.mark.parametrize("wanted", [True, False])
def test_metrics_of_a_callback_are_recorded_if_they_are_numbers(train, tmp_path, wanted):
    train(OwnMetrics(), max_epochs=1, settings={"run_record": wanted})

    if wanted:
        (epoch,) = [event for event in events_in(tmp_path) if event["event"] == "epoch_ended"]
        assert epoch["metrics"] == {"val_loss": 3.0, "mine": 1.5, "count": 2.0, "one": 1.0}


class CountingTrainer(pl.Trainer):
    """Counts how often the metrics are asked for when an epoch begins, where others than the record do not."""

    asked = 0

    @property
    def callback_metrics(self):
        names = {frame.function for frame in inspect.stack(context=0)}
        self.asked += "note_epoch" in names
        return super().callback_metrics


@pytest.mark.parametrize("wanted", [True, False])
def test_metrics_are_asked_for_only_where_a_record_is_wanted(tmp_path, wanted):
    scheduler = FinetuningScheduler(
        {0: {"params": [".*"], "max_transition_epoch": 2}}, epoch_transitions_only=True, run_record=wanted
    )
    options = {"accelerator": "cpu", "logger": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = CountingTrainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        callbacks=[scheduler, FTSCheckpoint(monitor="val_loss")],
        enable_progress_bar=False,
        **options,
    )

    fit(trainer, TunedModule([3.0, 2.0]))

    assert trainer.asked == (2 if wanted else 0)


class ToldPatience(int):
    """Counts how often it is told where the run stands."""

    told = 0

    def __format__(self, spec):
        type(self).told += 1
        return super().__format__(spec)


@pytest.mark.parametrize("wanted", ["progress_bar", "log_phase_metrics", "run_record", None])
def test_where_the_run_stands_is_asked_in_every_epoch_only_if_it_is_shown(train, wanted, monkeypatch):
    monkeypatch.setattr(ToldPatience, "told", 0)
    settings = {name: name == wanted for name in ("progress_bar", "log_phase_metrics", "run_record")}

    train(max_epochs=3, patience=ToldPatience(9), settings=settings)

    of_phases = 2
    assert ToldPatience.told == of_phases + (3 if wanted else 0)


def test_a_log_folder_elsewhere_gets_no_record_and_that_is_said_once(train, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO"):
        train(max_epochs=1, settings={"log_dir": "memory://logs"})

    assert caplog.text.count("No record of the run is written") == 1
    assert not list(tmp_path.rglob(NAME))
