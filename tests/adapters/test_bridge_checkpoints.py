"""Checkpoints of real bridges cross to plain Hugging Face models, to TransformerLens names, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bridges import OTHERS, SIX, BridgedModule, bridged, token_loader
from phasewire.adapters import AdapterError, CheckpointError, TransformerBridgeStrategyAdapter
from phasewire.app import CheckpointTranslator, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.convert import convert
from phasewire.app.known_names import names_known_by
from phasewire.app.model_views import ModelViews
from tuning import Batches, TunedModule, make_trainer

ADAPTERS = {"auto": "transformerbridge"}
SCHEDULE = {
    0: {"params": [r"blocks\.1\..*"], "max_transition_epoch": 1},
    1: {"params": [r"blocks\.0\..*", r"embed\..*"], "lr": 0.1},
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*are left out:UserWarning"),
]


class Rebuilt(BridgedModule):
    """What `--model` names: it makes its model itself, and has the steps of the trained one."""

    def __init__(self, architecture: str = "GPT2LMHeadModel") -> None:
        super().__init__(bridged(architecture).bridge)


@dataclass(frozen=True)
class Run:
    architecture: str
    module: BridgedModule
    checkpoint: Path


def trainer_for(folder: Path, max_epochs: int = 2, **cfg):
    scheduler = FinetuningScheduler(
        SCHEDULE,
        custom_strategy_adapters=ADAPTERS,
        strategy_adapter_cfg={"use_tl_names": True, **cfg},
        base_max_lr=0.1,
        log_dir=folder,
    )
    best = FTSCheckpoint(folder, monitor="val_loss", filename="best", save_last=True)
    return make_trainer(folder, scheduler, FTSEarlyStopping("val_loss", patience=99), best, max_epochs=max_epochs)


def train(folder: Path, architecture: str, **cfg) -> Run:
    module = Rebuilt(architecture)
    trainer_for(folder, **cfg).fit(module, token_loader(), token_loader())
    return Run(architecture, module, folder / "last.ckpt")


@pytest.fixture(scope="module", params=[*SIX, "GPTNeoXForCausalLM", "Phi3ForCausalLM", "Qwen3ForCausalLM"])
def run(request, tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"), request.param)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return train(tmp_path_factory.mktemp("gpt2"), "GPT2LMHeadModel", checkpoint_names="hf")


def state_in(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def live(module: BridgedModule) -> dict[str, torch.Tensor]:
    """The state but for joint projections, which the bridge computes nothing with."""
    joint = {n for n in module.state_dict() if any(part in n for part in (".qkv.", "c_attn", "query_key_value"))}
    joint |= {n for n in module.state_dict() if any(part in n for part in ("qkv_proj", "gate_up"))}
    return {name: value for name, value in module.state_dict().items() if name not in joint}


def assert_same(state, other) -> None:
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def config_of(architecture: str):
    import transformers

    name, values = (SIX | OTHERS)[architecture]
    return getattr(transformers, name)(**values)


def test_a_checkpoint_of_a_phased_run_is_a_plain_hugging_face_model(run, tmp_path):
    from transformers import AutoModelForCausalLM

    convert(run.checkpoint, tmp_path / "model.safetensors", "hf")
    config = config_of(run.architecture)
    config.architectures = [run.architecture]
    config.save_pretrained(tmp_path)
    plain, told = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    tokens = next(iter(token_loader()))
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(tokens).logits, run.module.eval().model(tokens))

    convert(run.checkpoint, tmp_path / "hf.ckpt", "hf")
    type(plain)(config).load_state_dict(state_in(tmp_path / "hf.ckpt"))
    assert_same(plain.state_dict(), state_in(tmp_path / "hf.ckpt"))


def test_a_plain_hugging_face_state_dict_starts_a_bridge_run(run, tmp_path):
    before = bridged(run.architecture).before
    torch.save(before, tmp_path / "plain.pt")
    fresh = Rebuilt(run.architecture)
    known = names_known_by(TransformerBridgeStrategyAdapter(), fresh, CheckpointTranslator(), ModelViews())
    convert(tmp_path / "plain.pt", tmp_path / "start.ckpt", "canonical", known=known)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(state_in(tmp_path / "start.ckpt"))
    assert_same(fresh.state_dict(), Rebuilt(run.architecture).state_dict())
    trainer_for(tmp_path, max_epochs=1).fit(fresh, token_loader(), token_loader())


def test_every_way_round_gives_the_same_bits(run, tmp_path):
    trained = run.module.state_dict()
    assert_same(trained, state_in(run.checkpoint))
    convert(run.checkpoint, tmp_path / "hf.safetensors", "hf")
    convert(tmp_path / "hf.safetensors", tmp_path / "tl.ckpt", "tl")
    convert(tmp_path / "tl.ckpt", tmp_path / "own.safetensors", "canonical")
    convert(tmp_path / "own.safetensors", tmp_path / "own.ckpt", "canonical")
    again = state_in(tmp_path / "own.ckpt")
    assert again.keys() == trained.keys()
    assert_same(live(run.module), again)
    convert(tmp_path / "own.ckpt", tmp_path / "hf_again.safetensors", "hf")
    assert (tmp_path / "hf_again.safetensors").read_bytes() == (tmp_path / "hf.safetensors").read_bytes()
    convert(run.checkpoint, tmp_path / "straight.ckpt", "tl")
    convert(tmp_path / "straight.ckpt", tmp_path / "back.ckpt", "canonical")
    assert_same(trained, state_in(tmp_path / "back.ckpt"))


@pytest.mark.parametrize("names", ["module", "tl", "hf"])
def test_names_on_disk_are_restored_between_phases_and_on_every_other_path(tmp_path, names):
    run = train(tmp_path, "GPT2LMHeadModel", checkpoint_names=names)
    saved = torch.load(run.checkpoint, weights_only=True)
    first = {"module": "model.embed._original_component.weight", "tl": "embed.W_E", "hf": "transformer.wte.weight"}
    assert saved["phasewire"]["parameter_names"] == names
    assert first[names] in saved["state_dict"]

    for entry_point in ("validate", "fit"):
        module, began = Rebuilt(), []
        module.on_train_start = lambda module=module, began=began: began.append(
            {name: value.clone() for name, value in live(module).items()}
        )
        trainer = trainer_for(tmp_path / entry_point, max_epochs=3, checkpoint_names="module")
        loaders = [token_loader()] if entry_point == "validate" else [token_loader(), token_loader()]
        getattr(trainer, entry_point)(module, *loaders, ckpt_path=run.checkpoint)
        assert_same(live(run.module), began[0] if began else module.state_dict())
        assert bool(began) == (entry_point == "fit")


def test_tied_embeddings_are_stored_once(gpt2, tmp_path):
    state = state_in(gpt2.checkpoint)
    assert state["lm_head.weight"].data_ptr() == state["transformer.wte.weight"].data_ptr()
    convert(gpt2.checkpoint, tmp_path / "model.safetensors", "hf")
    from safetensors import safe_open

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert set(state) - names == {"lm_head.weight"}


@pytest.mark.parametrize("cfg", [{}, {"checkpoint_names": "hf"}])
def test_without_a_bridge_there_are_no_names_and_asking_for_them_is_an_error(tmp_path, cfg):
    scheduler = FinetuningScheduler(
        {0: {"params": ["head.*"]}}, custom_strategy_adapters=ADAPTERS, strategy_adapter_cfg=cfg, log_dir=tmp_path
    )
    trainer = make_trainer(tmp_path, scheduler, FTSEarlyStopping("val_loss"), max_epochs=1)
    if cfg:
        with pytest.raises(AdapterError, match="TunedModule has no TransformerBridge"):
            trainer.fit(TunedModule(), Batches(), Batches())
        return
    trainer.fit(TunedModule(), Batches(), Batches())
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    assert "namings" not in torch.load(tmp_path / "plain.ckpt", weights_only=True)["phasewire"]


def test_pieces_that_do_not_fit_stop_a_conversion_before_anything_is_written(gpt2, tmp_path):
    state = state_in(gpt2.checkpoint)
    state["transformer.h.0.attn.c_attn.weight"] = torch.ones(16, 47)
    saved = torch.load(gpt2.checkpoint, weights_only=True)
    torch.save({**saved, "state_dict": state}, tmp_path / "odd.ckpt")
    with pytest.raises(CheckpointError, match=r"odd\.ckpt: 'transformer\.h\.0\.attn\.c_attn\.weight' has the shape"):
        convert(tmp_path / "odd.ckpt", tmp_path / "own.ckpt", "canonical")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.ckpt"]
