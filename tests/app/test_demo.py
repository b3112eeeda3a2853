"""The demo: its run folder, its table, and that its ways do what they say."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
import yaml
from typer.testing import CliRunner

from phasewire.adapters import ConfigError
from phasewire.app.cli import app
from phasewire.app.demo import DemoWiring, DigitsClassifier, DigitsDataModule, RunResult, new_run_folder, summarize
from phasewire.app.demo.training import Training
from phasewire.containers import Container

WAYS = ["frozen", "everything", "scheduled"]
PHASES = [r"head\.", r"backbone\.block2\.", r"backbone\.block1\.", r"backbone\.stem\."]


def schedule(*patterns: str, epochs: int) -> dict[str, object]:
    """A section with a phase for each pattern, all of the same number of epochs."""
    phases = {
        depth: {"params": [pattern], "max_transition_epoch": (depth + 1) * epochs}
        for depth, pattern in enumerate(patterns)
    }
    return {"scheduler": {"ft_schedule": phases}}


SMALL = {
    "seeds": [0, 1],
    "pretrain": {"trainer": {"max_epochs": 2}, **schedule(".*", epochs=2)},
    "tune": {"trainer": {"max_epochs": 4}},
    "ways": {
        "frozen": schedule(PHASES[0], epochs=4),
        "everything": schedule(".*", epochs=4),
        "scheduled": schedule(*PHASES, epochs=1),
    },
}


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory):
    """A finished demo of two seeds and few epochs: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    result = CliRunner().invoke(app, ["demo", "--config", str(folder / "small.yaml"), "--output", str(folder / "run")])
    assert result.exit_code == 0, result.output
    return folder / "run", result


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_shows_mean_and_spread_of_the_metrics_file(small_demo):
    folder, result = small_demo
    rows = rows_of(folder / "metrics.csv")
    assert [(row["way"], row["seed"]) for row in rows] == [(way, seed) for seed in "01" for way in WAYS]
    shown = {
        cells[0]: cells for line in result.stdout.splitlines() if len(cells := re.split(r"\s*│\s*", line)[1:-1]) > 1
    }
    for way in WAYS:
        accuracy = [float(row["test_accuracy"]) for row in rows if row["way"] == way]
        trained = [float(row["trained_parameters"]) for row in rows if row["way"] == way]
        assert shown[way][1] == f"{mean(accuracy):.1%} ± {stdev(accuracy):.1%}"
        assert shown[way][2] == f"{mean(trained):,.0f} ± {stdev(trained):,.0f}"


def test_the_summary_file_agrees_with_the_metrics_file(small_demo):
    folder, _ = small_demo
    rows = rows_of(folder / "metrics.csv")
    for summary in json.loads((folder / "summary.json").read_text()):
        accuracy = [float(row["test_accuracy"]) for row in rows if row["way"] == summary["way"]]
        assert summary["runs"] == len(accuracy) == 2
        assert summary["test_accuracy"]["mean"] == pytest.approx(mean(accuracy))


def test_every_way_takes_the_same_number_of_steps(small_demo):
    folder, _ = small_demo
    # Four epochs of 50 images in batches of 25.
    assert {row["steps"] for row in rows_of(folder / "metrics.csv")} == {"8"}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_scheduled_run_thaws_phase_by_phase(small_demo, seed):
    folder, _ = small_demo
    thawed = thawed_by_epoch(folder / f"seed-{seed}" / "scheduled")
    model = DigitsClassifier()
    sizes = [
        sum(weight.numel() for weight in part.parameters())
        for part in (model.head, model.backbone.block2, model.backbone.block1, model.backbone.stem)
    ]
    assert thawed == [sum(sizes[: depth + 1]) for depth in range(4)]


def test_the_other_ways_thaw_once(small_demo):
    folder, _ = small_demo
    model = DigitsClassifier()
    head = sum(weight.numel() for weight in model.head.parameters())
    everything = sum(weight.numel() for weight in model.parameters())
    assert thawed_by_epoch(folder / "seed-0" / "frozen") == [head] * 4
    assert thawed_by_epoch(folder / "seed-0" / "everything") == [everything] * 4


