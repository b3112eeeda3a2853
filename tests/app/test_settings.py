"""Settings: defaults, strict types, and what the errors of a file say."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from phasewire.app import ConfigError, Settings
from phasewire.app.settings import ClassSpec, SchedulerSettings
from phasewire.app.settings_reader import ConfigValues, SettingsReader, locator, with_file, with_values


def read(text: str, folder: Path) -> Settings:
    """Validate the text of one file."""
    file = folder / "config.yaml"
    file.write_text(text)
    return SettingsReader().read(with_file(None, file))


# -- values ----------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documented_contract():
    ours_alone = {"schedule_generator": None, "schedule_generator_cfg": None, "transition_criteria": None}
    ours_alone |= {"progress_bar": True, "log_phase_metrics": True, "run_record": True}
    assert SchedulerSettings().model_dump() == ours_alone | {
        "ft_schedule": None,
        "max_depth": -1,
        "base_max_lr": 1e-5,
        "restore_best": True,
        "gen_ft_sched_only": False,
        "epoch_transitions_only": False,
        "reinit_optim_cfg": None,
        "reinit_lr_cfg": None,
        "strategy_adapter_cfg": None,
        "custom_strategy_adapters": None,
        "allow_untested": False,
        "apply_lambdas_new_pgs": False,
        "logging_level": logging.INFO,
        "enforce_phase0_params": True,
        "frozen_bn_track_running_stats": True,
        "log_dir": None,
    }


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().scheduler.max_depth = 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("DEBUG", logging.DEBUG), ("warning", logging.WARNING), ("15", 15), ("0", 0)],
)
def test_a_logging_level_is_a_name_or_a_number(text, expected, tmp_path):
    assert read(f"scheduler: {{logging_level: {text}}}", tmp_path).scheduler.logging_level == expected


def test_a_whole_number_will_do_for_a_number(tmp_path):
    assert read("scheduler: {base_max_lr: 1}", tmp_path).scheduler.base_max_lr == 1.0


def test_sections_with_nothing_in_them_are_empty(tmp_path):
    assert read("scheduler:\ntrainer:\nmodel:\n  class_path: a.B\n  init_args:\n", tmp_path) == Settings(
        model=ClassSpec(class_path="a.B")
    )


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\nscheduler:\n  max_dept: 1",
            r"line 3, scheduler\.max_dept: There is no setting .* Did you mean 'max_depth'",
        ),
        ("schedular: {}", "line 1, schedular: There is no setting 'schedular' here. Did you mean 'scheduler'"),
        ("max_depth: 3", r"line 1, max_depth: There is no setting .* Write it as scheduler\.max_depth"),
        ("model: {class_path: a.b, args: {}}", r"model\.args: .* Did you mean 'init_args'"),
        ("model: {class_path: a.b, x: 1}", r"model\.x: .* The settings here are class_path, init_args"),
        ("1: 2", "There is no setting 1 here"),
        ("scheduler: {max_depth: '3'}", "'3' is text. Write 3 without quotes"),
        ("scheduler: {max_depth: true}", "A whole number is expected, and true is a truth value"),
        ("scheduler: {max_depth: 2.0}", "A whole number is expected, and 2.0 is a number"),
        ("scheduler: {max_depth: -2}", "-2 is given, and it must be at least -1"),
        ("scheduler: {max_depth: null}", r"A whole number is expected, and nothing \(null\) is given"),
        ("scheduler: {restore_best: 1}", "True or false is expected, and 1 is a whole number"),
        ("scheduler: {base_max_lr: .inf}", "scheduler.base_max_lr: .*finite number"),
        ("scheduler: {base_max_lr: 0}", "0 is given, and it must be greater than 0"),
        ("scheduler: {base_max_lr: high}", "A number is expected, and 'high' is text"),
        ("scheduler: {logging_level: LOUD}", "There is no logging level 'LOUD'. The levels are CRITICAL, "),
        ("scheduler: {logging_level: warnin}", "Did you mean 'WARNING'"),
        ("scheduler: {logging_level: DEBGU}", "Did you mean 'DEBUG'"),
        ("scheduler: {ft_schedule: 3}", "Text or a path or a mapping is expected, and 3 is a whole number"),
        ("scheduler: {custom_strategy_adapters: {auto: 3}}", r"custom_strategy_adapters\.auto: Text or a class"),
        ("scheduler: {strategy_adapter_cfg: [use_tl_names]}", "A mapping is expected, and .* is a list"),
        ("scheduler: 3", "line 1, scheduler: A mapping is expected"),
        ("discovery: {group: ''}", "it must be text that is not empty"),
        ("model: 3", "line 1, model: A mapping is expected"),
        ("model: {class_path: 3}", "Text is expected"),
        ("seed_everything: -1", "it must be at least 0"),
        ("trainer: [1]", "A mapping is expected"),
        ("trainer: {max_epoch: 3}", r"trainer\.max_epoch: The Trainer takes no keyword .* Did you mean 'max_epochs'"),
        ("trainer: {max_epochs: '3'}", r"trainer\.max_epochs: The Trainer takes .*int.*, and '3' is text"),
        ("trainer: {precision: bf17}", r"trainer\.precision: The Trainer takes .*, and 'bf17' is text"),
        ("trainer: {logger: {class_path: a.b, init_arg: {}}}", r"trainer\.logger\.init_arg: .* 'init_args'"),
        ("trainer: {callbacks: [{class_path: 3}]}", r"trainer\.callbacks\[0\]\.class_path: Text is expected"),
        (
            "\nscheduler:\n  ft_schedule: {0: {params: [a], max_epoch: 3}}",
            r"line 3, scheduler\.ft_schedule\[0\]\.max_epoch: There is no key 'max_epoch'.* 'max_transition_epoch'",
        ),
        (
            "scheduler:\n  ft_schedule:\n    '1': {params: [b]}\n    '0':\n      params: [a]\n      max_epoch: 3",
            r"line 6, scheduler\.ft_schedule\.0\.max_epoch: There is no key 'max_epoch'",
        ),
        (
            "scheduler:\n  ft_schedule:\n    0:\n      new_optimizer: {optimizer_init:\n        {class_pth: a.B}}",
            r"line 5, scheduler\.ft_schedule\[0\]\.new_optimizer\.optimizer_init\.class_pth: .*'class_path'",
        ),
        ("scheduler: {ft_schedule: {0: 3}}", r"line 1, scheduler\.ft_schedule\[0\]: 3 is .* a mapping"),
        ("scheduler: {ft_schedule: {head: {params: [a]}}}", r"scheduler\.ft_schedule: The key 'head' is"),
        ("- scheduler", "line 1: A mapping .* is expected, and this is a list"),
        ("scheduler: [", "line 1, column 13: This cannot be read as YAML"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_line_key_and_nearest(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as refused:
        read(text, tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / 'config.yaml'}, line ")


@pytest.mark.parametrize("section", ["model", "datamodule"])
def test_a_class_without_its_path_is_refused_once_all_files_are_read(section, tmp_path):
    text = f"{section}:\n  init_args: {{width: 2}}\n"
    with pytest.raises(ConfigError, match=rf"line 1, {section}\.class_path: It is not given"):
        read(text, tmp_path)


def test_a_nested_class_without_its_path_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"trainer\.logger\.class_path: It is not given"):
        read("trainer: {logger: {init_args: {name: x}}}", tmp_path)


def test_all_problems_of_a_file_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as refused:
        read("scheduler:\n  max_dept: 1\n  base_max_lr: x\ntrainer:\n  max_epoch: 1\n", tmp_path)
    text = str(refused.value)
    assert "3 settings cannot be used" in text
    for line, key in ((2, "scheduler.max_dept"), (3, "scheduler.base_max_lr"), (5, "trainer.max_epoch")):
        assert f"line {line}, {key}: " in text


def test_each_mistake_in_a_schedule_is_told_with_its_line_and_of_many_the_first_few(tmp_path):
    phases = "".join(f"    {depth}: {{params: [a], max_epoch: 3}}\n" for depth in range(7))
    with pytest.raises(ConfigError) as refused:
        read(f"scheduler:\n  ft_schedule:\n{phases}", tmp_path)
    text = str(refused.value)
    for depth in range(5):
        assert f"line {depth + 3}, scheduler.ft_schedule[{depth}].max_epoch: There is no key" in text
    assert "line 2, scheduler.ft_schedule: The schedule has 2 more mistakes." in text


@pytest.mark.parametrize(
    "text",
    [
        "trainer: {max_epochs: 3, devices: auto, precision: 16, limit_train_batches: 0.5, deterministic: warn}",
        "trainer: {logger: false, max_time: {hours: 1.5}, callbacks: [], devices: [0], gradient_clip_val: 1}",
        "trainer: {callbacks: {class_path: a.B}, profiler: simple, strategy: {class_path: a.C, init_args: {x: 1}}}",
    ],
)
def test_what_the_trainer_takes_is_taken(text, tmp_path):
    assert read(text, tmp_path).trainer


def test_arguments_of_the_callback_are_checked_by_the_same_rules():
    with pytest.raises(ConfigError, match="FinetuningScheduler, max_depth: A whole number is expected"):
        SchedulerSettings.checked(max_depth="3")
    with pytest.raises(ConfigError, match="Did you mean 'max_depth'"):
        SchedulerSettings.checked(max_dept=3)
    assert SchedulerSettings.checked(log_dir=Path("logs"), ft_schedule={0: {"params": ["a"]}}).log_dir == Path("logs")


# -- files over files ------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_later_files_win_key_by_key(write):
    first = write("first.yaml", "scheduler: {max_depth: 1, restore_best: false}\ntrainer: {max_epochs: 3}\n")
    second = write("second.yaml", "scheduler: {max_depth: 2}\ntrainer:\n")
    settings = SettingsReader().read(with_file(with_file(None, first), second))
    assert (settings.scheduler.max_depth, settings.scheduler.restore_best) == (2, False)
    assert settings.trainer == {"max_epochs": 3}


def test_a_file_may_give_only_arguments_of_a_class_that_another_names(write):
    first = write("first.yaml", "model: {class_path: a.B, init_args: {x: 1, y: 2}}\n")
    second = write("second.yaml", "model: {init_args: {x: 3}}\n")
    settings = SettingsReader().read(with_file(with_file(None, first), second))
    assert settings.model == ClassSpec(class_path="a.B", init_args={"x": 3, "y": 2})


def test_null_takes_a_model_away(write):
    first, second = write("first.yaml", "model: {class_path: a.B}\n"), write("second.yaml", "model: null\n")
    assert SettingsReader().read(with_file(with_file(None, first), second)).model is None


def test_a_problem_is_placed_in_the_file_that_gave_the_value(write):
    first = write("first.yaml", "seed_everything: 1\nmodel: {init_args: {x: 1}}\n")
    second = write("second.yaml", "\nscheduler: {max_depth: 2}\n")
    values = with_file(with_file(None, first), second)
    assert values.where(("model", "init_args", "x")) == f"{first}, line 2, model.init_args.x"
    assert values.where(("scheduler", "max_depth")) == f"{second}, line 2, scheduler.max_depth"
    with pytest.raises(ConfigError, match=r"first\.yaml, line 2, model\.class_path: It is not given"):
        SettingsReader().read(values)


def test_a_value_from_code_is_not_blamed_on_a_file(write):
    values = with_file(None, write("first.yaml", "scheduler:\n  max_depth: 1\n"))
    changed = with_values(values, {"scheduler": {"max_depth": "x"}})
    with pytest.raises(ConfigError, match=r"^scheduler\.max_depth: A whole number is expected"):
        SettingsReader().read(changed)
    assert locator({"scheduler": {}})(("scheduler", "max_depth")) == "scheduler.max_depth"


def test_a_file_that_need_not_be_there_is_passed_over(write):
    values = with_file(None, write("first.yaml", "seed_everything: 1\n"))
    assert with_file(values, "no-such-file.yaml", required=False) is values


@pytest.mark.usefixtures("empty_dir")
def test_a_schedule_is_looked_for_beside_its_file_and_then_in_the_working_directory(tmp_path):
    config = tmp_path / "configs"
    config.mkdir()
    (config / "config.yaml").write_text("scheduler: {ft_schedule: schedule.yaml}\n")
    assert with_file(None, config / "config.yaml")["scheduler"]["ft_schedule"] == "schedule.yaml"
    (config / "schedule.yaml").touch()
    assert with_file(None, config / "config.yaml")["scheduler"]["ft_schedule"] == str(config / "schedule.yaml")


def test_a_configuration_is_a_snapshot():
    given = {"scheduler": {"strategy_adapter_cfg": {"names": ["a"]}}}
    values = ConfigValues(given)
    given["scheduler"]["strategy_adapter_cfg"]["names"].append("b")
    assert values == {"scheduler": {"strategy_adapter_cfg": {"names": ["a"]}}}
