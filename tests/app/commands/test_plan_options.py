"""``phasewire plan`` beyond its table: --check, --diff, --json, --out, --precision and --optimizer, and a terminal."""

from __future__ import annotations

import json
import re

import pytest
import torch
import yaml

GOOD = {
    0: {"params": ["head.*"], "max_transition_epoch": 3},
    1: {"params": [r"backbone\.1\..*"], "lr": 0.002},
    2: {"params": [r"backbone\.0\..*"]},
}
OTHER = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": [r"backbone\..*"], "lr": 0.001},
}
MODEL = "own_project.Classifier"


@pytest.fixture
def files(project):
    for name, schedule in (("good", GOOD), ("other", OTHER), ("bad", {0: {"params": ["haed.*"]}})):
        (project / f"{name}.yaml").write_text(yaml.safe_dump(schedule))
    return project


def test_check_says_that_a_schedule_is_valid(files, run):
    result = run("plan", MODEL, "--schedule", "good.yaml", "--check")
    assert (result.exit_code, result.stdout) == (0, "good.yaml is valid for Classifier: 3 phases.\n")


def test_check_exits_with_1_for_a_schedule_that_is_not_and_with_2_for_a_model_that_is_not_there(files, run):
    result = run("plan", MODEL, "--schedule", "bad.yaml", "--check")
    assert result.exit_code == 1
    assert "Not valid: bad.yaml, line 3, phase 0, params[0]: 'haed.*' matches no parameter" in result.stderr
    result = run("plan", MODEL, "--schedule", "bad.yaml", "--check", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["valid"] is False
    assert run("plan", "own_project.Absent", "--schedule", "good.yaml", "--check").exit_code == 2


def test_json_tells_everything_to_a_machine(files, run):
    plan = json.loads(run("plan", MODEL, "--schedule", "good.yaml", "--json").stdout)
    assert plan["phases"][1]["names"] == ["backbone.1.weight", "backbone.1.bias"]
    assert [phase["lr"] for phase in plan["phases"]] == [[0.1], [0.002], [1e-05]]
    assert [phase["gradient_bytes"] for phase in plan["phases"]] == [40, 120, 184]
    assert (plan["parameters"], plan["weight_bytes"], plan["optimizer"]) == (46, 184, "SGD")


def test_precision_and_optimizer_of_the_command_line_come_first(files, run):
    given = ["--precision", "bf16-true", "--optimizer", "{class_path: torch.optim.SGD, init_args: {momentum: 0.9}}"]
    plan = json.loads(run("plan", MODEL, "--schedule", "good.yaml", "--json", *given).stdout)
    assert [phase["optimizer_bytes"] for phase in plan["phases"]] == [20, 60, 92]
    assert plan["optimizer"] == "SGD(momentum=0.9)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--precision", "bf16-tru"], "Did you mean 'bf16-true'"),
        (["--optimizer", "torch.optim.Adm"], "Adm"),
        (["--optimizer", "torch.nn.Linear"], "could not be constructed|subclass"),
        (["--out", "plan.pdf"], "ends with .svg, .png or .html"),
        (["--out", "own_project.py/plan.svg"], "cannot be written"),
        (["--diff", "absent.yaml"], "absent.yaml"),
        (["--check", "--diff", "bad.yaml"], "^Error: --check, --diff: "),
    ],
)
def test_options_that_cannot_be_used_are_refused(files, refused, arguments, said):
    assert re.search(said, refused("plan", MODEL, "--schedule", "good.yaml", *arguments))


def test_diff_tells_phase_by_phase_what_is_added_removed_and_changed(files, run):
    result = run("plan", MODEL, "--schedule", "good.yaml", "--diff", "other.yaml")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "Classifier: good.yaml → other.yaml",
        "├── phase 0",
        "│   └── moves on: by early stopping, at epoch 3 at the latest → by early stopping, at epoch 2 at the latest",
        "├── phase 1",
        "│   ├── + backbone.0.* (2 tensors), from phase 2",
        "│   ├── lr: 0.002 → 0.001",
        "│   └── moves on: by early stopping → to max_epochs",
        "├── phase 2 (only in good.yaml)",
        "│   └── - backbone.0.* (2 tensors), to phase 1",
        "└── gradients and optimizer at most: 184 B in both",
    ]
    found = json.loads(run("plan", MODEL, "--schedule", "good.yaml", "--diff", "other.yaml", "--json").stdout)
    assert [(each["phase"], each["only_in"]) for each in found] == [(0, None), (1, None), (2, "first")]
    assert found[1]["added"][0] == {"name": "backbone.0.weight", "from_phase": 2}


def test_a_schedule_does_not_differ_from_itself(files, run):
    result = run("plan", MODEL, "--schedule", "good.yaml", "--diff", "good.yaml")
    assert result.stdout == "Classifier: good.yaml → good.yaml: no difference\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_diff_gives_the_warnings_of_both_plans_each_once(files, run, form):
    (files / "empty.yaml").write_text(yaml.safe_dump({**GOOD, 1: {"params": []}}))
    (files / "three.yaml").write_text(yaml.safe_dump({**GOOD, 2: {"params": []}}))
    result = run("plan", MODEL, "--schedule", "empty.yaml", "--diff", "three.yaml", *form)
    assert result.exit_code == 0, result.output
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning")]
    assert [file for line in warnings for file in ("empty.yaml", "three.yaml") if file in line] == [
        "empty.yaml",
        "three.yaml",
    ]
    assert len(warnings) == 2
    with_itself = run("plan", MODEL, "--schedule", "empty.yaml", "--diff", "empty.yaml", *form)
    assert with_itself.stderr.count("Warning: ") == 1


