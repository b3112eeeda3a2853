"""What is read from the record of a run, and from what its loggers wrote."""

import csv

import pytest

from phasewire.adapters import ConfigError
from phasewire.app.report.metric_files import read_metric_files
from phasewire.app.report.panels import Line, lr_lines, metric_panels, thinned
from phasewire.app.report.story import find_record, read_story
from recorded import Recording


def spans_of(story):
    return [(span.began.phase, span.began.epoch, span.end_epoch) for span in story.spans]


def test_phases_last_until_the_next_one_begins(tmp_path):
    story = read_story(Recording(tmp_path).whole().path)

    assert spans_of(story) == [(0, 0, 3), (1, 3, 6), (2, 6, 9)]
    assert list(story.epochs) == list(range(9))
    # Of phase 0: three checkpoints, three epochs, and the event with which the next begins.
    assert [span.seconds for span in story.spans] == [7, 7, 7]


def test_a_run_that_is_resumed_in_the_same_folder_goes_on(tmp_path):
    recording = Recording(tmp_path).whole(epochs=range(5), ends=False)
    recording.fit_began(epoch=4, resumed_from=str(tmp_path / "checkpoints" / "last.ckpt"))
    recording.phase_began(1, 4)
    recording.epoch_ended(4, 1, {"val_loss": 77.0})

    story = read_story(recording.path)

    assert spans_of(story) == [(0, 0, 3), (1, 3, 5)]
    assert [story.epochs[number].metrics["val_loss"] for number in (3, 4)] == [0.25, 77.0]
    assert [each.epoch for each in story.resumes] == [4]
    assert story.ended is None
    assert story.remarks == []


def test_a_run_that_is_resumed_at_the_end_of_a_phase_has_that_phase_once(tmp_path):
    recording = Recording(tmp_path).whole(epochs=range(5), ends=False)
    recording.fit_began(epoch=3, resumed_from=str(tmp_path / "checkpoints" / "epoch=2.ckpt"))
    recording.phase_began(0, 3)
    recording.phase_began(1, 3)
    recording.epoch_ended(3, 1)

    assert spans_of(read_story(recording.path)) == [(0, 0, 3), (1, 3, 4)]


def test_a_run_that_is_resumed_in_another_folder_goes_on_from_the_record_beside_its_checkpoint(tmp_path):
    first = Recording(tmp_path / "version_0").whole(epochs=range(7), ends=True)
    second = Recording(tmp_path / "version_1")
    second.fit_began(epoch=5, resumed_from=str(first.folder / "checkpoints" / "last.ckpt"))
    second.phase_began(1, 5)
    second.epoch_ended(5, 1)

    story = read_story(second.path)

    assert spans_of(story) == [(0, 0, 3), (1, 3, 6)]
    assert list(story.epochs) == [0, 1, 2, 3, 4, 5]
    assert story.record == second.path


def test_it_is_said_when_what_came_before_a_resume_is_not_there(tmp_path):
    recording = Recording(tmp_path)
    recording.fit_began(epoch=5, resumed_from="/gone/checkpoints/last.ckpt")
    recording.phase_began(1, 5)

    (remark,) = read_story(recording.path).remarks

    assert "the record of what came before was not found" in remark


def test_a_run_that_goes_on_from_another_run_is_not_glued_to_what_stands_before_it(tmp_path):
    other = Recording(tmp_path / "other").whole(epochs=range(4))
    recording = Recording(tmp_path / "mine").whole()
    recording.fit_began(epoch=2, resumed_from=str(other.folder / "checkpoints" / "epoch=1.ckpt"))
    recording.phase_began(0, 2)
    recording.epoch_ended(2, 0, {"val_loss": 77.0})
    recording.fit_began(epoch=5, resumed_from="/gone/checkpoints/last.ckpt")
    recording.phase_began(1, 5)

    story = read_story(recording.path)

    assert spans_of(story) == [(1, 5, 5)]
    assert "record of what came before was not found" in story.remarks[0]
    assert story.remarks[1] == "2 earlier runs wrote to the same record; only the newest is shown."
    recording.path.write_text("".join(recording.path.read_text().splitlines(keepends=True)[:-2]))
    story = read_story(recording.path)
    assert (spans_of(story), list(story.epochs)) == ([(0, 0, 3)], [0, 1, 2])
    assert {each.path.split("/")[-3] for each in story.checkpoints if each.epoch < 2} == {"other"}
    assert story.remarks == ["1 earlier run wrote to the same record; only the newest is shown."]


