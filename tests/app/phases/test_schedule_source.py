"""Where a fit takes its schedule from, and what it writes."""

from typing import ClassVar

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger

from phasewire.adapters import StrategyAdapter
from phasewire.app import AdapterError, ConfigError, FinetuningScheduler, FTSEarlyStopping, ScheduleError
from tuning import Notes, TunedModule, fit, make_trainer, state_of

SCHEDULE = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}


def run(tmp_path, *, module=None, options=None, **settings):
    notes = Notes()
    scheduler = FinetuningScheduler(restore_best=False, **settings)
    trainer = make_trainer(
        tmp_path, scheduler, notes, FTSEarlyStopping("val_loss", patience=99), **{"max_epochs": 2, **(options or {})}
    )
    fit(trainer, module or TunedModule())
    return scheduler, notes


def test_without_a_schedule_two_parameters_a_phase_are_thawed_last_ones_first(tmp_path):
    scheduler, notes = run(tmp_path)

    written = yaml.safe_load((tmp_path / "TunedModule_ft_schedule.yaml").read_text())
    assert [phase["params"] for phase in written.values()] == [
        ["head.bias", "head.weight"],
        ["layers.2.bias", "layers.2.weight"],
        ["layers.1.bias", "layers.1.weight"],
        ["layers.0.bias", "layers.0.weight"],
    ]
    assert notes.epochs[0].trainable == ("head.weight", "head.bias")
    assert scheduler.max_depth == 3


