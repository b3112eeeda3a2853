"""The names of parameters behind a real ``TransformerBridge``, against the wrapped model as it was before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import nn

from bridges import OTHERS, SIX, Bridged, BridgedModule, bridged
from phasewire.adapters import AdapterError
from phasewire.adapters.bridge_names import BridgeNames, bridge_names

ALL = (*SIX, *OTHERS)


@dataclass(frozen=True)
class Named:
    source: Bridged
    module: BridgedModule
    names: BridgeNames

    @property
    def own(self) -> dict[str, nn.Parameter]:
        return dict(self.module.named_parameters())


@cache
def named(architecture: str, **changes: object) -> Named:
    source = bridged(architecture, **changes)
    module = BridgedModule(source.bridge)
    return Named(source, module, bridge_names(module, source.bridge))


def tl_values(it: Named) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in it.source.bridge.tl_named_parameters()}


@pytest.mark.parametrize("architecture", ALL)
def test_every_parameter_has_its_place_in_the_hugging_face_model(architecture: str) -> None:
    it = named(architecture)
    assert set(it.own) <= set(it.names.hf)
    for name, parameter in it.own.items():
        source = it.names.hf[name]
        torch.testing.assert_close(source.take(it.source.before[source.name]), parameter.data, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ALL)
def test_the_names_of_the_hugging_face_model_are_those_before_the_bridge(architecture: str) -> None:
    it = named(architecture)
    assert list(it.names.hf_names) == list(it.source.before)
    assert set(it.names.hf_names.values()) == {source.name for source in it.names.hf.values()}
    unknown = set(it.module.state_dict()) - set(it.names.hf)
    assert unknown == {"model.unembed._original_component.bias"} & unknown
    assert len(it.names.hf_added) == len(unknown)


@pytest.mark.parametrize("architecture", ALL)
def test_the_parts_of_a_joint_projection_fill_it_anew(architecture: str) -> None:
    it = named(architecture)
    for joint, parts in it.names.joint.items():
        anew = torch.full_like(it.own[joint], torch.nan)
        for part in parts:
            it.names.hf[part].put(it.own[part].data, anew)
        torch.testing.assert_close(anew, it.own[joint].data, rtol=0, atol=0)


def test_split_projections_say_which_rows_or_columns_they_are() -> None:
    conv = named("GPT2LMHeadModel").names.hf["model.blocks.1._original_component.attn.k._original_component.weight"]
    assert (conv.name, conv.dim, conv.indices) == ("transformer.h.1.attn.c_attn.weight", 1, range(16, 32))
    assert conv.transposed
    neox = named("GPTNeoXForCausalLM").names.hf
    heads = neox["model.blocks.0._original_component.attention.k._original_component.weight"]
    assert heads.name == "gpt_neox.layers.0.attention.query_key_value.weight"
    assert (heads.dim, heads.transposed) == (0, False)
    # NeoX keeps query, key and value of a head together: four heads of four rows each.
    assert heads.indices == tuple(12 * head + 4 + row for head in range(4) for row in range(4))


def test_what_the_module_has_beside_the_bridge_has_its_own_name_alone() -> None:
    source = bridged("LlamaForCausalLM")
    module = BridgedModule(source.bridge)
    module.probe = nn.Linear(2, 2)
    names = bridge_names(module, source.bridge)
    assert names.without_tl == ("probe.weight", "probe.bias")
    assert {name for name, _ in module.named_parameters()} - set(names.hf) == {"probe.weight", "probe.bias"}


@pytest.mark.parametrize("architecture", ALL)
def test_every_parameter_has_one_transformer_lens_name_is_joint_or_has_none(architecture: str) -> None:
    names = named(architecture).names
    every = [*names.own_to_tl, *names.joint, *names.without_tl]
    assert sorted(every) == sorted(named(architecture).own)
    for own, name in names.own_to_tl.items():
        assert names.tl_to_own[name] == (own,)
    given = {name for name, _ in named(architecture).source.bridge.tl_named_parameters()}
    assert given == {*names.tl_to_own, *names.made_up}
    assert not names.made_up & set(names.tl_to_own)


@pytest.mark.parametrize("architecture", ALL)
def test_a_change_of_a_parameter_shows_under_its_transformer_lens_name_and_no_other(architecture: str) -> None:
    it = named(architecture)
    own = [*it.names.own_to_tl][:: max(1, len(it.names.own_to_tl) // 6)]
    for name in own:
        before, values = tl_values(it), it.own[name].detach().clone()
        with torch.no_grad():
            it.own[name].add_(1)
            after = tl_values(it)
            it.own[name].copy_(values)
        changed = {tl for tl, tensor in after.items() if not torch.equal(tensor, before[tl])}
        first = it.names.own_to_tl[name]
        assert changed == {first, *(second for second, of in it.names.second_tl.items() if of == first)}


def test_what_is_shared_among_heads_is_a_copy_and_what_is_missing_made_up() -> None:
    names = named("Qwen3ForCausalLM").names
    of_block = {name.removeprefix("blocks.0.") for name in names.made_up if name.startswith("blocks.0.")}
    assert of_block == {"attn.b_Q", "attn.b_K", "attn.b_V", "attn.b_O", "mlp.b_in", "mlp.b_out"}
    assert "unembed.b_U" in names.made_up
    assert names.copies == {f"blocks.{block}.attn.W_{which}" for block in (0, 1) for which in "KV"}
    assert names.tl_to_own["blocks.1.attn.W_K"] == (
        "model.blocks.1._original_component.self_attn._original_component.k_proj._original_component.weight",
    )


def test_tied_embeddings_have_a_second_name_in_each_naming() -> None:
    names = named("GPT2LMHeadModel").names
    assert names.second_tl == {"unembed.W_U": "embed.W_E"}
    embedding = "model.embed._original_component.weight"
    assert names.second_own["model.unembed._original_component.weight"] == embedding
    assert names.hf_names["lm_head.weight"] == names.hf_names["transformer.wte.weight"] == "transformer.wte.weight"
    assert named("LlamaForCausalLM").names.second_tl == {}


def test_norms_belong_to_their_block_or_to_what_they_stand_beside() -> None:
    names = named("Qwen3ForCausalLM").names
    per_part = [list(names.norms.values()).count(part) for part in ("blocks.0", "blocks.1", "unembed")]
    assert per_part == [4, 4, 1]  # two around the parts of a block, and those of queries and keys
    assert set(named("BloomForCausalLM").names.norms.values()) == {"embed", "blocks.0", "blocks.1", "unembed"}


def test_nothing_is_changed_by_looking() -> None:
    source = bridged("GPTNeoXForCausalLM")
    module = BridgedModule(source.bridge)
    for at, parameter in enumerate(module.parameters()):
        parameter.requires_grad = at % 2 == 0
    flags = [p.requires_grad for p in module.parameters()]
    parameters, random = dict(module.named_parameters()), torch.get_rng_state()
    bridge_names(module, source.bridge)
    assert [p.requires_grad for p in module.parameters()] == flags
    assert all(parameters[name] is parameter for name, parameter in module.named_parameters())
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in source.hf_now().items():
        torch.testing.assert_close(tensor.data, source.before[name], rtol=0, atol=0)


def test_a_bridge_that_is_no_part_of_the_module_is_refused() -> None:
    with pytest.raises(AdapterError, match="shares no parameter with BridgedModule"):
        bridge_names(BridgedModule(nn.Linear(2, 2)), named("GPT2LMHeadModel").source.bridge)


def test_a_bridge_without_values_is_refused() -> None:
    source = bridged("GPTJForCausalLM")
    module = BridgedModule(source.bridge).to("meta")
    with pytest.raises(AdapterError, match=r"on the meta device.*--on-cpu"):
        bridge_names(module, source.bridge)
