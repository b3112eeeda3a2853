"""``phasewire checkpoint convert``: told the module and the adapter, or told nothing."""

from __future__ import annotations

import io
import sys

import pytest
import torch

from phasewire.app.commands.reporting import byte_bar

ADAPTER = """
from phasewire.adapters import Renaming, StrategyAdapter


class Spoken(StrategyAdapter):
    def __init__(self, word="trunk", **cfg):
        super().__init__(**cfg)
        self.word = word

    def checkpoint_renamings(self):
        return {"spoken": Renaming({"backbone": self.word})}


class Silent(StrategyAdapter):
    pass


class Curious(StrategyAdapter):
    def connect(self, fts_parent):
        super().connect(fts_parent)
        fts_parent.ft_schedule
"""
NAMED = ("--model", "own_project.Classifier", "--adapter", "own_adapter:Spoken")


@pytest.fixture
def plain(project):
    """A plain state dict in names that only the adapter knows, and what it holds."""
    (project / "own_adapter.py").write_text(ADAPTER)
    shapes = {"trunk.0.weight": (4, 3), "trunk.0.bias": (4,), "trunk.1.weight": (4, 4), "trunk.1.bias": (4,)}
    state = {name: torch.randn(shape) for name, shape in (shapes | {"head.weight": (2, 4), "head.bias": (2,)}).items()}
    torch.save(state, project / "plain.pt")
    yield state
    sys.modules.pop("own_adapter", None)


def test_the_module_and_the_adapter_are_named_for_a_file_that_tells_nothing(project, run, plain):
    done = run("checkpoint", "convert", "plain.pt", "start.ckpt", "--to", "canonical", *NAMED)
    assert done.exit_code == 0, done.output
    assert done.stdout == "start.ckpt: 6 tensors, spoken names to canonical names.\n"
    from own_project import Classifier

    module = Classifier.load_from_checkpoint("start.ckpt")
    values = zip(module.state_dict().values(), plain.values(), strict=True)
    assert all(torch.equal(one, other) for one, other in values)


def test_what_was_converted_tells_its_names_and_needs_no_more_arguments(project, run, plain):
    run("checkpoint", "convert", "plain.pt", "start.ckpt", "--to", "canonical", *NAMED)
    done = run("checkpoint", "convert", "start.ckpt", "start.safetensors", "--to", "spoken")
    assert done.exit_code == 0, done.output
    assert "Left out: epoch, global_step, pytorch-lightning_version." in done.stderr
    from safetensors.torch import load_file

    written = load_file("start.safetensors")
    assert written.keys() == plain.keys()
    assert all(torch.equal(value, plain[name]) for name, value in written.items())


def test_the_adapter_takes_options_and_the_model_arguments(project, run, plain):
    options = ("--cfg", "{word: stem}", "--init-args", "{width: 4}")
    done = run("checkpoint", "convert", "plain.pt", "a.ckpt", "--to", "canonical", *NAMED)
    done = run("checkpoint", "convert", "a.ckpt", "b.ckpt", "--to", "spoken", *NAMED, *options)
    assert done.exit_code == 0, done.output
    assert "stem.0.weight" in torch.load("b.ckpt", weights_only=True)["state_dict"]


def test_the_configuration_of_a_fit_says_both_where_the_file_does_not(project, run, plain):
    (project / "fit.yaml").write_text(
        "model: {class_path: own_project.Classifier}\n"
        "scheduler: {custom_strategy_adapters: {auto: 'own_adapter:Spoken'}, strategy_adapter_cfg: {word: trunk}}\n"
    )
    done = run("checkpoint", "convert", "plain.pt", "start.ckpt", "--to", "canonical", "--config", "fit.yaml")
    assert done.exit_code == 0, done.output
    assert done.stdout == "start.ckpt: 6 tensors, spoken names to canonical names.\n"
    (project / "fit.yaml").write_text("model: {class_path: own_project.NoModule}\n")
    done = run("checkpoint", "convert", "start.ckpt", "back.ckpt", "--to", "spoken", "--config", "fit.yaml")
    assert done.exit_code == 0, done.output  # the file tells, so nothing is built


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "does not tell what names there are"),
        (NAMED[:2], "Names are known by an adapter, and none is given"),
        (NAMED[2:], "checkpoint convert needs a model"),
        (("--model", "own_project.NoModule", *NAMED[2:]), "NoModule"),
        ((*NAMED[:2], "--adapter", "own_adapter:Silent"), "has no names for checkpoints but the module's own"),
        ((*NAMED[:2], "--adapter", "own_adapter:Curious"), "asks for fts_handle.ft_schedule, and nothing is trained"),
        ((*NAMED[:2], "--adapter", "nobody"), "No adapter is called 'nobody'"),
        ((*NAMED, "--cfg", "{wrd: x}"), "has no option named 'wrd'"),
    ],
)
def test_what_is_missing_is_told_and_nothing_is_written(project, refused, plain, arguments, message):
    assert message in refused("checkpoint", "convert", "plain.pt", "out.ckpt", "--to", "canonical", *arguments)
    assert not (project / "out.ckpt").exists()


def test_a_file_that_is_there_is_replaced_only_by_force(project, run, refused, plain):
    (project / "out.ckpt").write_text("mine")
    words = ("checkpoint", "convert", "plain.pt", "out.ckpt", "--to", "canonical", *NAMED)
    assert "There is a file already" in refused(*words)
    assert (project / "out.ckpt").read_text() == "mine"
    assert run(*words, "--force").exit_code == 0
    assert torch.load("out.ckpt", weights_only=True)["phasewire"]["parameter_names"] == "module"


def test_a_bar_on_a_terminal_shows_how_much_is_written(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")

    with byte_bar("Writing [red]a.ckpt") as watch:
        watch(3_000_000, 4_000_000)

    assert "Writing [red]a.ckpt" in terminal.getvalue()
    assert "3.0/4.0 MB" in terminal.getvalue()


def test_there_is_no_bar_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())

    with byte_bar("Writing") as watch:
        watch(1, 1)

    assert sys.stderr.getvalue() == ""