def test_a_schedule_file_is_trained_and_kept_beside_the_logs(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("0:\n  params: [head.*]\n  max_transition_epoch: 1\n1:\n  params: ['layers.1.*']\n")

    _, notes = run(tmp_path, ft_schedule=file, log_dir=tmp_path / "kept")

    assert notes.depths == [0, 1]
    kept = yaml.safe_load((tmp_path / "kept" / "TunedModule_ft_schedule.yaml").read_text())
    assert kept[1]["params"] == ["layers.1.*"]


def test_schedules_go_to_the_folder_of_the_logger(tmp_path):
    logger = CSVLogger(tmp_path, name="runs", version=3)

    with pytest.warns(UserWarning, match="log_every_n_steps"):
        run(tmp_path, options={"logger": logger})

    assert (tmp_path / "runs" / "version_3" / "TunedModule_ft_schedule.yaml").is_file()


def test_ft_schedule_becomes_the_plain_resolved_schedule(tmp_path):
    scheduler, _ = run(tmp_path, ft_schedule=SCHEDULE, base_max_lr=0.5)

    assert scheduler.ft_schedule == {
        0: {"params": ["head.weight", "head.bias"], "max_transition_epoch": 1},
        1: {"params": ["layers.1.weight", "layers.1.bias"], "max_transition_epoch": -1, "lr": 0.5},
    }


def test_generating_only_writes_the_schedule_and_leaves_without_training(tmp_path):
    module = TunedModule()
    before = state_of(module)

    with pytest.raises(SystemExit) as left:
        run(tmp_path, module=module, gen_ft_sched_only=True)

    assert left.value.code == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "TunedModule_ft_schedule.yaml"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_an_edited_schedule_is_not_written_over(tmp_path):
    edited = tmp_path / "TunedModule_ft_schedule.yaml"
    edited.write_text("0: {params: [head.*]}\n")

    with pytest.raises(SystemExit):
        run(tmp_path, gen_ft_sched_only=True)

    assert edited.read_text() == "0: {params: [head.*]}\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_schedule_with_gaps_is_repaired_beside_it_and_nothing_is_trained(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("-1: {params: [head.*]}\n0: {params: ['layers.1.*']}\n2: {params: ['layers.0.*']}\n")
    module = TunedModule()
    before = state_of(module)

    with pytest.raises(ScheduleError, match=r"mine\.yaml"):
        run(tmp_path, module=module, ft_schedule=file, log_dir=tmp_path / "logs")

    repaired = yaml.safe_load((tmp_path / "logs" / "mine_valid.yaml").read_text())
    assert [phase["params"] for phase in repaired.values()] == [["head.*"], ["layers.1.*"], ["layers.0.*"]]
    assert list(repaired) == [0, 1, 2]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_pattern_that_matches_nothing_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(ScheduleError, match=r"haed.*head"):
        run(tmp_path, ft_schedule={0: {"params": ["haed.weight"]}})

    assert not list(tmp_path.iterdir())


def test_an_adapter_that_generates_nothing_is_named(tmp_path):
    class Silent(StrategyAdapter):
        def gen_ft_schedule(self, dump_loc):
            return None

    with pytest.raises(AdapterError, match=r"Silent\.gen_ft_schedule gave no path"):
        run(tmp_path, custom_strategy_adapters={"auto": Silent})


def test_an_adapter_may_validate_by_itself(tmp_path):
    class Groups(StrategyAdapter):
        """Speaks of 'top' and 'bottom'."""

        names: ClassVar = {"top": ["head.weight", "head.bias"], "bottom": ["layers.0.weight"]}

        def validate_ft_sched(self):
            for phase in self.fts_handle.ft_schedule.values():
                phase.setdefault("max_transition_epoch", -1)
            return len(self.fts_handle.ft_schedule) - 1, 1

        def fts_optim_transform(self, orig_pl, inspect_only=False):
            return [name for group in orig_pl for name in self.names[group]]

    _, notes = run(
        tmp_path,
        ft_schedule={0: {"params": ["top"], "max_transition_epoch": 1}, 1: {"params": ["bottom"], "lr": 0.5}},
        custom_strategy_adapters={"auto": Groups},
    )

    assert notes.epochs[1].groups == (("head.weight", "head.bias"), ("layers.0.weight",))
    assert notes.epochs[1].lrs == (0.1, 0.5)


def test_an_adapter_may_change_what_the_default_validation_resolved(tmp_path):
    class Slower(StrategyAdapter):
        def validate_ft_sched(self):
            result = super().validate_ft_sched()
            self.fts_handle.ft_schedule[1]["lr"] = 0.25
            return result

    _, notes = run(tmp_path, ft_schedule=SCHEDULE, custom_strategy_adapters={"auto": Slower})

    assert notes.epochs[1].lrs == (0.1, 0.25)


def test_an_adapter_may_edit_the_schedule_before_the_default_validation(tmp_path):
    class Expanding(StrategyAdapter):
        def validate_ft_sched(self):
            for phase in self.fts_handle.ft_schedule.values():
                phase["params"] = [pattern.replace("TOP", "head") for pattern in phase["params"]]
            return super().validate_ft_sched()

    _, notes = run(tmp_path, ft_schedule={0: {"params": ["TOP.*"]}}, custom_strategy_adapters={"auto": Expanding})

    assert notes.epochs[0].trainable == ("head.weight", "head.bias")


def test_a_transform_that_gives_no_list_is_refused(tmp_path):
    class Forgetful(StrategyAdapter):
        def fts_optim_transform(self, orig_pl, inspect_only=False):
            return None

    with pytest.raises(AdapterError, match=r"phase 0: Forgetful\.fts_optim_transform returned NoneType, not a list"):
        run(tmp_path, ft_schedule=SCHEDULE, custom_strategy_adapters={"auto": Forgetful})


def test_a_transform_that_gives_unknown_names_is_refused(tmp_path):
    class Wrong(StrategyAdapter):
        def fts_optim_transform(self, orig_pl, inspect_only=False):
            return [f"model.{name}" for name in orig_pl]

    with pytest.raises(AdapterError, match=r"phase 0: Wrong\.fts_optim_transform gave 'model\.head\.weight'"):
        run(tmp_path, ft_schedule=SCHEDULE, custom_strategy_adapters={"auto": Wrong})


@pytest.mark.parametrize("attribute", ["trainer", "strategy_adapter"])
def test_what_a_run_has_is_refused_before_there_is_one(attribute):
    with pytest.raises(ConfigError, match=r"[Cc]all fit"):
        getattr(FinetuningScheduler(), attribute)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_depth", "2"), ("restore_best", 1), ("base_max_lr", "fast"), ("logging_level", "LOUD"), ("max_depth", -2)],
)
def test_an_ill_typed_setting_is_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=setting):
        FinetuningScheduler(**{setting: value})
