"""``phasewire schedule`` and ``phasewire plan``: on the meta device, nothing trained."""

from __future__ import annotations

import re

import pytest
import yaml

from phasewire.app.class_path import import_attribute


def cells(output: str) -> list[list[str]]:
    """The heading and the rows of the table in an output that is no terminal's."""
    lines = output.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("Phase"))
    table = lines[start : next(at for at, line in enumerate(lines) if line.startswith("Precision"))]
    return [re.split(r" {2,}", line.strip()) for line in table]


def write_schedule(project, schedule, name="schedule.yaml"):
    path = project / name
    path.write_text(yaml.safe_dump(schedule))
    return path


GOOD = {
    0: {"params": ["head.*"], "max_transition_epoch": 3},
    1: {"params": [r"backbone\.1\..*"], "lr": 0.002},
    2: {"params": [r"backbone\.0\..*"]},
}


def test_generate_writes_two_parameters_a_phase_from_the_last_to_the_first(project, run):
    result = run("schedule", "generate", "own_project.Classifier")
    assert result.exit_code == 0, result.output
    assert "Classifier_ft_schedule.yaml" in result.stdout
    written = yaml.safe_load((project / "Classifier_ft_schedule.yaml").read_text())
    assert [phase["params"] for phase in written.values()] == [
        ["head.bias", "head.weight"],
        ["backbone.1.bias", "backbone.1.weight"],
        ["backbone.0.bias", "backbone.0.weight"],
    ]


def test_generate_never_replaces_a_file_with_other_content(project, run):
    (project / "mine.yaml").write_text("my own work\n")
    result = run("schedule", "generate", "own_project:Classifier", "--output", "mine.yaml")
    assert result.exit_code == 0, result.output
    assert (project / "mine.yaml").read_text() == "my own work\n"
    (written,) = [path for path in project.glob("mine*.yaml") if path.name != "mine.yaml"]
    assert written.name in result.stdout
    assert "mine.yaml holds something else" in result.stdout


def test_what_generate_writes_validate_accepts(project, run):
    run("schedule", "generate", "own_project.Classifier", "--output", "s.yaml")
    result = run("schedule", "validate", "s.yaml", "--model", "own_project.Classifier")
    assert result.exit_code == 0, result.output
    assert "s.yaml is valid for Classifier: 3 phases, every parameter is thawed." in result.stdout


def test_validate_prints_warnings(project, run):
    write_schedule(project, {**GOOD, 0: {"params": ["head.*"], "lr": 0.5}})
    result = run("schedule", "validate", "schedule.yaml", "--model", "own_project.Classifier")
    assert result.exit_code == 0, result.output
    assert re.search(r"Warning: .*lr", result.stderr)


def test_validate_refuses_gaps_and_writes_nothing(project, refused):
    write_schedule(project, {0: {"params": ["head.*"]}, 2: {"params": ["backbone.*"]}})
    before = sorted(path.name for path in project.iterdir() if path.is_file())
    message = refused("schedule", "validate", "schedule.yaml", "--model", "own_project.Classifier")
    assert "schedule.yaml" in message
    assert sorted(path.name for path in project.iterdir() if path.is_file()) == before


def test_validate_refuses_a_key_given_twice(project, refused):
    (project / "twice.yaml").write_text("0: {params: [head.*]}\n0: {params: [backbone.*]}\n")
    assert "twice.yaml, line 2" in refused("schedule", "validate", "twice.yaml", "--model", "own_project.Classifier")


