"""What the container builds, and that every part of it can be replaced."""

from __future__ import annotations

import json
import subprocess
import sys

import lightning.pytorch as pl
import pytest
from dependency_injector import providers
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

from phasewire.app import (
    AdapterResolver,
    CheckpointTranslator,
    ConfigError,
    FinetuningScheduler,
    ScheduleValidator,
    Settings,
)
from phasewire.app.settings_reader import SettingsReader
from phasewire.containers import Container

BORING = "lightning.pytorch.demos.boring_classes"
QUIET_TRAINER = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture
def container() -> Container:
    """A container that builds Trainers that write and print nothing."""
    container = Container()
    container.config.from_dict({"trainer": QUIET_TRAINER})
    return container


def schedulers_of(trainer: pl.Trainer) -> list[FinetuningScheduler]:
    """The schedulers among a Trainer's callbacks."""
    return [callback for callback in trainer.callbacks if isinstance(callback, FinetuningScheduler)]


# -- the scheduler ---------------------------------------------------------------------------------------------------


def test_an_empty_container_builds_a_scheduler_with_the_defaults():
    container = Container()
    assert container.scheduler().settings == Settings().scheduler
    assert container.scheduler() is not container.scheduler()


def test_one_argument_can_be_overridden_at_the_call(container):
    container.config.from_dict({"scheduler": {"max_depth": 1, "base_max_lr": 0.1}})
    scheduler = container.scheduler(max_depth=2)
    assert (scheduler.settings.max_depth, scheduler.settings.base_max_lr) == (2, 0.1)
    assert container.scheduler().settings.max_depth == 1


def test_the_scheduler_works_with_the_parts_of_the_container(container):
    given = {}

    def recording_scheduler(**parts):
        given.update(parts)

    container.scheduler.set_provides(recording_scheduler)
    container.scheduler()
    assert isinstance(given["resolver"], AdapterResolver)
    assert isinstance(given["validator"], ScheduleValidator)
    assert isinstance(given["translator"], CheckpointTranslator)


# -- replacing parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["discovery", "resolver", "validator", "translator", "scheduler", "model", "trainer"])
def test_any_part_can_be_replaced_for_a_while(part, container):
    class Spy: ...

    provider = getattr(container, part)
    with provider.override(providers.Factory(Spy)):
        assert isinstance(provider(), Spy)
    assert not provider.overridden


@pytest.mark.parametrize("part", ["resolver", "validator", "translator"])
def test_what_replaces_a_part_reaches_the_scheduler(part, container):
    class Spy: ...

    given = {}
    container.scheduler.set_provides(lambda **parts: given.update(parts))
    getattr(container, part).override(providers.Factory(Spy))
    container.scheduler()
    assert isinstance(given[part], Spy)


def test_settings_can_be_replaced(container):
    with container.settings.override(Settings.model_validate({"scheduler": {"max_depth": 9}})):
        assert container.scheduler().settings.max_depth == 9
    assert container.scheduler().settings.max_depth == -1


def test_containers_are_independent(container):
    other = Container()
    container.config.scheduler.max_depth.from_value(3)
    container.validator.override(providers.Object("mine"))
    container.adapters.override(providers.Object("mine"))
    assert other.settings().scheduler.max_depth == -1
    assert isinstance(other.validator(), ScheduleValidator)
    assert not other.adapters.overridden
    assert other.settings() is not Container().settings()


# -- settings --------------------------------------------------------------------------------------------------------


class CountingReader(SettingsReader):
    """Counts validations."""

    validated = 0

    def validate(self, values):
        self.validated += 1
        return super().validate(values)


def test_one_configuration_is_validated_once(container):
    reader = CountingReader()
    container.settings_reader.override(providers.Object(reader))
    assert container.settings() is container.settings()
    container.scheduler()
    container.discovery()
    assert reader.validated == 1


def test_a_changed_configuration_is_validated_anew(container, tmp_path):
    reader = CountingReader()
    container.settings_reader.override(providers.Object(reader))
    before = container.settings()
    (tmp_path / "more.yaml").write_text("scheduler: {max_depth: 4}\n")
    container.config.from_yaml(tmp_path / "more.yaml")
    after = container.settings()
    assert (before.scheduler.max_depth, after.scheduler.max_depth, reader.validated) == (-1, 4, 2)
    with container.config.override({"scheduler": {"max_depth": 5}}):
        assert container.settings().scheduler.max_depth == 5
    assert container.settings().scheduler.max_depth == 4


# -- model, data and Trainer -----------------------------------------------------------------------------------------


def test_model_and_data_are_built_from_their_classes(container):
    container.config.from_dict(
        {"model": {"class_path": f"{BORING}.BoringModel"}, "datamodule": {"class_path": f"{BORING}.BoringDataModule"}}
    )
    assert isinstance(container.model(), BoringModel)
    assert isinstance(container.datamodule(), BoringDataModule)


