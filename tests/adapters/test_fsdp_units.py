"""Which units a module would be wrapped in, what phases share, and what mends it; nothing is wrapped here."""

from __future__ import annotations

import functools
import re

import pytest
import torch
from torch import nn
from torch.distributed.fsdp.wrap import CustomPolicy, ModuleWrapPolicy, size_based_auto_wrap_policy

from phasewire.adapters import AdapterError, FSDPStrategyAdapter
from phasewire.adapters.fsdp_policy import checked_overrides, ignored_by, matched
from phasewire.adapters.fsdp_units import mended, planned_units, report
from phasewire.adapters.lightning_seams import auto_wrapped


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)
        self.mlp = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.scale = nn.Parameter(torch.ones(4))


class Model(nn.Module):
    """Embeddings, two blocks in a list, a norm, and a head; a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5, bias=False)
        self.temperature = nn.Parameter(torch.ones(1))


class TiedModel(Model):
    def __init__(self) -> None:
        super().__init__()
        self.head.weight = self.embeddings.weight


def phases(model: nn.Module, *patterns: str) -> dict[str, int | None]:
    """Phase 0 takes what the first pattern matches, and so on; the rest is never trained."""
    return {
        name: depth
        for name, _ in model.named_parameters()
        for depth, pattern in enumerate(patterns)
        if re.match(pattern, name)
    }


def mixed(model: nn.Module, apart: set[str], phase_of) -> list[str]:
    return [unit.name for unit in planned_units(model, apart) if len(unit.by_phase(phase_of)) > 1]


# -- units ---------------------------------------------------------------------------------------------------------


def test_a_unit_holds_what_no_smaller_unit_holds() -> None:
    units = {unit.name: unit.parameters for unit in planned_units(Model(), {"blocks.0", "blocks.0.mlp.1", "head"})}
    assert set(units) == {"", "blocks.0", "blocks.0.mlp.1", "head"}
    assert units["blocks.0.mlp.1"] == ["blocks.0.mlp.1.weight", "blocks.0.mlp.1.bias"]
    assert "blocks.0.mlp.0.weight" in units["blocks.0"]
    assert "blocks.0.scale" in units["blocks.0"]
    assert {"temperature", "embeddings.weight", "norm.bias", "blocks.1.scale"} <= set(units[""])


def test_ignored_parameters_stand_in_no_unit() -> None:
    model = Model()
    (unit,) = [unit for unit in planned_units(model, {"head"}, list(model.embeddings.parameters())) if not unit.name]
    assert "embeddings.weight" not in unit.parameters


def test_a_tied_parameter_in_two_units_is_refused_with_both_names() -> None:
    with pytest.raises(AdapterError, match=r"embeddings.weight and head.weight are one parameter.*'head'"):
        planned_units(TiedModel(), {"head"})
    assert len(planned_units(TiedModel(), set())) == 1


# -- mending -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "patterns",
    [
        ("head", "norm", r"blocks\.1", r"blocks\.0", "embeddings|temperature"),
        ("head|temperature", r"blocks\.\d\.mlp", r"blocks\.\d\.(attention|scale)"),
        (r"blocks\.1\.scale", "head"),
        ("temperature",),
        (r"blocks\.0\.mlp\.0", r"blocks\.0\.mlp\.1"),
        ("head", ".*attention"),
    ],
)
@pytest.mark.parametrize("apart", [set(), {"blocks.0", "blocks.1"}, {"blocks.0.mlp"}])
def test_what_is_proposed_mends_every_unit(patterns: tuple[str, ...], apart: set[str]) -> None:
    model = Model()
    phase_of = phases(model, *patterns)
    assert mixed(model, apart, phase_of)
    found, left = mended(model, apart, (), phase_of)
    assert left == []
    assert not apart.intersection(found)
    assert mixed(model, {*apart, *found}, phase_of) == []
    parts = dict(model.named_modules())
    # A list is never called, and attention never calls its projection.
    assert not any(isinstance(parts[name], nn.ModuleList) or name.endswith("out_proj") for name in found)


def test_no_part_is_proposed_that_need_not_be_wrapped() -> None:
    model = Model()
    found, _ = mended(model, set(), (), phases(model, "head"))
    assert found == ["head"]


def test_parameters_of_two_phases_in_one_layer_cannot_be_mended_and_are_named() -> None:
    model = Model()
    phase_of = phases(model, r"norm\.weight", r"norm\.bias")
    _, left = mended(model, set(), (), phase_of)
    assert any("norm.weight (phase 0), norm.bias (phase 1)" in report([unit], phase_of) for unit in left)


def test_a_tied_parameter_is_not_torn_apart_by_a_proposal() -> None:
    model = TiedModel()
    phase_of = phases(model, "embeddings|temperature", r"blocks\.1", r"blocks\.0")
    found, left = mended(model, set(), (), phase_of)
    assert {"head", "embeddings"}.isdisjoint(found)
    assert left == []
    # Neither can be wrapped by itself, so nothing parts the two.
    _, left = mended(model, set(), (), phases(model, "embeddings"))
    assert ["embeddings.weight" in unit.parameters and "temperature" in unit.parameters for unit in left] == [True]


def test_a_report_names_module_phase_and_parameter_and_shortens_long_lists() -> None:
    model = Model()
    phase_of = phases(model, "head")
    text = report(planned_units(model, {"head", "blocks.0"}), phase_of)
    assert "'head' holds head.weight (phase 0)" in text
    assert "'blocks.0' holds blocks.0.scale, " in text
    assert re.search(r"and \d+ more \(never trained\)", text)


# -- policies ------------------------------------------------------------------------------------------------------


def wrapped(model: nn.Module, policy, **ignored) -> set[str]:
    names = {id(part): name for name, part in model.named_modules()}
    options = {"ignored_modules": (), "ignored_parameters": (), **ignored}
    return {names[id(part)] for part in auto_wrapped(model, policy, **options)}


def test_each_kind_of_policy_is_asked_without_wrapping_anything() -> None:
    model = Model()
    before = list(model.named_modules())
    assert wrapped(model, ModuleWrapPolicy({Block})) == {"blocks.0", "blocks.1"}
    assert wrapped(model, CustomPolicy(lambda part: part is model.head)) == {"head"}
    policy = functools.partial(size_based_auto_wrap_policy, min_num_params=100)
    assert wrapped(model, policy) == {"blocks.0", "blocks.1"}
    assert wrapped(model, ModuleWrapPolicy({Block}), ignored_modules=set(model.blocks[0].modules())) == {"blocks.1"}
    assert list(model.named_modules()) == before


def test_a_policy_keeps_the_options_that_it_sets_for_a_part() -> None:
    model = Model()
    policy = CustomPolicy(lambda part: {"forward_prefetch": True} if part is model.head else False)
    found = auto_wrapped(model, policy, ignored_modules=(), ignored_parameters=())
    assert found == {model.head: {"forward_prefetch": True}}


def test_what_fsdp_was_told_to_ignore_is_found_by_either_option() -> None:
    model = Model()
    states = (each for each in [model.temperature])
    options = {"ignored_modules": [model.blocks[0]], "ignored_states": states}
    modules, parameters = ignored_by(options)
    assert model.blocks[0].mlp in modules
    assert any(each is model.temperature for each in parameters)
    assert any(each is model.blocks[0].scale for each in parameters)
    assert options["ignored_states"] == [model.temperature]


# -- overrides -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["blocks.1"], ["blocks.1"]),
        ([r"blocks\.\d"], ["blocks.0", "blocks.1"]),
        (["blocks.*mlp", "head"], ["blocks.0.mlp", "blocks.1.mlp", "head"]),
        (["(blocks|head)(\\.0)?"], ["blocks.0", "head"]),
    ],
)
def test_an_override_is_a_name_or_an_expression_for_whole_names(overrides: list[str], names: list[str]) -> None:
    assert list(matched(overrides, Model())) == names


def test_an_override_that_names_no_module_is_refused_with_the_nearest() -> None:
    with pytest.raises(AdapterError, match=r"'blocks.3' names no module.*Did you mean 'blocks.1' or 'blocks.0'"):
        list(matched(["blocks.3"], Model()))


@pytest.mark.parametrize("override", ["blocks", "block.?"])
def test_an_override_that_names_a_container_is_refused_with_what_to_name(override: str) -> None:
    with pytest.raises(AdapterError, match=r"'blocks' is a ModuleList, which is never called.*'blocks.\[0-9\]\+'"):
        list(matched([override], Model()))


@pytest.mark.parametrize(
    ("given", "message"),
    [(3, "3 is no list of names"), (["a", 1], "is no list of names"), (["a("], "is no regular expression")],
)
def test_overrides_of_a_wrong_kind_are_refused(given: object, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        FSDPStrategyAdapter(awp_overrides=given)


def test_a_single_override_needs_no_list() -> None:
    assert checked_overrides("head") == ("head",)
    assert FSDPStrategyAdapter().awp_overrides == ()
