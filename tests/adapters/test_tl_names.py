"""One schedule in TransformerLens names, for many architectures, against the Hugging Face models' own tensors."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import lightning.pytorch as pl
import pytest
import torch
import yaml
from torch import nn

from bridges import SIX, Bridged, BridgedModule, bridged, token_loader
from phasewire.adapters import AdapterError, ScheduleError, TLNamesModelView
from phasewire.adapters.testing import AdapterContract
from phasewire.app import FinetuningScheduler, FTSEarlyStopping
from tuning import Batches, Notes, TunedModule, make_trainer

SCHEDULE = {
    0: {"params": [r"(unembed|ln_final)\..*"], "max_transition_epoch": 1},
    1: {
        "params": ["blocks.1.attn.W_Q", "blocks.1.attn.W_K", r"blocks\.1\.mlp\..*"],
        "max_transition_epoch": 2,
        "lr": 0.1,
    },
    2: {"params": [r"blocks\.0\.(attn|mlp)\..*", r"(pos_)?embed\..*"], "lr": 0.1},
}

_LLAMA = (
    r"model\.norm\.weight|lm_head\.weight",
    r"model\.layers\.1\.(self_attn\.[qk]_proj\.weight|mlp\..*|.*_layernorm\.weight)",
    r"model\.layers\.0\..*|model\.embed_tokens\.weight",
)
#: What each phase adds, by the names of the Hugging Face model. Where embeddings are tied, they come last.
THAWED = {
    "GPT2LMHeadModel": (
        r"transformer\.ln_f\..*",
        r"transformer\.h\.1\.(attn\.c_attn\.weight|mlp\..*|ln_.*)",
        r"transformer\.h\.0\..*|transformer\.w[tp]e\.weight|lm_head\.weight",
    ),
    "GPTJForCausalLM": (
        r"(transformer\.ln_f|lm_head)\..*",
        r"transformer\.h\.1\.(attn\.[qk]_proj\.weight|mlp\..*|ln_1\..*)",
        r"transformer\.h\.0\..*|transformer\.wte\.weight",
    ),
    "OPTForCausalLM": (
        r"model\.decoder\.final_layer_norm\..*",
        r"model\.decoder\.layers\.1\.(self_attn\.[qk]_proj\.weight|fc.*|.*_layer_norm\..*)",
        r"model\.decoder\.layers\.0\..*|model\.decoder\.embed_.*|lm_head\.weight",
    ),
    "PhiForCausalLM": (
        r"(model\.final_layernorm|lm_head)\..*",
        r"model\.layers\.1\.(self_attn\.[qk]_proj\.weight|mlp\..*|input_layernorm\..*)",
        r"model\.layers\.0\..*|model\.embed_tokens\.weight",
    ),
    "Qwen2ForCausalLM": _LLAMA,
    "LlamaForCausalLM": _LLAMA,
    # The code of Phasewire names no architecture; these are not among those that it was specified for.
    "MistralForCausalLM": _LLAMA,
    "MixtralForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": (
        r"model\.norm\.weight",
        r"model\.layers\.1\.(self_attn\.[qk]_(proj|norm)\.weight|mlp\..*|.*_layernorm\.weight)",
        r"model\.layers\.0\..*|model\.embed_tokens\.weight|lm_head\.weight",
    ),
    "GPTNeoXForCausalLM": (
        r"gpt_neox\.final_layer_norm\..*|lm_head\.weight",
        r"gpt_neox\.layers\.1\.(attention\.query_key_value\.weight|mlp\..*|.*_layernorm\..*)",
        r"gpt_neox\.layers\.0\..*|gpt_neox\.embed_in\.weight",
    ),
}
TIED = ("GPT2LMHeadModel", "OPTForCausalLM", "Qwen3ForCausalLM")
#: No gradient reaches the bias of the keys: a softmax does not see what all of its values have in common.
NO_GRADIENT = re.compile(r".*(k_proj\.bias|query_key_value\.bias|c_attn\.bias)")


@dataclass
class Epochs(Notes):
    """Notes, besides, the model's tensors when each epoch began and ended, and which of them required a gradient."""

    source: Bridged
    thawed: list[set[str]] = field(default_factory=list)
    first: list[dict[str, torch.Tensor]] = field(default_factory=list)
    last: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __hash__(self) -> int:
        return id(self)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = self.source.hf_now()
        self.thawed.append({name for name, tensor in now.items() if tensor.requires_grad})
        self.first.append({name: tensor.detach().clone() for name, tensor in now.items()})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last.append({name: tensor.detach().clone() for name, tensor in self.source.hf_now().items()})

    def changed(self, epoch: int) -> set[str]:
        return {name for name, value in self.last[epoch].items() if not torch.equal(value, self.first[epoch][name])}


