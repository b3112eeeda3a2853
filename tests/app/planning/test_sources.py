"""A plan for a Hugging Face model, and for a checkpoint, without weights and without a network."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn

from phasewire.adapters.errors import CheckpointError, ConfigError
from phasewire.app.plan import build_model
from phasewire.app.planning.sources import model_named
from tuning import TunedModule, fit, make_trainer

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "torch_dtype": "bfloat16",
}


class TakesAny(torch.nn.Module):
    def __init__(self, **given):
        super().__init__()
        self.given = given


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("llama")
    (made / "config.json").write_text(json.dumps(LLAMA))
    return made


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    made = tmp_path_factory.mktemp("checkpoint")
    trainer = make_trainer(made, max_epochs=1, enable_checkpointing=False)
    fit(trainer, TunedModule())
    trainer.save_checkpoint(made / "best.ckpt")
    return made / "best.ckpt"


def shapes(model):
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def test_a_folder_is_built_as_its_architecture_in_its_type_and_without_storage(folder):
    model = build_model(model_named(str(folder)))
    assert type(model).__name__ == "LlamaForCausalLM"
    assert {(parameter.dtype, parameter.device.type) for parameter in model.parameters()} == {(torch.bfloat16, "meta")}
    assert torch.get_default_dtype() is torch.float32
    assert "lm_head.weight" in shapes(model)


def test_a_folder_can_be_built_as_another_class_with_another_configuration(folder):
    named = model_named(
        str(folder), "{num_labels: 3}", built_as="AutoModelForSequenceClassification", attribute="net.hf"
    )
    model = build_model(named)
    assert shapes(model)["net.hf.score.weight"] == (3, 16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_checkpoint_gives_names_shapes_and_types_and_no_statistics(checkpoint):
    model = build_model(model_named(str(checkpoint)))
    assert shapes(model) == shapes(TunedModule())
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_a_checkpoint_of_many_modules_makes_each_once_and_looks_at_no_others(tmp_path, monkeypatch):
    looked = []
    children = torch.nn.Module.named_children
    monkeypatch.setattr(torch.nn.Module, "named_children", lambda module: looked.append(module) or children(module))
    state = {f"layers.{n}.{part}.w": torch.zeros(1) for n in range(20) for part in "ab"}
    torch.save({"state_dict": state}, tmp_path / "x")
    model = model_named(str(tmp_path / "x"))()
    assert not looked
    assert list(shapes(model)) == list(state)
    assert len(list(model.modules())) == 1 + 1 + 20 + 40


def test_parts_may_have_the_names_of_methods_of_a_module(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.type = nn.Linear(2, 3)

    state = Model().state_dict()
    torch.save({"state_dict": state}, tmp_path / "x.ckpt")
    skeleton = build_model(model_named(str(tmp_path / "x.ckpt")))
    assert list(shapes(skeleton)) == list(state)


@pytest.mark.parametrize("names", [["a", "a.b"], ["a.b", "a"], ["forward"], ["a..b"], ["a."]])
def test_names_that_no_module_can_have_are_refused(tmp_path, names):
    torch.save({"state_dict": {name: torch.zeros(1) for name in names}}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=rf"x\.ckpt: .*{re.escape(repr(names[-1]))}"):
        model_named(str(tmp_path / "x.ckpt"))()


def test_tied_weights_of_a_checkpoint_stay_tied(tmp_path):
    weight = torch.zeros(4, 3)
    torch.save(
        {"state_dict": {"embed.weight": weight, "head.weight": weight, "head.bias": torch.zeros(4)}}, tmp_path / "x"
    )
    model = build_model(model_named(str(tmp_path / "x")))
    assert list(shapes(model)) == ["embed.weight", "head.bias"]
    assert model.get_parameter("head.weight") is model.get_parameter("embed.weight")


def test_a_class_is_built_with_the_arguments_that_the_checkpoint_records(tmp_path):
    content = {"state_dict": {}, "hyper_parameters": {"in_features": 3, "out_features": 5, "_instantiator": "x"}}
    torch.save(content, tmp_path / "recorded.ckpt")
    model = build_model(model_named(str(tmp_path / "recorded.ckpt"), "{out_features: 7}", built_as="torch.nn.Linear"))
    assert shapes(model) == {"weight": (7, 3), "bias": (7,)}
    content["hyper_parameters"]["_class_path"] = "torch.nn.Linear"
    torch.save(content, tmp_path / "by_cli.ckpt")
    assert shapes(build_model(model_named(str(tmp_path / "by_cli.ckpt"))))["weight"] == (5, 3)


def test_recorded_arguments_that_a_class_does_not_take_are_dropped_and_given_ones_are_refused(tmp_path):
    recorded = {"in_features": 3, "out_features": 5, "lr": 0.1}
    torch.save({"state_dict": {}, "hyper_parameters": recorded}, tmp_path / "x.ckpt")
    model = build_model(model_named(str(tmp_path / "x.ckpt"), built_as="torch.nn.Linear"))
    assert shapes(model)["weight"] == (5, 3)
    with pytest.raises(ConfigError, match="takes no argument 'wdth'") as caught:
        build_model(model_named(str(tmp_path / "x.ckpt"), "{wdth: 3}", built_as="torch.nn.Linear"))
    assert caught.value.where == "--init-args, wdth"


def test_a_class_that_takes_any_keyword_gets_every_recorded_argument(tmp_path):
    torch.save({"state_dict": {}, "hyper_parameters": {"width": 3, "lr": 0.1}}, tmp_path / "x.ckpt")
    model = build_model(model_named(str(tmp_path / "x.ckpt"), built_as=f"{__name__}:TakesAny"))
    assert model.given == {"width": 3, "lr": 0.1}


def test_arguments_for_a_checkpoint_that_names_no_class_are_refused(checkpoint):
    with pytest.raises(ConfigError, match="names no class") as caught:
        build_model(model_named(str(checkpoint), "{width: 3}"))
    assert caught.value.where == "--init-args"


@pytest.mark.parametrize(
    ("text", "built_as", "error", "said"),
    [
        ("absent.ckpt", None, ConfigError, "There is no such file or folder"),
        ("./absent", None, ConfigError, "There is no such file or folder"),
        ("torch.nn.Linear", "AutoModel", ConfigError, "is a class already"),
        ("{tmp}", None, ConfigError, r"has no config\.json"),
        ("{tmp}/notes.txt", None, CheckpointError, "cannot be read"),
        ("{tmp}/plain.pt", None, CheckpointError, "no state_dict"),
        (
            "{folder}",
            "AutoModelForSequenceClasification",
            ConfigError,
            "Did you mean 'AutoModelForSequenceClassification'",
        ),
        ("{folder}", "collections.OrderedDict", ConfigError, "no torch module|could not be built"),
    ],
)
def test_what_no_model_can_be_built_from_is_refused(tmp_path, folder, text, built_as, error, said):
    (tmp_path / "notes.txt").write_text("notes")
    torch.save([1], tmp_path / "plain.pt")
    with pytest.raises(error, match=said):
        build_model(model_named(text.format(tmp=tmp_path, folder=folder), built_as=built_as))


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "of_nobody"}')
    with pytest.raises(ConfigError, match="cannot be read"):
        build_model(model_named(str(tmp_path)))


@pytest.mark.parametrize("attribute", ["", "a..b", ".a", "training", "net.forward"])
def test_an_attribute_that_can_hold_no_module_is_refused(attribute):
    with pytest.raises(ConfigError, match=r"^--attribute: .*Name the attribute in which your module holds the model"):
        model_named("torch.nn.Identity", attribute=attribute)