def test_without_a_terminal_the_picture_is_plain(files, run):
    lines = run("plan", MODEL, "--schedule", "good.yaml").stdout.splitlines()
    assert lines[-5:] == [
        "phase       0 1 2",
        "backbone.0  . . #   16   34.8%",
        "backbone.1  . # =   20   43.5%",
        "head        # = =   10   21.7%",
        "            # thawed here   = before   +- in part   . frozen",
    ]


def in_terminal(run, width, *arguments):
    from typer.testing import CliRunner

    from phasewire.app.cli import app

    environment = {"TTY_COMPATIBLE": "1", "NO_COLOR": "1", "COLUMNS": str(width)}
    result = CliRunner().invoke(app, arguments, env=environment)
    assert result.exit_code == 0, result.output
    return re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)


def test_a_plan_says_that_buffers_may_count_as_parameters_where_no_class_tells_them_apart(files, run):
    torch.save({"state_dict": {"head.weight": torch.zeros(2, 3), "head.scale": torch.zeros(1)}}, "x.ckpt")
    said = "The checkpoint names no class, so that buffers cannot be told from parameters"
    for held in ([], ["--attribute", "model"]):
        assert said in run("plan", "x.ckpt", *held).stdout
        assert json.loads(run("plan", "x.ckpt", *held, "--json").stdout)["buffers_may_be_counted"] is True
    torch.save({"state_dict": {}, "hyper_parameters": {"width": 4}}, "x.ckpt")
    assert said not in run("plan", "x.ckpt", "--class", MODEL).stdout


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_gets_what_fits_into_its_lines(files, run, width):
    shown = in_terminal(run, width, "plan", MODEL, "--schedule", "good.yaml")
    assert max(map(len, shown.splitlines())) <= width
    assert "█ ▒ ▒" in shown
    heading = next(line for line in shown.splitlines() if line.startswith("┃"))
    assert ("Tensors" in heading) is (width == 140)
    assert all(each in heading for each in ("Phase", "Parameters", "Optimizer", "lr", "Moves on"))


def test_a_plan_is_drawn_into_files_and_each_time_the_same(files, run):
    arguments = ["plan", MODEL, "--schedule", "good.yaml", "--out", "drawn/a.svg", "--out", "a.png", "--out", "a.html"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == ["Wrote drawn/a.svg", "Wrote a.png", "Wrote a.html"]
    first = (files / "drawn" / "a.svg").read_bytes()
    assert (files / "a.png").read_bytes().startswith(b"\x89PNG")
    page = (files / "a.html").read_text()
    assert page.count("data:image/svg+xml") == 2, "one for light pages and one for dark"
    assert "by early stopping, at epoch 3 at the latest" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    run(*arguments)
    assert (files / "drawn" / "a.svg").read_bytes() == first


def test_a_plan_takes_the_place_of_a_file_whole(files, run):
    (files / "a.html").write_text("before")
    (files / "held.html").hardlink_to(files / "a.html")
    assert run("plan", MODEL, "--schedule", "good.yaml", "--out", "a.html").exit_code == 0
    assert "data:image/svg+xml" in (files / "a.html").read_text()
    assert (files / "held.html").read_text() == "before"
    assert not [path for path in files.iterdir() if "draft" in path.name]


def test_a_page_escapes_what_it_shows(files, run):
    (files / "<b>.yaml").write_text(yaml.safe_dump({**GOOD, 0: {"params": ["head.*"], "lr": 3}}))
    assert run("plan", MODEL, "--schedule", "<b>.yaml", "--out", "a.html").exit_code == 0
    page = (files / "a.html").read_text()
    assert "&lt;b&gt;.yaml" in page
    assert "<b>" not in page


def test_without_matplotlib_the_extra_is_named(files, refused, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "phasewire[plots]" in refused("plan", MODEL, "--schedule", "good.yaml", "--out", "a.svg")


def test_plan_generates_as_the_settings_say(project, run):
    (project / "generate.yaml").write_text(
        "scheduler: {ft_schedule: null, schedule_generator: equal_mass, schedule_generator_cfg: {phases: 2}, "
        "epoch_transitions_only: false}\n"
    )
    result = run("plan", "--config", "config.yaml", "--config", "generate.yaml", "--json")
    assert len(json.loads(result.stdout)["phases"]) == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_obeys_no_name_of_a_checkpoint(files, run, terminal):
    torch.save(
        {"state_dict": {"head\x1b]0;mine\x07.weight": torch.ones(2, 3), "tail\x9b2J.bias": torch.ones(2)}}, "x.ckpt"
    )
    (files / "head.yaml").write_text("0: {params: [head.*]}")
    command = ("plan", "x.ckpt", "--schedule", "head.yaml")
    shown = in_terminal(run, 120, *command) if terminal else run(*command).output
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert "head\N{SYMBOL FOR ESCAPE}]0;mine" in shown