@dataclass(frozen=True)
class Tuned:
    source: Bridged
    module: BridgedModule
    scheduler: FinetuningScheduler
    epochs: Epochs
    warnings: tuple[str, ...]


def scheduler_for(folder: Path, schedule: object = None, **settings) -> FinetuningScheduler:
    cfg = {"use_tl_names": True} | settings.pop("cfg", {})
    return FinetuningScheduler(
        schedule,
        custom_strategy_adapters={"single_device": "transformerbridge", "auto": "transformerbridge"},
        strategy_adapter_cfg=cfg,
        log_dir=folder,
        restore_best=False,
        **settings,
    )


def tune(folder: Path, source: Bridged, scheduler: FinetuningScheduler, *, max_epochs: int, module=None) -> Tuned:
    module = BridgedModule(source.bridge) if module is None else module
    epochs = Epochs(source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=".*second names of tied parameters")
        trainer = make_trainer(folder, scheduler, FTSEarlyStopping("val_loss"), epochs, max_epochs=max_epochs)
        trainer.fit(module, token_loader(), token_loader(1))
    return Tuned(source, module, scheduler, epochs, tuple(str(each.message) for each in caught))


@pytest.fixture(scope="module")
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("tl")
    return tune(folder, bridged(request.param), scheduler_for(folder, SCHEDULE), max_epochs=3)


every_architecture = pytest.mark.parametrize("tuned", list(THAWED), indirect=True, scope="module")


def expected(tuned: Tuned, upto: int) -> set[str]:
    patterns = THAWED[type(tuned.source.model).__name__][: upto + 1]
    return {name for name in tuned.source.before if any(re.fullmatch(pattern, name) for pattern in patterns)}


@every_architecture
def test_one_schedule_thaws_the_same_parts_of_every_architecture(tuned: Tuned) -> None:
    joint = re.compile(r".*(c_attn|query_key_value)\..*")  # the parts that the bridge split them into are thawed
    assert [epoch.depth for epoch in tuned.epochs.epochs] == [0, 1, 2]
    for depth, thawed in enumerate(tuned.epochs.thawed):
        assert thawed == {name for name in expected(tuned, depth) if not joint.fullmatch(name)}


@every_architecture
def test_what_is_thawed_is_trained_and_nothing_else(tuned: Tuned) -> None:
    # NeoX' parts are copies of its joint projection, which is thus brought up to date only in a checkpoint.
    stale = re.compile(r".*query_key_value\..*")
    for depth in range(3):
        wanted = {name for name in expected(tuned, depth) if not stale.fullmatch(name)}
        changed = tuned.epochs.changed(depth)
        assert changed <= wanted
        assert all(NO_GRADIENT.fullmatch(name) for name in wanted - changed)


@every_architecture
def test_the_resolved_schedule_and_the_optimizer_hold_the_same_parameters(tuned: Tuned) -> None:
    names = dict(tuned.scheduler.strategy_adapter.get_named_params_for_schedule_validation())
    own = {id(parameter): name for name, parameter in tuned.module.named_parameters()}
    for depth, epoch in enumerate(tuned.epochs.epochs):
        wanted = {own[id(names[name])] for name in tuned.scheduler.ft_schedule[depth]["params"]}
        assert set(epoch.groups[-1]) == wanted
    assert all(each.lrs[-1] == 0.1 for each in tuned.epochs.epochs)