def test_plan_shows_parameters_share_rate_and_transition_of_each_phase(project, run):
    write_schedule(project, GOOD)
    result = run("plan", "own_project.Classifier", "--init-args", "{width: 10}", "--schedule", "schedule.yaml")
    assert result.exit_code == 0, result.output
    heading, *rows = cells(result.stdout)
    assert heading == [
        *("Phase", "Tensors", "Parameters", "Share", "Thawed so far", "Gradients", "Optimizer", "lr", "Moves on"),
    ]
    # 10 x 2 + 2 in the head, 10 x 10 + 10 and 3 x 10 + 10 in the backbone: 172 in all.
    assert rows == [
        ["0", "2", "22", "12.8%", "12.8%", "88 B", "0 B", "0.1", "by early stopping, at epoch 3 at the latest"],
        ["1", "2", "110", "64.0%", "76.7%", "528 B", "0 B", "0.002", "by early stopping"],
        ["2", "2", "40", "23.3%", "100.0%", "688 B", "0 B", "1e-05", "to max_epochs"],
    ]
    assert "172 parameters in 3 phases" in result.stdout


def test_plan_takes_model_schedule_and_settings_from_the_configuration(project, run):
    (project / "change.yaml").write_text("scheduler: {max_depth: 0}\n")
    result = run("plan", "--config", "config.yaml")
    assert [row[-1] for row in cells(result.stdout)[1:]] == [
        "at epoch 1",
        "to max_epochs, at least to epoch 3",
    ]
    result = run("plan", "--config", "config.yaml", "--config", "change.yaml")
    assert [row[-1] for row in cells(result.stdout)[1:]] == ["to max_epochs, at least to epoch 1"]
    assert "max_depth" in result.stdout


def test_plan_says_which_phase_only_early_stopping_can_reach(project, run):
    (project / "late.yaml").write_text(
        "trainer: {max_epochs: 4}\n"
        "scheduler:\n"
        "  epoch_transitions_only: false\n"
        "  ft_schedule: {0: {params: [head.*], max_transition_epoch: 6}, 1: {params: [backbone.*]}}\n"
    )
    result = run("plan", "--config", "config.yaml", "--config", "late.yaml")
    assert "max_epochs is 4: phase 1 is reached only if early stopping" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("criteria", "moves_on"),
    [
        ("[plateau, Epochs]", "by plateau, at epoch 6 at the latest"),
        ("[plateau, early_stopping]", "by plateau or early stopping"),
        ("[{'no_such:Thing': {}}]", "by no_such:Thing"),
    ],
)
def test_plan_tells_by_which_criteria_phases_end_without_importing_them(project, run, criteria, moves_on):
    (project / "criteria.yaml").write_text(
        "scheduler:\n"
        "  epoch_transitions_only: false\n"
        f"  transition_criteria: {criteria}\n"
        "  ft_schedule: {0: {params: [head.*], max_transition_epoch: 6}, 1: {params: [backbone.*]}}\n"
    )
    result = run("plan", "--config", "config.yaml", "--config", "criteria.yaml")
    assert [row[-1] for row in cells(result.stdout)[1:]] == [moves_on, "to max_epochs"]
    assert ("ends nothing" in " ".join(result.stderr.split())) is ("Epochs" not in criteria)


def test_a_long_plan_shows_its_ends(project, run):
    (project / "long.yaml").write_text("0: {params: [head.*]}\n" + "".join(f"{n}: {{}}\n" for n in range(1, 500)))
    result = run("plan", "own_project.Classifier", "--schedule", "long.yaml")
    rows = cells(result.stdout)[1:]
    assert len(rows) == 201
    assert set(rows[100]) == {"⋮"}
    assert rows[-1][0] == "499"


def test_plan_without_a_schedule_shows_the_one_that_would_be_generated(project, run):
    result = run("plan", "own_project.Classifier")
    assert [row[1] for row in cells(result.stdout)[1:]] == ["2", "2", "2"]
    assert "would be generated" in result.stdout


def test_plan_allocates_no_parameters(project, run):
    # 4 TB of float32 if it had storage.
    result = run("plan", "own_project.Classifier", "--init-args", "{width: 1000000}")
    assert result.exit_code == 0, result.output
    assert "1,000,007,000,002" in result.stdout.replace(" ", "") or "parameters in 3 phases" in result.stdout