@pytest.mark.parametrize("part", ["model", "datamodule"])
def test_a_part_that_is_not_configured_is_refused_with_the_key_to_fill(part, container):
    with pytest.raises(ConfigError, match=rf"No {part} is configured\. Set {part}\.class_path"):
        getattr(container, part)()


@pytest.mark.parametrize(("part", "base"), [("model", "LightningModule"), ("datamodule", "LightningDataModule")])
def test_a_part_of_another_class_is_refused(part, base, container, tmp_path):
    (tmp_path / "c.yaml").write_text(f"{part}:\n  class_path: torch.nn.ReLU\n")
    container.config.from_yaml(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match=rf"c\.yaml, line 2, {part}\.class_path: .*ReLU is no {base}"):
        getattr(container, part)()


def test_a_fault_of_a_class_is_placed_in_the_file(container, tmp_path):
    (tmp_path / "c.yaml").write_text(f"model:\n  class_path: {BORING}.BoringModel\n  init_args:\n    widht: 3\n")
    container.config.from_yaml(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match=r"c\.yaml, line 4, model\.init_args\.widht: .* takes no argument 'widht'"):
        container.model()
    with pytest.raises(ConfigError, match=r"^model\(depth=\.\.\.\): .* takes no argument"):
        Container(config={"model": {"class_path": f"{BORING}.BoringModel"}}).model(depth=1)


def test_the_trainer_has_exactly_one_scheduler_ahead_of_the_callbacks_of_the_file(container):
    container.config.from_dict(
        {
            "scheduler": {"max_depth": 3},
            "trainer": {"callbacks": [{"class_path": "lightning.pytorch.callbacks.Timer"}], "max_epochs": 2},
        }
    )
    trainer = container.trainer()
    assert [type(callback) for callback in trainer.callbacks[:2]] == [FinetuningScheduler, Timer]
    assert [scheduler.settings.max_depth for scheduler in schedulers_of(trainer)] == [3]
    assert trainer.max_epochs == 2


def test_keywords_of_the_trainer_can_be_overridden_at_the_call(container):
    timer = Timer()
    trainer = container.trainer(max_epochs=7, callbacks=timer)
    assert trainer.max_epochs == 7
    assert timer in trainer.callbacks
    assert len(schedulers_of(trainer)) == 1


def test_a_second_scheduler_in_the_trainer_is_refused(container, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "trainer:\n  callbacks:\n  - class_path: phasewire.app.FinetuningScheduler\n    init_args: {max_depth: 1}\n"
    )
    container.config.from_yaml(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match=r"c\.yaml, line 3, trainer\.callbacks\[0\]: .*two schedulers in one Trainer"):
        container.trainer()
    with pytest.raises(ConfigError, match="two schedulers in one Trainer"):
        container.trainer(callbacks=[FinetuningScheduler()])


@pytest.mark.parametrize("callback", ["{monitor: x}", "{class_path: os.getcwd}", "{class_path: torch.nn.ReLU}"])
def test_a_callback_of_another_class_is_refused(callback, container, tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"trainer:\n  callbacks:\n  - class_path: lightning.pytorch.callbacks.Timer\n  - {callback}\n"
    )
    container.config.from_yaml(tmp_path / "c.yaml")
    with pytest.raises(
        ConfigError, match=r"c\.yaml, line 4, trainer\.callbacks\[1\]: A callback is expected, .*pytorch\.Callback"
    ):
        container.trainer()


def test_what_the_trainer_refuses_is_a_config_error(container):
    with pytest.raises(ConfigError, match=r"trainer: The Trainer refuses its keywords: .*warp") as refused:
        container.trainer(accelerator="warp")
    assert refused.value.__cause__ is not None
    with pytest.raises(ConfigError, match=r"^trainer\(max_epoch=\.\.\.\): .* Did you mean 'max_epochs'"):
        container.trainer(max_epoch=1)


# -- nothing too early -----------------------------------------------------------------------------------------------


def test_building_the_container_imports_no_adapter_and_no_optional_dependency():
    script = (
        "import json, sys; from phasewire.containers import Container;"
        "container = Container(); container.scheduler(); container.discovery();"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    assert imported.isdisjoint(
        {
            "phasewire.adapters.fsdp",
            "phasewire.adapters.model_parallel",
            "phasewire.adapters.transformer_bridge",
            "transformer_lens",
        }
    )


def test_building_the_container_imports_no_plugin(tmp_path, monkeypatch):
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[finetuning_scheduler.strategy_adapters]\nplugged = plugged_module:Mine\n")
    (tmp_path / "plugged_module.py").write_text("from phasewire.adapters import StrategyAdapter as Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    container = Container()
    container.scheduler()
    assert "plugged" in container.discovery().names()
    assert "plugged_module" not in sys.modules
    assert type(container.adapters("Plugged")).__name__ == "StrategyAdapter"
    assert sys.modules.pop("plugged_module")