@every_architecture
def test_tied_embeddings_are_thawed_once_and_the_second_name_is_reported(tuned: Tuned) -> None:
    tied = type(tuned.source.model).__name__ in TIED
    said = "'unembed.W_U' (tied to 'embed.W_E', which is thawed in phase 2)"
    assert [said in warning for warning in tuned.warnings] == [True] * tied


@every_architecture
def test_the_parameters_of_the_view_are_the_modules_and_translate_there_and_back(tuned: Tuned) -> None:
    adapter = tuned.scheduler.strategy_adapter
    own = dict(tuned.module.named_parameters())
    named = adapter.get_named_params_for_schedule_validation()
    order = list(own)
    assert len(named) == len({id(parameter) for parameter in named.values()})
    for name, parameter in named.items():
        (canonical,) = adapter.fts_optim_transform([name])
        assert own[canonical] is parameter
        assert adapter.logical_param_translation([canonical]) == [name]
    assert sorted(adapter.fts_optim_transform(list(named)), key=order.index) == adapter.fts_optim_transform(list(named))


@pytest.mark.parametrize("tuned", ["GPT2LMHeadModel"], indirect=True, scope="module")
def test_only_the_columns_of_the_named_projections_change_in_a_joint_one(tuned: Tuned) -> None:
    name = "transformer.h.1.attn.c_attn.weight"
    before, after = tuned.epochs.first[1][name], tuned.epochs.last[1][name]
    changed = [not torch.equal(was, now) for was, now in zip(before.split(16, 1), after.split(16, 1), strict=True)]
    assert changed == [True, True, False]


@pytest.mark.parametrize("tuned", ["GPTNeoXForCausalLM"], indirect=True, scope="module")
def test_joint_projections_are_never_thawed(tuned: Tuned) -> None:
    last = tuned.epochs.epochs[-1].trainable
    assert not [name for name in last if ".qkv." in name]
    assert "model.blocks.0._original_component.attention.v._original_component.weight" in last


# -- norms ---------------------------------------------------------------------------------------------------------


def norms_of(tuned: Tuned) -> list[list[str]]:
    return [
        [name for name in phase["params"] if re.search(r"\b(ln1|ln2|ln_final|embed_ln|q_norm|k_norm)\.", name)]
        for phase in tuned.scheduler.ft_schedule.values()
    ]


PARTS = {
    0: {"params": ["blocks.1.attn.W_O"], "max_transition_epoch": 1},
    1: {"params": ["blocks.0.mlp.W_in", "blocks.1.mlp.W_in", "unembed.W_U"], "lr": 0.1},
}


def test_norms_come_along_with_the_first_part_of_their_block_that_is_thawed(tmp_path: Path) -> None:
    it = tune(tmp_path, bridged("LlamaForCausalLM"), scheduler_for(tmp_path, PARTS), max_epochs=2)
    assert norms_of(it) == [["blocks.1.ln1.w", "blocks.1.ln2.w"], ["blocks.0.ln1.w", "blocks.0.ln2.w", "ln_final.w"]]
    assert {name for name in it.epochs.changed(0) if "norm" in name} == {
        "model.layers.1.input_layernorm.weight",
        "model.layers.1.post_attention_layernorm.weight",
    }


def test_norms_stay_frozen_where_they_do_not_come_along(tmp_path: Path) -> None:
    cfg = {"model_view_cfg": {"implicit_ln_thaw": False}}
    it = tune(tmp_path, bridged("LlamaForCausalLM"), scheduler_for(tmp_path, PARTS, cfg=cfg), max_epochs=2)
    assert norms_of(it) == [[], []]
    assert not any("norm" in name for epoch in (0, 1) for name in it.epochs.thawed[epoch] | it.epochs.changed(epoch))