def test_of_several_runs_in_the_record_beside_a_checkpoint_the_one_that_wrote_it_is_taken(tmp_path):
    first = Recording(tmp_path / "version_0").whole(epochs=range(5))
    first.fit_began()
    first.phase_began(0, 0)
    first.write("checkpoint_saved", path=str(tmp_path / "elsewhere" / "last.ckpt"), epoch=0, phase=0)
    for resumed_from, epochs in (
        (first.folder / "checkpoints" / "epoch=3.ckpt", [0, 1, 2, 3]),
        (first.folder / "checkpoints" / "last.ckpt", []),  # not known of either: the newest
    ):
        second = Recording(tmp_path / resumed_from.stem)
        second.fit_began(epoch=4, resumed_from=str(resumed_from))
        second.phase_began(1, 4)
        assert list(read_story(second.path).epochs) == epochs


def test_two_runs_may_go_on_from_the_same_checkpoint(tmp_path):
    recording = Recording(tmp_path).whole(epochs=range(6))
    for epoch, value in ((2, 1.0), (5, 2.0)):
        recording.fit_began(epoch=epoch, resumed_from=str(tmp_path / "checkpoints" / f"epoch={epoch - 1}.ckpt"))
        recording.phase_began(epoch // 3, epoch)
        recording.epoch_ended(epoch, epoch // 3, {"val_loss": value})

    story = read_story(recording.path)

    assert list(story.epochs) == [0, 1, 2, 3, 4, 5]
    assert [story.epochs[number].metrics["val_loss"] for number in (2, 5)] == [1 / 3, 2.0]


@pytest.mark.parametrize(
    ("checkpoint", "folders"), [("hpc_ckpt_1.ckpt", []), ("snaps/a.ckpt", ["snaps"]), ("exported.ckpt", None)]
)
def test_a_checkpoint_outside_of_the_log_folder_is_known_by_where_the_run_saves(tmp_path, checkpoint, folders):
    recording = Recording(tmp_path / "logs" / "version_0")
    recording.fit_began(checkpoint_folders=[str(tmp_path / folder) for folder in folders or []])
    recording.phase_began(0, 0)
    recording.fit_began(epoch=1, resumed_from=str(tmp_path / checkpoint))
    recording.phase_began(0, 1)

    assert len(read_story(recording.path).remarks) == (2 if folders is None else 0)


def test_records_that_resume_each_other_do_not_go_round(tmp_path):
    one, two = Recording(tmp_path / "one"), Recording(tmp_path / "two")
    for recording, other in ((one, two), (two, one)):
        recording.fit_began(epoch=5, resumed_from=str(other.folder / "checkpoints" / "last.ckpt"))
        recording.phase_began(1, 5)

    assert spans_of(read_story(one.path)) == [(1, 5, 5)]


def test_of_several_runs_in_one_record_the_newest_is_shown(tmp_path):
    recording = Recording(tmp_path).whole(epochs=range(2))
    recording.whole(epochs=range(4))

    story = read_story(recording.path)

    assert len(story.epochs) == 4
    assert story.remarks == ["1 earlier run wrote to the same record; only the newest is shown."]


def test_events_of_a_later_release_are_passed_over(tmp_path):
    recording = Recording(tmp_path).whole()
    recording.write("something_new", field=1)

    assert "1 line of the record could not be read" in read_story(recording.path).remarks[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "There is no such folder"),
        (lambda folder: folder, "leaves phasewire_run.jsonl in its log folder"),
    ],
)
def test_a_folder_without_a_run_is_an_error_that_says_what_is_looked_for(tmp_path, make, message):
    with pytest.raises(ConfigError, match=message):
        find_record(make(tmp_path))


def test_a_folder_with_several_runs_is_an_error_that_lists_them(tmp_path):
    for name in ("version_0", "version_1"):
        Recording(tmp_path / name).whole()

    with pytest.raises(ConfigError, match=r"2 runs here(.|\n)*version_0\n.*version_1"):
        find_record(tmp_path)


def test_a_record_without_a_fit_is_an_error(tmp_path):
    recording = Recording(tmp_path)
    recording.phase_began(0, 0)

    with pytest.raises(ConfigError, match="tells of no fit that began"):
        read_story(recording.path)


# -- metrics -----------------------------------------------------------------------------------------------------------


def write_csv(folder, rows):
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "epoch", "train_loss_step", "grad_norm", "phasewire/phase"])
        writer.writeheader()
        writer.writerows(rows)


