"""``container.config``: Phasewire's reading of YAML behind dependency-injector's method names."""

from __future__ import annotations

import copy

import pytest
from dependency_injector import providers

from phasewire.app import ConfigError
from phasewire.containers import Container
from phasewire.containers.configuration import YamlConfiguration


@pytest.fixture
def config():
    """The configuration provider of a fresh container."""
    return Container().config


@pytest.fixture
def write(tmp_path):
    """Write a file and give its path."""

    def write(text, name="config.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "scheduler: {max_depth: 1}\nscheduler: {max_depth: 2}\n",
            "'scheduler' is given twice, on line 1 and on line 2",
        ),
        ("scheduler:\n  max_dept: 1\n", r"line 2, scheduler\.max_dept: .* Did you mean 'max_depth'"),
        ("scheduler:\n  max_depth: '1'\n", r"line 2, scheduler\.max_depth: A whole number is expected"),
        ("- 1\n", "A mapping .* is expected"),
        ("a: [\n", "cannot be read as YAML"),
        ("scheduler: {max_depth: '${PHASEWIRE_NOT_SET}'}\n", "is not set"),
    ],
)
def test_a_bad_file_is_refused_when_it_is_read_and_changes_nothing(text, message, config, write):
    config.from_yaml(write("scheduler: {max_depth: 7}\n", "good.yaml"))
    with pytest.raises(ConfigError, match=message):
        config.from_yaml(write(text))
    assert config() == {"scheduler": {"max_depth": 7}}


def test_a_missing_file_is_refused_unless_it_need_not_be_there(config, tmp_path):
    with pytest.raises(ConfigError, match="There is no such file"):
        config.from_yaml(tmp_path / "nowhere.yaml")
    config.from_yaml(tmp_path / "nowhere.yaml", required=False)
    assert config() == {}


def test_variables_are_replaced_in_values_and_not_in_comments(config, write, monkeypatch):
    monkeypatch.setenv("PHASEWIRE_DEPTH", "2")
    config.from_yaml(write("# ${NOBODY_SETS_THIS}\nscheduler: {max_depth: 1}\nseed_everything: ${PHASEWIRE_DEPTH}\n"))
    assert config.seed_everything() == 2


def test_several_files_merge(config, write):
    config.from_yaml(write("scheduler: {max_depth: 1, ft_schedule: {0: {params: [a]}, 1: {params: [b]}}}\n"))
    config.from_yaml(write("scheduler: {ft_schedule: {0: {params: [c]}}}\n", "over.yaml"))
    assert config() == {"scheduler": {"max_depth": 1, "ft_schedule": {0: {"params": ["c"]}}}}


def test_a_dict_merges_by_the_same_rules_and_is_not_changed(config):
    options = {"scheduler": {"ft_schedule": {0: {"params": ["c"]}}, "restore_best": False}}
    config.from_dict({"scheduler": {"ft_schedule": {0: {"params": ["a"]}, 1: {"params": ["b"]}}, "max_depth": 1}})
    config.from_dict(options)
    assert config.scheduler.ft_schedule() == {0: {"params": ["c"]}}
    assert config.scheduler.max_depth() == 1
    assert options == {"scheduler": {"ft_schedule": {0: {"params": ["c"]}}, "restore_best": False}}
    with pytest.raises(ConfigError, match="The configuration is empty"):
        config.from_dict({}, required=True)


def test_single_values_can_be_set_with_or_without_a_file_before(config, repository):
    config.scheduler.max_depth.from_value(2)
    assert config() == {"scheduler": {"max_depth": 2}}
    config.from_yaml(repository / "config.yaml")
    config.scheduler.max_depth.from_value(3)
    config.model.class_path.from_value("a.B")
    config.scheduler.custom_strategy_adapters.auto.from_value("fsdp")
    assert config.scheduler.max_depth() == 3
    assert config.model() == {"class_path": "a.B"}
    assert config.scheduler.custom_strategy_adapters() == {"auto": "fsdp"}


def test_an_override_holds_while_its_context_does(config):
    config.from_dict({"scheduler": {"max_depth": 1}})
    with config.override({"scheduler": {"max_depth": 2}}):
        assert config.scheduler.max_depth() == 2
    assert config.scheduler.max_depth() == 1


def test_what_was_given_can_be_changed_without_changing_the_configuration(config):
    given = {"scheduler": {"max_depth": 1}}
    config.override(given)
    given["scheduler"]["max_depth"] = 2
    assert config.scheduler.max_depth() == 1


def test_a_value_that_code_gave_is_refused_when_settings_are_asked_for(write):
    container = Container()
    container.config.from_yaml(write("scheduler:\n  max_depth: 1\n"))
    container.config.scheduler.max_depth.from_value("deep")
    with pytest.raises(ConfigError, match=r"^scheduler\.max_depth: A whole number is expected, and 'deep' is text"):
        container.settings()
    container.config.override({"schedular": {}})
    with pytest.raises(ConfigError, match=r"^schedular: .* Did you mean 'scheduler'"):
        container.scheduler()


def test_a_copy_keeps_files_and_lines_and_is_independent(config, write):
    file = write("scheduler:\n  max_depth: 1\n")
    config.from_yaml(file)
    copied = copy.deepcopy(config)
    assert copied().where(("scheduler", "max_depth")) == f"{file}, line 2, scheduler.max_depth"
    copied.scheduler.max_depth.from_value(2)
    assert config.scheduler.max_depth() == 1


def test_files_named_in_advance_are_loaded_by_the_same_rules(write):
    config = YamlConfiguration(yaml_files=[write("scheduler: {max_dept: 1}\n")])
    with pytest.raises(ConfigError, match="Did you mean 'max_depth'"):
        config.load()


def test_another_configuration_provider_can_take_its_place():
    container = Container()
    container.config.override(providers.Configuration(default={"scheduler": {"max_depth": 5}}))
    assert container.settings().scheduler.max_depth == 5