def test_a_norm_that_the_schedule_names_is_thawed_where_it_is_named(tmp_path: Path) -> None:
    schedule = {
        0: {"params": ["blocks.1.attn.W_O"], "max_transition_epoch": 1},
        1: {"params": ["blocks.1.ln2.w", "blocks.0.attn.q_norm.weight", r"(embed|ln_final)\."], "lr": 0.1},
    }
    it = tune(tmp_path, bridged("Qwen3ForCausalLM"), scheduler_for(tmp_path, schedule), max_epochs=2)
    block_1 = ["blocks.1.attn.q_norm.weight", "blocks.1.attn.k_norm.weight", "blocks.1.ln1.w"]
    block_0 = ["blocks.0.attn.k_norm.weight", "blocks.0.ln1.w", "blocks.0.ln2.w"]
    assert norms_of(it) == [block_1, ["blocks.1.ln2.w", "blocks.0.attn.q_norm.weight", "ln_final.w", *block_0]]


# -- what a schedule may ask for -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def neox() -> Bridged:
    return bridged("GPTNeoXForCausalLM")


@pytest.fixture(scope="module")
def qwen3() -> Bridged:
    return bridged("Qwen3ForCausalLM")


def refusal(
    folder: Path, source: Bridged, params: list[str], error: type[Exception] = ScheduleError, **settings
) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({0: {"params": params}}))
    with pytest.raises(error) as caught:
        tune(folder, source, scheduler_for(folder, file, **settings), max_epochs=1)
    return str(caught.value)


@pytest.mark.parametrize("params", [["blocks.0.attn.b_Q"], [r"blocks\.\d\.attn\.b_.*"]])
def test_asking_for_what_transformer_lens_makes_up_is_refused(tmp_path: Path, qwen3: Bridged, params) -> None:
    said = refusal(tmp_path, qwen3, ["ln_final.w", *params])
    assert re.search(r"mine\.yaml.*phase 0.*'blocks\.0\.attn\.b_[QK]' cannot be thawed: .*makes up zeros", said)


def test_a_pattern_passes_over_what_is_made_up(tmp_path: Path, qwen3: Bridged) -> None:
    it = tune(tmp_path, qwen3, scheduler_for(tmp_path, {0: {"params": [r"blocks\.1\..*"]}}), max_epochs=1)
    taken = {name.removeprefix("blocks.1.") for name in it.scheduler.ft_schedule[0]["params"]}
    assert taken == {
        *(f"attn.W_{which}" for which in "QKVO"),
        *("attn.q_norm.weight", "attn.k_norm.weight", "ln1.w", "ln2.w"),
        *("mlp.W_in", "mlp.W_out", "mlp.W_gate"),
    }


def test_asking_for_a_joint_projection_names_its_parts(tmp_path: Path, neox: Bridged) -> None:
    said = refusal(tmp_path, neox, ["model.blocks.0._original_component.attention.qkv._original_component.weight"])
    assert "no forward pass uses this joint projection" in said
    assert "'blocks.0.attn.W_Q', 'blocks.0.attn.W_K', 'blocks.0.attn.W_V'" in said


def test_asking_for_a_name_of_the_module_says_what_it_is_called_here(tmp_path: Path, neox: Bridged) -> None:
    said = refusal(tmp_path, neox, [r"model\.ln_final\..*"])
    assert "where it is 'ln_final.w'" in said


def test_a_misspelt_name_is_refused_with_the_nearest(tmp_path: Path, neox: Bridged) -> None:
    assert "Did you mean 'blocks.0.attn.W_Q'" in refusal(tmp_path, neox, ["blocks.0.attn.WQ"])


def test_two_phases_that_claim_one_parameter_are_refused_in_names_of_the_schedule(
    tmp_path: Path, neox: Bridged
) -> None:
    schedule = {0: {"params": ["ln_final.w"]}, 1: {"params": ["ln_final.*"]}}
    with pytest.raises(ScheduleError, match=r"The parameter 'ln_final\.w' stands in two phases"):
        tune(tmp_path, neox, scheduler_for(tmp_path, schedule), max_epochs=1)


