"""``phasewire schedule explain``, ``lint`` and ``schema``, and the line that ``generate`` writes for editors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from phasewire.app.schedule import load_schedule
from phasewire.app.schedule.json_schema import SCHEMA_FILE, schedule_schema

MODULE = """
import torch
from torch import nn


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 2)
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(12))
        self.norm1 = nn.LayerNorm(2)
        self.head = nn.Linear(2, 4)
        self.head.weight = self.embed.weight
"""
MODEL = ("--model", "stack.Stack")


@pytest.fixture
def lint(tmp_path, monkeypatch, run):
    """Lints a schedule, and gives what was found as (rule, phase, names)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stack.py").write_text(MODULE)

    def found(schedule, *options):
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(schedule))
        result = run("schedule", "lint", "s.yaml", *MODEL, "--json", *options)
        findings = json.loads(result.stdout)
        assert result.exit_code == (1 if findings else 0)
        return [(each["rule"], each["phase"], each["names"]) for each in findings]

    yield found
    import sys

    sys.modules.pop("stack", None)


def layers(*numbers):
    return [f"layers.{number}.{leaf}" for number in numbers for leaf in ("weight", "bias")]


WHOLE = {0: {"params": ["head.bias", r"norm1\..*"]}, 1: {"params": [r"layers\..*", r"embed\..*"]}}


def test_a_schedule_that_says_what_it_seems_to_is_left_alone(lint, run):
    assert lint(WHOLE) == []
    result = run("schedule", "lint", "s.yaml", *MODEL)
    assert (result.exit_code, result.stdout) == (0, "s.yaml: nothing found.\n")


@pytest.mark.parametrize(
    ("pattern", "rule", "more"),
    [
        ("layers.1.*", "unescaped-dot", (10, 11)),
        (r"layers.(1|2).*", "unescaped-dot", (10, 11)),
        (r"layers\.[12].*", "unescaped-dot", (10, 11)),
        (r"layers\.1", "open-end", (10, 11)),
        ("layers.1", "open-end", (10, 11)),
    ],
)
def test_a_pattern_that_matches_more_than_it_seems_to_is_found(lint, pattern, rule, more):
    schedule = {0: {"params": ["head.bias"]}, 1: {"params": [pattern]}}
    assert lint(schedule, "--ignore", "never-thawed") == [(rule, 1, layers(*more))]


@pytest.mark.parametrize(
    "pattern",
    [
        "layers.3.*",  # there is no layer 30
        "head.bias",  # a full name, which takes that parameter alone
        r"layers\.1\..*",
        r"layers\.1\d\..*",
        "norm.*",  # there is no module "norm", so this can only mean what it says
        r"layers\.(?!1).*",
        ".*norm.*",
        ".*",
        "layers.*",
        r"layers\.\d+\.bias",
    ],
)
def test_a_dot_that_takes_nothing_more_is_no_finding(lint, pattern):
    assert lint({0: {"params": [pattern]}}, "--ignore", "never-thawed") in (
        [],
        # With a pattern for all, the second name of the tied weight is what the validator remarks on.
        [("schedule", None, [])],
    )


def test_patterns_that_match_the_same_are_found_in_one_phase_and_in_two(lint):
    schedule = {0: {"params": [r"head\.bias", r"head\..*"]}, 1: {"params": [r"layers\..*", r"layers\.2\..*"]}}
    ignored = ("--ignore", "never-thawed", "--ignore", "schedule")
    assert lint(schedule, *ignored) == [("overlap", 0, ["head.bias"]), ("overlap", 1, layers(2))]
    schedule = {0: {"params": [r"layers\..*"]}, 1: {"params": ["layers.3.bias"]}}
    assert lint(schedule, *ignored) == [("overlap", 1, ["layers.3.bias"])]


def test_phases_that_change_nothing_are_found(lint):
    anew = {"new_optimizer": {"optimizer_init": {"class_path": "torch.optim.SGD"}}}
    schedule = {**WHOLE, 2: {}, 3: anew, 4: {"params": ["head.bias"]}}
    schedule[1] = {**schedule[1], "lr": 0}
    assert lint(schedule) == [("no-change", 1, []), ("no-change", 2, []), ("overlap", 4, ["head.bias"])]


def test_what_is_never_thawed_and_what_matches_nothing_is_found(lint, run):
    assert lint({0: {"params": ["head.bias", "heed.*", r"layers\..*"]}}) == [
        ("no-match", 0, []),
        ("never-thawed", None, ["embed.weight", "norm1.weight", "norm1.bias"]),
    ]
    shown = run("schedule", "lint", "s.yaml", *MODEL).stdout.splitlines()
    assert shown[0].startswith("s.yaml, line 4, phase 0, params[1]: 'heed.*' matches no parameter.")
    never = "No phase thaws embed.weight and norm1.* (2 tensors): 3 of 28 parameters stay as they are."
    assert shown[-1] == f"s.yaml: {never} [never-thawed]"