def test_plan_warns_of_layers_that_only_a_fit_can_make(project, run):
    result = run("plan", "own_project.NeedsTrainerToBuild")
    assert result.exit_code == 0, result.output
    said = re.sub(r"\s+", " ", result.stderr)
    assert said.startswith("Warning: NeedsTrainerToBuild.configure_model() cannot run outside a fit (RuntimeError: ")
    assert "the layers that it makes are missing here" in said


def test_plan_trains_and_writes_nothing(project, run):
    before = sorted(path.name for path in project.iterdir() if path.is_file())
    assert run("plan", "--config", "config.yaml").exit_code == 0
    assert sorted(path.name for path in project.iterdir() if path.is_file()) == before


def test_a_constructor_that_needs_values_is_planned_on_the_cpu(project, run, refused):
    message = refused("plan", "own_project.NeedsValues")
    assert "meta device" in message
    assert "--on-cpu" in message
    result = run("plan", "own_project.NeedsValues", "--on-cpu")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["plan"], "phasewire plan my_project"),
        (["plan", "own_project.NoModule"], "no torch module"),
        (["plan", "own_project.Classifier", "--init-args", "[1, 2]"], "mapping"),
        (["plan", "own_project.Classifier", "--init-args", "{width: 3"], "--init-args"),
        (["plan", "own_project.Classifier", "--schedule", "absent.yaml"], "absent.yaml"),
        (["plan", "--config", "config.yaml", "--init-args", "{width: 3}"], "--init-args"),
        (["schedule", "generate", "own_project.Absent"], "Absent"),
        (["schedule", "validate", "absent.yaml", "--model", "own_project.Classifier"], "absent.yaml"),
    ],
)
def test_what_cannot_be_planned_is_refused(project, refused, arguments, expected):
    assert expected in refused(*arguments)


def test_a_class_of_the_working_directory_is_importable_only_during_the_command(project, run):
    assert run("plan", "own_project.Classifier").exit_code == 0
    import sys

    sys.modules.pop("own_project", None)
    with pytest.raises(Exception, match="own_project"):
        import_attribute("own_project.Classifier")


def test_generate_uses_the_generator_that_is_named(project, run):
    result = run(
        "schedule", "generate", "own_project.Classifier", "--generator", "equal_mass", "--options", "phases: 2"
    )

    assert result.exit_code == 0, result.output
    written = yaml.safe_load((project / "Classifier_ft_schedule.yaml").read_text())
    assert list(written) == [0, 1]
    assert r"head\..*" in written[0]["params"]


def test_generate_refuses_an_unknown_generator_or_option(project, refused):
    model = ("schedule", "generate", "own_project.Classifier", "--generator")

    assert "Did you mean 'per_block'" in refused(*model, "per_blok")
    assert "--options" in refused(*model, "equal_mass", "--options", "{phase: 2}")
    assert "--options" in refused(*model, "equal_mass", "--options", "[2]")


ADAPTERS = """
from phasewire.adapters import StrategyAdapter


class Shouting(StrategyAdapter):
    def get_named_params_for_schedule_validation(self):
        return {name.upper(): parameter for name, parameter in self.pl_module.named_parameters()}

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return [name.lower() for name in orig_pl]


class NeedsTrainer(Shouting):
    def connect(self, fts_parent):
        super().connect(fts_parent)
        self.devices = self.trainer.num_devices


class Failing(Shouting):
    def on_before_init_fts(self):
        raise ZeroDivisionError("a bug in the adapter")
"""


def configure(project, adapter, trainer, **scheduler):
    (project / "own_adapters.py").write_text(ADAPTERS)
    config = {
        "model": {"class_path": "own_project.Classifier"},
        "trainer": trainer,
        "scheduler": {"custom_strategy_adapters": {"ddp": f"own_adapters:{adapter}"}, **scheduler},
    }
    (project / "adapter.yaml").write_text(yaml.safe_dump(config))


def plan_with(project, run, adapter, schedule, **trainer):
    configure(project, adapter, trainer)
    write_schedule(project, schedule)
    return run("plan", "--config", "adapter.yaml", "--schedule", "schedule.yaml")