def test_the_view_refuses_to_translate_what_leads_nowhere(tmp_path: Path, qwen3: Bridged) -> None:
    it = tune(tmp_path, qwen3, scheduler_for(tmp_path, {0: {"params": ["ln_final.w"]}}), max_epochs=1)
    adapter = it.scheduler.strategy_adapter
    assert adapter.fts_optim_transform(["unembed.W_U"]) == ["model.embed._original_component.weight"]
    with pytest.raises(AdapterError, match=r"'blocks\.0\.mlp\.b_in' cannot be used: .*makes up zeros"):
        adapter.fts_optim_transform(["blocks.0.mlp.b_in"])
    with pytest.raises(AdapterError, match=r"'ln_finl\.w' cannot be used.*Did you mean 'ln_final\.w'"):
        adapter.fts_optim_transform(["ln_finl.w"])


# -- what is said --------------------------------------------------------------------------------------------------


def test_what_has_no_name_of_its_own_is_reported(
    tmp_path: Path, neox: Bridged, qwen3: Bridged, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = {0: {"params": ["ln_final.w"]}}
    with caplog.at_level(logging.INFO, "lightning.pytorch.phasewire"):
        tune(tmp_path / "neox", neox, scheduler_for(tmp_path, schedule), max_epochs=1)
        tune(tmp_path / "qwen3", qwen3, scheduler_for(tmp_path, schedule), max_epochs=1)
    assert "4 joint projections stay frozen" in caplog.text
    assert "4 parameters have no name in TransformerLens" in caplog.text
    assert "'blocks.0.attn.q_norm.weight'" in caplog.text
    assert "'unembed.W_U' is 'embed.W_E'" in caplog.text


def test_the_log_has_the_names_of_the_schedule(tmp_path: Path, neox: Bridged, caplog: pytest.LogCaptureFixture) -> None:
    schedule = {0: {"params": ["ln_final.w"], "max_transition_epoch": 1}, 1: {"params": ["blocks.0.attn.W_V"]}}
    cfg = {"model_view_cfg": {"implicit_ln_thaw": False}}
    scheduler = scheduler_for(tmp_path, schedule, logging_level=logging.DEBUG, cfg=cfg)
    with caplog.at_level(logging.DEBUG, "lightning.pytorch.phasewire"):
        tune(tmp_path, neox, scheduler, max_epochs=2)
    assert "Training begins with 1 parameters: ['ln_final.w']" in caplog.text
    assert "Thawed 1 parameters: ['blocks.0.attn.W_V']" in caplog.text


def test_a_joint_projection_thawed_by_its_own_name_is_reported(
    tmp_path: Path, neox: Bridged, qwen3: Bridged, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = {0: {"params": [r"model\.blocks\.1\..*"]}}
    for source in (qwen3, neox):
        assert "thaws joint projections" not in caplog.text
        folder = tmp_path / type(source.model).__name__
        scheduler = scheduler_for(folder, schedule, cfg={"use_tl_names": False})
        with caplog.at_level(logging.INFO, "lightning.pytorch.phasewire"):
            it = tune(folder, source, scheduler, max_epochs=1)
    name = "model.blocks.1._original_component.attention.qkv._original_component.weight"
    assert f"Phase 0 thaws joint projections that no forward pass uses, such as '{name}'" in caplog.text
    assert dict(it.module.named_parameters())[name].grad is None


# -- where the bridge is -------------------------------------------------------------------------------------------


class Elsewhere(BridgedModule):
    """Holds the bridge one attribute deeper, and a layer of its own."""

    def __init__(self, bridge) -> None:
        super().__init__(None)
        self.inner = nn.ModuleDict({"lm": bridge})
        self.probe = nn.Linear(2, 2)
        del self.model

    def training_step(self, tokens, batch_idx):
        return self.inner["lm"](tokens, return_type="loss") + self.probe.weight.square().sum()


def test_the_bridge_may_be_in_another_attribute(tmp_path: Path, neox: Bridged) -> None:
    schedule = {0: {"params": [r"ln_final\..*", "probe.weight"]}}
    scheduler = scheduler_for(tmp_path, schedule, cfg={"bridge_attribute": "inner.lm"})
    it = tune(tmp_path, neox, scheduler, max_epochs=1, module=Elsewhere(neox.bridge))
    assert {"gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"} == it.epochs.changed(0)
    assert "probe.weight" in it.epochs.epochs[0].trainable


def module_that_is_a_bridge() -> pl.LightningModule:
    import transformers
    from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
    from transformer_lens.model_bridge import TransformerBridge

    class Itself(TransformerBridge, pl.LightningModule):
        def __init__(self, model, architecture) -> None:
            pl.LightningModule.__init__(self)
            TransformerBridge.__init__(self, model, architecture, None)

        def training_step(self, tokens, batch_idx):
            return self(tokens, return_type="loss")

        def configure_optimizers(self):
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)

    config_name, values = SIX["OPTForCausalLM"]
    model = transformers.OPTForCausalLM(getattr(transformers, config_name)(**values))
    architecture = ArchitectureAdapterFactory.select_architecture_adapter(bridged("OPTForCausalLM").bridge.cfg)
    architecture.prepare_model(model)
    return Itself(model, architecture)


def test_the_module_itself_may_be_the_bridge(tmp_path: Path) -> None:
    module, notes = module_that_is_a_bridge(), Notes()
    schedule = {
        0: {"params": [r"ln_final\..*"], "max_transition_epoch": 1},
        1: {"params": ["blocks.1.attn.W_Q"], "max_transition_epoch": 2},
    }
    scheduler = scheduler_for(tmp_path, schedule, epoch_transitions_only=True)
    make_trainer(tmp_path, scheduler, notes, max_epochs=2).fit(module, token_loader())
    # Its own names are those that a bridge gives: the Hugging Face model's, with components in between.
    first, second = ([name.replace("_original_component.", "") for name in e.trainable] for e in notes.epochs)
    assert first == ["model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"]
    block = "model.decoder.layers.1."
    norms = [
        f"{block}{norm}.{which}"
        for norm in ("self_attn_layer_norm", "final_layer_norm")
        for which in ("weight", "bias")
    ]
    assert sorted(second) == sorted([*first, f"{block}self_attn.q_proj.weight", *norms])


def test_a_bridge_that_is_elsewhere_is_pointed_at(tmp_path: Path, neox: Bridged) -> None:
    with pytest.raises(
        AdapterError, match=r"no TransformerBridge in its attribute 'model'.*bridge_attribute='inner\.lm'"
    ):
        tune(tmp_path, neox, scheduler_for(tmp_path), max_epochs=1, module=Elsewhere(neox.bridge))


def test_a_module_without_a_bridge_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, scheduler_for(tmp_path / "logs"), FTSEarlyStopping("val_loss"))
    with pytest.raises(
        AdapterError, match="TunedModule has no TransformerBridge in its attribute 'model', and is none"
    ):
        trainer.fit(TunedModule(), Batches(), Batches())
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("attribute", "params", "use"),
    [("net", "ln_final.w", True), ("model.blocks", "ln_final.w", True), ("net", r"model\.ln_final\..*", False)],
)
def test_an_attribute_that_holds_no_bridge_is_refused(
    tmp_path: Path, neox: Bridged, attribute: str, params: str, use: bool
) -> None:
    cfg = {"bridge_attribute": attribute, "use_tl_names": use}
    said = refusal(tmp_path, neox, [params], AdapterError, cfg=cfg)
    assert f"no TransformerBridge in its attribute '{attribute}'. There is one in 'model'" in said


def test_the_option_of_the_view_is_a_bool() -> None:
    with pytest.raises(AdapterError, match=r"implicit_ln_thaw: 'no' is neither true nor false"):
        TLNamesModelView(FinetuningScheduler, implicit_ln_thaw="no")


# -- the contract --------------------------------------------------------------------------------------------------


class TestContract(AdapterContract):
    """The rules of the adapter contract, checkpoints among them, for a bridge with joint and tied weights."""

    adapter = "transformerbridge"
    cfg = MappingProxyType({"use_tl_names": True})

    @classmethod
    def make_module(cls) -> pl.LightningModule:
        return BridgedModule(bridged("GPT2LMHeadModel").bridge)