def test_whatever_else_the_validator_says_is_found(lint):
    assert lint({0: {"params": ["head.bias"]}, 2: {"params": ["embed.*"]}}, "--ignore", "never-thawed") == [
        ("schedule", None, [])
    ]
    assert lint({**WHOLE, 0: {**WHOLE[0], "lr": 0.1}}) == [("schedule", None, [])]


def test_a_rule_that_does_not_exist_is_refused(lint, refused):
    lint(WHOLE)
    assert "Did you mean 'overlap'" in refused("schedule", "lint", "s.yaml", *MODEL, "--ignore", "overlaps")


def test_explain_shows_what_each_pattern_matches_and_which_matches_none(lint, run):
    lint({0: {"params": ["head.*", "heed.*"]}, 1: {"params": [r"layers\.1\d.*", "embed.weight"]}})
    result = run("schedule", "explain", "s.yaml", *MODEL)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "s.yaml",
        "├── phase 0",
        "│   ├── head.*  matches 1 parameter",
        "│   │   ├── head.bias",
    ]
    assert lines[4] == "│   │   └── head.weight: the second name of a tied parameter, left out"
    assert lines[5].startswith("│   └── heed.*  'heed.*' matches no parameter.")
    assert "│   │   └── layers.10-11.* (4 tensors)" in lines
    assert "│   └── embed.weight  a full name" in lines
    assert "└── in no phase: 22 parameters" in lines
    assert "    ├── layers.0-9.* (20 tensors)" in lines
    every = run("schedule", "explain", "s.yaml", *MODEL, "--all").stdout
    assert all(name in every for name in layers(*range(12)))


def test_explain_tells_a_machine_everything(lint, run):
    lint({0: {"params": ["head.*", "heed.*"]}})
    explained = json.loads(run("schedule", "explain", "s.yaml", *MODEL, "--json").stdout)
    first, second = explained["phases"][0]["patterns"]
    assert (first["names"], first["second_names"], first["problem"]) == (["head.bias"], ["head.weight"], None)
    assert second["names"] == []
    assert "matches no parameter" in second["problem"]
    assert len(explained["never_thawed"]) == 27


def test_explain_is_in_the_names_of_the_configured_adapter(project, run):
    (project / "adapters_of_names.py").write_text(
        "from phasewire.adapters import StrategyAdapter\n\n\n"
        "class Shouting(StrategyAdapter):\n"
        "    def get_named_params_for_schedule_validation(self):\n"
        "        return {name.upper(): parameter for name, parameter in self.pl_module.named_parameters()}\n"
    )
    scheduler = {"custom_strategy_adapters": {"ddp": "adapters_of_names:Shouting"}}
    config = {"model": {"class_path": "own_project.Classifier"}, "trainer": {"strategy": "ddp"}, "scheduler": scheduler}
    (project / "adapter.yaml").write_text(yaml.safe_dump(config))
    (project / "s.yaml").write_text(yaml.safe_dump({0: {"params": ["HEAD.*", "head.*"]}}))
    result = run("schedule", "explain", "s.yaml", "--config", "adapter.yaml")
    assert "HEAD.*  matches 2 parameters" in result.stdout
    assert "head.*  'head.*' matches no parameter" in result.stdout
    # It translates no name back, which a plan cannot do without.
    (project / "s.yaml").write_text(yaml.safe_dump({0: {"params": ["HEAD.*"]}}))
    planned = run("plan", "--config", "adapter.yaml", "--schedule", "s.yaml")
    assert planned.exit_code == 2
    assert "translates a name of phase 0 to 'HEAD.WEIGHT'" in planned.stderr


def test_generate_writes_the_schema_beside_the_schedule_and_names_it_in_the_first_line(project, run):
    result = run("schedule", "generate", "own_project.Classifier", "--output", "deep/s.yaml")
    assert result.exit_code == 0, result.output
    first, *_ = (project / "deep" / "s.yaml").read_text().splitlines()
    assert first == f"# yaml-language-server: $schema=./{SCHEMA_FILE}"
    assert json.loads((project / "deep" / first.partition("=")[2]).read_text()) == schedule_schema()
    assert len(load_schedule(project / "deep" / "s.yaml").phases) == 3


def test_generate_leaves_the_schema_out_where_it_is_not_wanted_or_its_name_is_taken(project, run):
    run("schedule", "generate", "own_project.Classifier", "--output", "a.yaml", "--no-schema")
    assert not (project / SCHEMA_FILE).exists()
    (project / SCHEMA_FILE).write_text("mine")
    result = run("schedule", "generate", "own_project.Classifier", "--output", "b.yaml")
    assert "editors get no schema" in " ".join(result.stderr.split())
    for name in ("a.yaml", "b.yaml"):
        assert "yaml-language-server" not in (project / name).read_text()


def test_schema_goes_to_the_terminal_or_a_file(project, run, refused):
    shown = run("schedule", "schema").stdout
    assert json.loads(shown) == schedule_schema()
    assert run("schedule", "schema", "--out", "new/schema.json").exit_code == 0
    assert (Path("new") / "schema.json").read_text() == shown
    assert "cannot be written" in refused("schedule", "schema", "--out", "own_project.py/schema.json")