def thawed_by_epoch(run_folder: Path) -> list[int]:
    (path,) = run_folder.rglob("metrics.csv")
    return [int(float(row["thawed_parameters"])) for row in rows_of(path) if row["thawed_parameters"]]


def test_frozen_changes_only_the_head(small_demo):
    folder, _ = small_demo
    (row, *_) = [row for row in rows_of(folder / "metrics.csv") if row["way"] == "frozen"]
    assert int(row["trained_parameters"]) == sum(weight.numel() for weight in DigitsClassifier().head.parameters())


def test_the_schedules_used_are_in_the_run_folder(small_demo):
    folder, _ = small_demo
    schedule = yaml.safe_load((folder / "scheduled_schedule.yaml").read_text())
    assert len(schedule) == 4
    assert set(schedule[0]["params"]) == {"head.weight", "head.bias"}


def test_the_best_checkpoint_is_the_one_with_the_lowest_validation_loss(small_demo):
    folder, result = small_demo
    rows = rows_of(folder / "metrics.csv")
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert (folder / "best.ckpt").read_bytes() == (folder / best["checkpoint"]).read_bytes()
    assert str(folder / "best.ckpt") in result.stdout


def test_the_best_checkpoint_loads_and_reaches_the_accuracy_that_was_reported(small_demo):
    folder, _ = small_demo
    best = min(rows_of(folder / "metrics.csv"), key=lambda row: float(row["val_loss"]))
    model = DigitsClassifier.load_from_checkpoint(folder / "best.ckpt", map_location="cpu").eval()
    data = DigitsDataModule(classes=[5, 6, 7, 8, 9], train_per_class=10, seed=int(best["seed"]))
    data.setup("test")
    ((images, labels),) = data.test_dataloader()
    with torch.no_grad():
        accuracy = (model(images).argmax(dim=1) == labels).float().mean().item()
    assert accuracy == pytest.approx(float(best["test_accuracy"]))


def test_a_training_of_the_demo_can_be_run_again_by_fit(small_demo):
    folder, _ = small_demo
    own = folder / "seed-1" / "scheduled"
    result = CliRunner().invoke(app, ["fit", "--config", str(own / "config.yaml")])
    assert result.exit_code == 0, result.output
    again = validation_losses(own / "log" / "version_1" / "metrics.csv")
    # The demo measures its best checkpoint afterwards, which is logged as well.
    assert again == validation_losses(own / "log" / "version_0" / "metrics.csv")[:4]


def test_a_folder_that_is_named_like_a_variable_is_taken_as_it_is(tmp_path):
    folder = tmp_path / "${NOT_SET}"
    settings = DemoWiring.load().settings_of("pretrain", 0, folder)
    container = Container()
    Training(settings, folder, container)
    assert container.settings().trainer["default_root_dir"] == str(folder)


def test_a_variable_in_the_wiring_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHS", "3")
    (tmp_path / "own.yaml").write_text("tune:\n  trainer:\n    max_epochs: ${EPOCHS}\n")
    assert DemoWiring.load(tmp_path / "own.yaml").tune["trainer"]["max_epochs"] == 3


def validation_losses(metrics: Path) -> list[str]:
    return [row["val_loss"] for row in rows_of(metrics) if row["val_loss"]]


def test_the_demo_prints_nothing_but_its_result(small_demo):
    _, result = small_demo
    assert result.stderr == ""
    assert "Trainer" not in result.stdout


def test_a_run_folder_is_never_used_twice(tmp_path):
    assert [new_run_folder(tmp_path / "runs" / "demo").name for _ in range(3)] == ["demo", "demo-1", "demo-2"]


def test_a_run_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--output"):
        new_run_folder(tmp_path / "file" / "demo")