def test_training_and_validation_of_one_quantity_share_a_panel(tmp_path):
    story = read_story(Recording(tmp_path).whole().path)

    panels = metric_panels(story, {})

    assert [(panel.title, [line.label for line in panel.lines]) for panel in panels] == [
        ("loss", ["train_loss", "val_loss"]),
        ("val_accuracy", ["val_accuracy"]),
    ]


def test_values_of_steps_lie_within_their_epoch(tmp_path):
    story = read_story(Recording(tmp_path).whole().path)
    write_csv(tmp_path, [{"step": step, "grad_norm": step} for step in range(18)])

    values, remarks = read_metric_files([tmp_path])
    line = next(line for panel in metric_panels(story, values) for line in panel.lines if line.label == "grad_norm")

    assert remarks == []
    assert list(line.x[:4]) == [-0.25, 0.25, 0.75, 1.25]
    assert list(line.y) == list(range(18))
    assert line.is_fine


def test_what_phasewire_logs_itself_is_no_metric(tmp_path):
    write_csv(tmp_path, [{"step": 0, "phasewire/phase": 1, "grad_norm": 2}])

    assert dict(read_metric_files([tmp_path])[0]) == {"grad_norm": [(0, 2.0)]}


def test_lines_without_a_finite_step_are_left_out(tmp_path):
    write_csv(tmp_path, [{"step": step, "grad_norm": 2} for step in ("inf", 0, "nan", "")])

    values, remarks = read_metric_files([tmp_path])

    assert dict(values) == {"grad_norm": [(0, 2.0)]}
    assert remarks == ["2 lines of metrics.csv are left out, whose step is no finite number."]


def test_event_files_that_cannot_be_read_are_told_of(tmp_path):
    (tmp_path / "events.out.tfevents.1").mkdir()
    write_csv(tmp_path, [{"step": 0, "grad_norm": 2}])

    values, (remark,) = read_metric_files([tmp_path])

    assert dict(values) == {"grad_norm": [(0, 2.0)]}
    assert remark.startswith("The event files of TensorBoard could not be read: ")


def test_event_files_of_tensorboard_are_read(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(3):
            writer.add_scalar("grad_norm", step, step)

    assert dict(read_metric_files([tmp_path])[0]) == {"grad_norm": [(0, 0.0), (1, 1.0), (2, 2.0)]}


def test_without_tensorboard_it_is_said_what_is_not_shown(tmp_path, monkeypatch):
    (tmp_path / "events.out.tfevents.1").touch()
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.backend.event_processing.event_accumulator", None)

    values, (remark,) = read_metric_files([tmp_path])

    assert values == {}
    assert "pip install 'phasewire[tensorboard]'" in remark


def test_of_a_resumed_run_older_files_tell_what_came_before(tmp_path):
    for name, steps in (("old", range(6)), ("new", range(4, 8))):
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name, [{"step": step, "grad_norm": 10 * (name == "new")} for step in steps])

    values, _ = read_metric_files([tmp_path / "new", tmp_path / "old", tmp_path / "gone"])

    assert values["grad_norm"] == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 10), (5, 10), (6, 10), (7, 10)]


def test_what_lightning_gives_under_three_names_is_plotted_once(tmp_path):
    recording = Recording(tmp_path)
    recording.fit_began()
    recording.phase_began(0, 0)
    for epoch in range(3):
        recording.epoch_ended(epoch, 0, {"train_loss": 1.0, "train_loss_step": 1.1, "train_loss_epoch": 1.0})

    (panel,) = metric_panels(read_story(recording.path), {})

    assert [line.label for line in panel.lines] == ["train_loss"]


def test_thinning_keeps_what_stands_out():
    values = [0.0] * 5000
    values[1234], values[4321] = 99.0, -99.0
    line = thinned(Line("spiky", list(range(5000)), values))

    assert len(line.x) <= 400
    assert (max(line.y), min(line.y)) == (99.0, -99.0)
    assert list(line.x) == sorted(line.x)


def test_of_very_many_groups_the_lowest_and_the_highest_rate_are_plotted(tmp_path):
    recording = Recording(tmp_path)
    recording.fit_began()
    recording.phase_began(0, 0)
    for epoch in (0, 1):
        recording.write(
            "epoch_ended", epoch=epoch, step=epoch, phase=0, lrs=[], lr_range=[0.1, 0.5 + epoch], metrics={}
        )

    lowest, highest = lr_lines(read_story(recording.path))

    assert (lowest.x, lowest.y) == ([0, 1], [0.1, 0.1])
    assert (highest.x, highest.y) == ([0, 1], [0.5, 1.5])
