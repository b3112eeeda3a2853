"""``phasewire fit``: what it trains, and what it refuses before it trains."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml


def change(project: Path, **sections: object) -> Path:
    """Write a second configuration file, to be merged over the first."""
    path = project / "change.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def metrics_of(project: Path) -> list[dict[str, str]]:
    (path,) = project.glob("lightning_logs/version_*/metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_nothing_was_written(project: Path) -> None:
    assert not list(project.rglob("*.ckpt"))
    assert not (project / "lightning_logs").exists()


def test_fit_trains_what_the_file_describes(project, run):
    result = run("fit", "--config", "config.yaml")
    assert result.exit_code == 0, result.output
    assert "Trained 3 epochs." in result.stdout
    (checkpoint,) = project.rglob("*.ckpt")
    printed = re.search("Best checkpoint: (.*)", result.stdout)
    assert printed
    assert Path(printed[1]).samefile(checkpoint)
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert weights["head.weight"].shape == (2, 5)
    assert [row["epoch"] for row in metrics_of(project) if row["val_loss"]] == ["0", "1", "2"]


def test_a_later_file_overrides_an_earlier_one(project, run):
    result = run("fit", "-c", "config.yaml", "-c", change(project, trainer={"max_epochs": 4}))
    assert "Trained 4 epochs." in result.stdout


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # Lightning's remark on a resume into a new folder
def test_fit_resumes_from_a_checkpoint(project, run):
    run("fit", "-c", "config.yaml")
    (checkpoint,) = project.rglob("*.ckpt")
    more = change(project, trainer={"max_epochs": 5})
    result = run("fit", "-c", "config.yaml", "-c", more, "--ckpt-path", checkpoint)
    assert result.exit_code == 0, result.output
    assert "Trained 5 epochs." in result.stdout


def test_a_module_with_loaders_of_its_own_needs_no_datamodule(project, run):
    own = change(project, model={"class_path": "own_project.WithOwnData"}, datamodule=None)
    result = run("fit", "-c", "config.yaml", "-c", own)
    assert result.exit_code == 0, result.output


def test_the_same_seed_gives_the_same_weights(project, run):
    run("fit", "-c", "config.yaml")
    run("fit", "-c", "config.yaml")
    first, second = (torch.load(path, weights_only=True)["state_dict"] for path in project.rglob("*.ckpt"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("command", [["-m", "phasewire.app"], ["-c", "from phasewire.app.cli import main; main()"]])
def test_fit_finds_classes_of_the_working_directory_in_a_fresh_process(project, command):
    finished = subprocess.run(
        [sys.executable, *command, "fit", "--config", "config.yaml"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Trained 3 epochs." in finished.stdout


def test_fit_starts_its_other_processes_itself(project):
    two = change(project, trainer={"strategy": "ddp", "devices": 2})
    finished = subprocess.run(
        [sys.executable, "-m", "phasewire.app", "fit", "-c", "config.yaml", "-c", two],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "Starting with 2 processes" in finished.stderr
    assert finished.stdout.count("Trained 3 epochs.") == 1


def test_a_bug_in_the_model_keeps_its_traceback(project, run):
    broken = change(project, model={"class_path": "own_project.Broken"})
    result = run("fit", "-c", "config.yaml", "-c", broken)
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_fit_without_a_file_says_what_is_needed(project, refused):
    assert "--config FILE" in refused("fit")


def test_fit_without_a_model_says_what_is_needed(project, refused):
    (project / "empty.yaml").write_text("scheduler: {max_depth: 1}\n")
    message = refused("fit", "--config", "empty.yaml")
    assert "No model is configured" in message
    assert "model.class_path" in message


def test_a_missing_file_is_refused_with_its_name(project, refused):
    assert "absent.yaml" in refused("fit", "--config", "absent.yaml")


def test_a_missing_checkpoint_is_refused_before_anything_is_trained(project, refused):
    # Lightning's "best" and "last" are those of a Trainer that has trained before.
    assert "There is no checkpoint 'best'" in refused("fit", "--config", "config.yaml", "--ckpt-path", "best")
    message = refused("fit", "--config", "config.yaml", "--ckpt-path", "absent.ckpt")
    assert "absent.ckpt" in message
    assert_nothing_was_written(project)


def test_a_folder_in_place_of_a_file_is_refused(project, refused):
    (project / "folder.yaml").mkdir()
    assert "folder.yaml" in refused("fit", "--config", "folder.yaml")


def test_yaml_that_does_not_parse_is_refused_with_line_and_column(project, refused):
    (project / "broken.yaml").write_text("scheduler:\n  max_depth: [1, 2\n")
    message = refused("fit", "--config", "broken.yaml")
    assert "broken.yaml, line 3, column 1" in message


def test_yaml_that_is_no_mapping_is_refused(project, refused):
    (project / "list.yaml").write_text("- scheduler\n- model\n")
    message = refused("fit", "--config", "list.yaml")
    assert "list.yaml" in message
    assert "mapping" in message


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_key(project, refused):
    (project / "typo.yaml").write_text("# a comment\nscheduler:\n  max_dept: 1\n")
    message = refused("fit", "--config", "config.yaml", "--config", "typo.yaml")
    assert "typo.yaml, line 3" in message
    assert "'max_depth'" in message
    assert_nothing_was_written(project)


def test_a_value_of_the_wrong_type_is_refused_with_its_line(project, refused):
    (project / "typed.yaml").write_text("scheduler:\n  max_depth: deep\n")
    message = refused("fit", "--config", "config.yaml", "--config", "typed.yaml")
    assert "typed.yaml, line 2" in message
    assert "max_depth" in message


def test_an_unknown_trainer_keyword_is_refused_before_anything_is_built(project, refused):
    message = refused("fit", "-c", "config.yaml", "-c", change(project, trainer={"max_epoch": 3}))
    assert "'max_epochs'" in message
    assert_nothing_was_written(project)


@pytest.mark.parametrize(
    ("class_path", "expected"),
    [
        ("own_projekt.Classifier", "own_projekt"),
        ("own_project.Klassifier", "'Classifier'"),
    ],
)
def test_a_class_path_that_does_not_import_is_refused(project, refused, class_path, expected):
    message = refused("fit", "-c", "config.yaml", "-c", change(project, model={"class_path": class_path}))
    assert class_path in message
    assert expected in message
    assert_nothing_was_written(project)


def test_an_unknown_constructor_argument_is_refused_with_the_nearest(project, refused):
    message = refused("fit", "-c", "config.yaml", "-c", change(project, model={"init_args": {"widht": 3}}))
    assert "widht" in message
    assert "'width'" in message


def test_a_pattern_that_matches_nothing_is_refused_with_near_names(project, refused):
    schedule = {
        0: {"params": ["haed.weight"], "max_transition_epoch": 1},
        1: {"params": ["backbone.*"], "max_transition_epoch": 3},
    }
    message = refused("fit", "-c", "config.yaml", "-c", change(project, scheduler={"ft_schedule": schedule}))
    assert "haed.weight" in message
    assert "head.weight" in message
    assert not list(project.rglob("*.ckpt"))


def test_a_bad_regular_expression_is_refused_with_its_position(project, refused):
    schedule = {
        0: {"params": ["head.(weight"], "max_transition_epoch": 1},
        1: {"params": ["backbone.*"], "max_transition_epoch": 3},
    }
    message = refused("fit", "-c", "config.yaml", "-c", change(project, scheduler={"ft_schedule": schedule}))
    assert "head.(weight" in message
    assert "position 5" in message


def test_an_adapter_that_is_not_installed_is_refused_with_the_installed_names(project, refused):
    mapping = {"single_device": "transformerbrige"}
    message = refused(
        "fit", "-c", "config.yaml", "-c", change(project, scheduler={"custom_strategy_adapters": mapping})
    )
    assert "transformerbrige" in message
    assert "transformerbridge" in message
    assert "modelparallelstrategy" in message
    assert not list(project.rglob("*.ckpt"))


def test_two_schedulers_in_one_trainer_are_refused(project, refused):
    second = [{"class_path": "phasewire.app.FinetuningScheduler", "init_args": {}}]
    message = refused("fit", "-c", "config.yaml", "-c", change(project, trainer={"callbacks": second}))
    assert "change.yaml, line 3, trainer.callbacks[0]" in message
    assert "two schedulers" in message


@pytest.mark.parametrize("automatic", [True, False])
def test_two_optimizers_are_refused(project, refused, automatic):
    message = refused(
        "fit",
        "-c",
        "config.yaml",
        "-c",
        change(project, model={"class_path": "own_project.TwoOptimizers", "init_args": {"automatic": automatic}}),
    )
    assert "several optimizers" in message


def test_a_monitored_metric_that_is_never_logged_is_refused(project, refused):
    message = refused("fit", "-c", "config.yaml", "-c", change(project, model={"class_path": "own_project.Silent"}))
    assert "val_loss" in message


def test_a_trainer_that_lightning_refuses_is_reported_without_a_traceback(project, refused):
    message = refused("fit", "-c", "config.yaml", "-c", change(project, trainer={"accelerator": "abacus"}))
    assert "abacus" in message