SHOUTED = {0: {"params": ["HEAD.*"]}, 1: {"params": ["BACKBONE.*"]}}


@pytest.mark.parametrize("trainer", [{"strategy": "ddp"}, {"strategy": "ddp_spawn"}, {"devices": 2}])
def test_plan_is_in_the_names_of_the_adapter_of_the_strategy(project, run, trainer):
    result = plan_with(project, run, "Shouting", SHOUTED, **trainer)
    assert result.exit_code == 0, result.output
    assert [row[1] for row in cells(result.stdout)[1:]] == ["2", "4"]


@pytest.mark.parametrize(
    ("adapter", "trainer", "said"),
    [
        ("NeedsTrainer", {"strategy": "ddp"}, "NeedsTrainer asks for fts_handle.trainer, which only a fit has"),
        ("Shouting", {}, "Which adapter the strategy 'auto' gets is known when it runs"),
    ],
)
def test_plan_says_why_it_takes_the_names_of_the_module(project, run, adapter, trainer, said):
    result = plan_with(project, run, adapter, {0: {"params": ["head.*"]}}, **trainer)
    assert result.exit_code == 0, result.output
    assert said in re.sub(r"\s+", " ", result.stderr)


def test_plan_reports_an_adapter_that_fails(project, run):
    result = plan_with(project, run, "Failing", SHOUTED, strategy="ddp")
    assert result.exit_code == 2
    assert "Failing failed with ZeroDivisionError" in re.sub(r"\s+", " ", result.stderr)


def test_generate_and_validate_are_in_the_names_of_the_configured_adapter(project, run):
    configure(project, "Shouting", {"strategy": "ddp"}, schedule_generator="equal_mass", epoch_transitions_only=True)
    made = run("schedule", "generate", "--config", "adapter.yaml", "--options", "{phases: 2}", "--output", "made.yaml")
    assert made.exit_code == 0, made.output
    written = yaml.safe_load((project / "made.yaml").read_text())
    names = [name for phase in written.values() for name in phase["params"]]
    assert len(written) == 2
    assert names
    assert all(name == name.upper() for name in names)
    run("schedule", "generate", "--config", "adapter.yaml", "--generator", "pairs", "--output", "pairs.yaml")
    configure(project, "Shouting", {"strategy": "ddp"})
    valid = run("schedule", "validate", "pairs.yaml", "--config", "adapter.yaml")
    assert valid.exit_code == 0, valid.output
    assert "pairs.yaml is valid for Classifier: 3 phases, every parameter is thawed." in valid.stdout


def test_validate_refuses_the_names_of_the_module_where_the_adapter_has_others(project, run, refused):
    configure(project, "Shouting", {"strategy": "ddp"})
    write_schedule(project, GOOD)
    assert "HEAD.WEIGHT" in refused("schedule", "validate", "schedule.yaml", "--config", "adapter.yaml")
    run("schedule", "generate", "own_project.Classifier", "--output", "own.yaml")
    assert run("schedule", "validate", "own.yaml", "--model", "own_project.Classifier").exit_code == 0


def test_generate_says_why_it_takes_the_names_of_the_module(project, run):
    configure(project, "NeedsTrainer", {"strategy": "ddp"})
    made = run("schedule", "generate", "--config", "adapter.yaml", "--output", "made.yaml")
    assert made.exit_code == 0, made.output
    assert "NeedsTrainer asks for fts_handle.trainer" in re.sub(r"\s+", " ", made.stderr)
    assert yaml.safe_load((project / "made.yaml").read_text())[0]["params"] == ["head.bias", "head.weight"]


@pytest.mark.parametrize("command", [("generate",), ("validate", "schedule.yaml")])
def test_generate_and_validate_need_a_model_from_somewhere(project, refused, command):
    write_schedule(project, GOOD)
    assert f"schedule {command[0]} needs a model." in refused("schedule", *command)