@pytest.mark.parametrize(
    ("mistake", "expected"),
    [
        ("ways: {frozen: {scheduler: {max_dept: 1}}}", "'max_depth'"),
        (
            "ways: {everything: {scheduler: {ft_schedule: {0: {params: [haed], max_transition_epoch: 1}}}}}",
            "'haed' matches no",
        ),
        ("tune: {trainer: {max_epoch: 3}}", "'max_epochs'"),
        ("tune: {datamodule: {init_args: {train_per_class: 500}}}", "500 training"),
        ("seeds: []", "seeds"),
    ],
)
def test_a_mistake_in_the_wiring_is_refused_before_anything_is_trained_or_written(tmp_path, mistake, expected):
    (tmp_path / "mistake.yaml").write_text(f"{mistake}\n")
    arguments = ["demo", "--config", str(tmp_path / "mistake.yaml"), "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_section_of_the_wiring_is_refused_with_the_nearest(tmp_path):
    (tmp_path / "typo.yaml").write_text("seed: [1]\n")
    with pytest.raises(ConfigError, match="'seeds'"):
        DemoWiring.load(tmp_path / "typo.yaml")


def test_a_problem_of_the_wiring_is_told_with_its_line_and_the_sections_there_are(tmp_path):
    (tmp_path / "good.yaml").write_text("seeds: [1]\n")
    (tmp_path / "config.yaml").write_text("seeds: [x]\n\nscheduler: {max_depth: 1}\n")
    with pytest.raises(ConfigError) as refused:
        DemoWiring.load(tmp_path / "config.yaml", tmp_path / "good.yaml")
    assert str(refused.value).startswith(f"{tmp_path / 'config.yaml'}, line 3, scheduler: There is no setting")
    assert "The settings here are common, pretrain, seeds, tune, ways" in str(refused.value)
    with pytest.raises(ConfigError, match=r"line 1, seeds\[0\]: A whole number is expected, and 'x' is text"):
        DemoWiring.load(tmp_path / "good.yaml", tmp_path / "config.yaml")


@pytest.mark.parametrize(("section", "expected"), [("seeds: []", "not empty"), ("seeds: 3", "A list is expected")])
def test_seeds_that_are_no_list_of_some_are_refused(tmp_path, section, expected):
    (tmp_path / "seeds.yaml").write_text(section)
    with pytest.raises(ConfigError, match=f"line 1, seeds: .*{expected}"):
        DemoWiring.load(tmp_path / "seeds.yaml")


def test_the_ways_differ_in_schedule_and_learning_rate_only():
    wiring = DemoWiring.load()
    assert list(wiring.ways) == WAYS
    for section in wiring.ways.values():
        assert set(section) == {"model", "scheduler"}
        assert set(section["model"]["init_args"]) == {"lr"}
        assert set(section["scheduler"]) <= {"ft_schedule", "base_max_lr"}


def test_the_parts_of_the_data_do_not_overlap_and_hold_each_class():
    data = DigitsDataModule(classes=[5, 6, 7, 8, 9], train_per_class=10, val_per_class=20, seed=3)
    data.setup("fit")
    parts = [loader.dataset for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())]
    assert [part.tensors[1].bincount().tolist() for part in parts[:2]] == [[10] * 5, [20] * 5]
    # 182, 181, 179, 174 and 180 images of the digits 5 to 9 are in the data set.
    assert parts[2].tensors[1].bincount().tolist() == [152, 151, 149, 144, 150]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"classes": [1, 12]}, "0 to 9"), ({"train_per_class": 170}, "there are"), ({"val_per_class": 0}, "at least 1")],
)
def test_data_that_does_not_exist_is_refused(arguments, expected):
    with pytest.raises(ConfigError, match=expected):
        DigitsDataModule(**arguments).setup("fit")


def test_a_single_seed_has_no_spread():
    run = RunResult("frozen", 0, 0.5, 0.5, 1.0, 10, 100, 3, 8, 1.0, "a.ckpt")
    (summary,) = summarize([run])
    assert summary.test_accuracy.show(".1%") == "50.0%"
