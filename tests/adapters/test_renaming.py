"""Renamings are checked on the names at hand, and translate tensors there and back."""

from __future__ import annotations

import sys
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phasewire.adapters import CheckpointError, MappedNaming, Piece, Renaming
from phasewire.adapters.checkpoint_names import recorded_namings
from phasewire.adapters.tensor_layout import Layout, tied_names


class Unshown:
    """Cannot be shown in a message."""

    def __repr__(self):
        raise RuntimeError("no text")


class Word(str):
    """A text of somebody's own class, as numpy and enumerations have them."""

    __slots__ = ()


NAMES = ["layers.0.weight", "layers.0.bias", "layers2.weight", "head.weight"]


def stored(renaming: Renaming, names=NAMES) -> list[str]:
    return list(renaming.layout(names).parts)


def test_a_dict_renames_whole_names_and_what_is_below_a_part_and_leaves_the_rest():
    renaming = Renaming({"layers": "blocks", "head.weight": "unembed"})
    assert stored(renaming) == ["blocks.0.weight", "blocks.0.bias", "layers2.weight", "unembed"]
    assert [renaming.own_name(name) for name in stored(renaming)] == NAMES


def test_the_longest_key_of_a_dict_counts():
    renaming = Renaming({"layers": "blocks", "layers.0": "first", "layers.0.bias": "shift"})
    assert stored(renaming)[:2] == ["first.weight", "shift"]


def test_a_pair_of_functions_renames():
    renaming = Renaming((lambda name: f"acme.{name}", lambda name: name.removeprefix("acme.")))
    assert stored(renaming)[0] == "acme.layers.0.weight"
    assert renaming.own_name("acme.head.weight") == "head.weight"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"layers": "layers2"},
            r"does not go back: 'layers2\.weight' becomes 'layers2\.weight', and that becomes 'lay",
        ),
        ((str.lower, str.upper), r"'x' does not go back: 'layers\.0\.weight' .* becomes 'LAYERS\.0\.WEIGHT'"),
        ((lambda _: "one", str), r"'x' calls both 'layers\.0\.weight' and 'layers\.0\.bias' 'one'"),
        ((lambda _: {}[1], str), r"'x' failed for 'layers\.0\.weight' with KeyError: 1"),
        ((lambda _: sys.exit(1), str), r"failed for 'layers\.0\.weight' with SystemExit: 1"),
        ((lambda name: name, lambda _: sys.exit(1)), r"failed for 'layers\.0\.weight' with SystemExit: 1"),
        ((lambda name: name.encode(), str), r"makes b'layers\.0\.weight' of"),
        ((lambda _: "", str), r"makes '' of"),
        ((lambda _: Unshown(), str), r"makes <Unshown instance at .*> of"),
        ((lambda name: name + "x", lambda name: name[:-2]), "does not go back"),
        ({"layers.0.weight": "layers.0.bias"}, r"calls both .*'layers\.0\.bias'"),
        ((lambda _: None, str), r"makes None of 'layers\.0\.weight', which is no name"),
    ],
)
def test_a_renaming_that_does_not_work_for_the_names_at_hand_is_refused_with_them(names, message):
    with pytest.raises(CheckpointError, match=message):
        Renaming(names).layout(NAMES, word="x")


@pytest.mark.parametrize(
    "names",
    [
        {"layers": "layers2", "layers2": "layers"},
        {"layers": "layers2", "layers2": "head", "head": "layers"},
        {"layers.0.weight": "layers.0.bias", "layers.0.bias": "layers.0.weight"},
        *({"layers": "layers.0"}, {"layers.0": "layers"}, {"head.weight": "head"}, {"layers": "."}, {"layers": "a."}),
        *({}, {"nothing": "else"}, {"layers": "\ud800"}, {"layers": "x\0y"}, {"layers": "x" * 100_000}),
        *({"head.weight": Word("unembed"), "layers": Word("blocks")}, (Word, Word)),
    ],
    ids=lambda names: repr(names)[:50],
)
def test_a_renaming_that_leads_back_leads_back_from_a_file_too(names, tmp_path):
    state = {name: torch.full((1,), float(at)) for at, name in enumerate(NAMES)}
    layout = Renaming(names).layout(NAMES)
    torch.save(layout.stored_state(state), tmp_path / "stored.pt")
    torch.save(layout.to_plain(), tmp_path / "names.pt")

    recorded = Layout.from_plain(torch.load(tmp_path / "names.pt", weights_only=True))
    own, unknown = recorded.own_state(torch.load(tmp_path / "stored.pt", weights_only=True))

    assert own == state
    assert unknown == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"a": "c", "b": "c"}, "calls both 'a' and 'b' 'c'"),
        ({"a": 1}, "Not every name in the renaming is a name"),
        ({"": "a"}, r"'': 'a'\. A name .*no empty text"),
        ({"a": ""}, r"'a': ''\. A name .*no empty text"),
        ({None: "a"}, "None: 'a'"),
        ({("a",): "b"}, "Not every name in the renaming is a name"),
        ({"a": ["b"]}, "Not every name in the renaming is a name"),
        ({"a": b"b"}, "Not every name in the renaming is a name"),
        ([("a", "b")], "a dict or a pair of functions"),
        ((str.lower,), "a dict or a pair of functions"),
        ((str.lower, str.upper, str.title), "a dict or a pair of functions"),
        ((str.lower, 1), "a dict or a pair of functions"),
        (None, "a dict or a pair of functions"),
        ("ab", "a dict or a pair of functions"),
        (Unshown(), "a dict or a pair of functions"),
    ],
)
def test_what_is_no_renaming_is_refused_when_it_is_made(names, message):
    with pytest.raises(CheckpointError, match=message):
        Renaming(names)


JOINT = {
    "q": Piece("qkv", 1, ((0, 2), (6, 2)), transposed=True),
    "k": Piece("qkv", 1, ((2, 2), (8, 2)), transposed=True),
    "v": Piece("qkv", 1, ((10, 2), (4, 2)), transposed=True),
    "old": Piece("qkv", derived=True),
    "norm": Piece("ln"),
}


def test_a_joint_tensor_is_put_together_and_taken_apart_again_to_the_bit():
    layout = Layout(JOINT)
    joint = {"qkv": torch.randn(5, 12), "ln": torch.randn(3)}
    own, unknown = layout.own_state(joint)
    assert unknown == []
    assert torch.equal(own["v"], torch.cat([joint["qkv"][:, 10:], joint["qkv"][:, 4:6]], 1).T)
    assert torch.equal(own["old"], joint["qkv"])
    own["old"] = torch.zeros(5, 12)
    again = layout.stored_state(own)
    assert list(again) == ["qkv", "ln"]
    assert torch.equal(again["qkv"], joint["qkv"])
    assert again["ln"] is joint["ln"]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.permutations(range(6)), st.booleans())
def test_any_cut_of_a_tensor_goes_there_and_back(lengths, order, transposed):
    starts = [sum(lengths[:at]) for at in range(len(lengths))]
    owners: dict[str, list[tuple[int, int]]] = {}
    for at in order:
        if at < len(lengths):
            owners.setdefault(f"part{at % 3}", []).append((starts[at], lengths[at]))
    layout = Layout({own: Piece("whole", 0, tuple(ranges), transposed) for own, ranges in owners.items()})
    whole = torch.randn(sum(lengths), 3)
    own, _ = layout.own_state({"whole": whole})
    assert torch.equal(layout.stored_state(own)["whole"], whole)
    assert Layout.from_plain(layout.to_plain()).pieces == layout.pieces


def test_what_torch_has_put_on_a_state_dict_stays_on_it():
    module = torch.nn.BatchNorm1d(2)
    translated = Renaming({"weight": "w"}).layout(module.state_dict()).stored_state(module.state_dict())
    assert isinstance(translated, OrderedDict)
    assert translated._metadata == module.state_dict()._metadata


def test_further_names_are_stored_as_the_same_tensor_and_read_in_place_of_the_first():
    layout = Layout({"embed": Piece("wte"), "unembed": Piece("wte", derived=True)}, aliases={"lm_head": "wte"})
    tensor = torch.randn(2)
    assert layout.stored_state({"embed": tensor, "unembed": tensor}) == {"wte": tensor, "lm_head": tensor}
    own, unknown = layout.own_state({"lm_head": tensor})
    assert own["embed"] is own["unembed"] is tensor
    assert unknown == []


def test_zeros_are_not_stored_and_made_again():
    naming = MappedNaming(Layout({"w": Piece("weight")}, zeros={"b": ((2,), "float64")}))
    layout = naming.layout(["w", "b", "other"])
    assert set(layout.stored_state({"w": 1, "b": torch.zeros(2), "other": 3})) == {"weight", "other"}
    own, _ = layout.own_state({"weight": torch.ones(1)})
    assert own["b"].dtype == torch.float64
    assert own["b"].tolist() == [0, 0]


def test_a_second_name_has_one_owner_and_something_stored():
    pieces = {"a": Piece("x"), "b": Piece("y")}
    with pytest.raises(CheckpointError, match="'y' is given as a second name of 'x', and another tensor has that name"):
        Layout(pieces, aliases={"y": "x"})
    with pytest.raises(CheckpointError, match="'w' is given as a second name of 'z', and no tensor is stored under"):
        Layout(pieces, aliases={"w": "z"})


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ({"a": Piece("x"), "b": Piece("x")}, "calls both 'a' and 'b' 'x'"),
        ({"a": Piece("x", 0, ((0, 2),)), "b": Piece("x", 0, ((1, 2),))}, "puts 'b' at 1 of 'x', .* filled up to 2"),
        ({"a": Piece("x", 0, ((1, 2),))}, "puts 'a' at 1 of 'x', which is filled up to 0"),
        ({"a": Piece("x", 0, ((0, 2),)), "b": Piece("x", 1, ((2, 2),))}, "along several dimensions"),
        ({"a": Piece("x", derived=True)}, "'a' is to be read from 'x', and no tensor of the module is stored there"),
    ],
)
def test_a_layout_that_leaves_or_fills_a_place_twice_is_refused(pieces, message):
    with pytest.raises(CheckpointError, match=message):
        Layout(pieces)


def test_parts_of_other_shapes_and_types_are_refused_with_all_names():
    layout = Layout({"a": Piece("x", 0, ((0, 2),)), "b": Piece("x", 0, ((2, 2),))})
    with pytest.raises(CheckpointError, match=r"'b' has the shape \(3, 4\), and takes 2 of dimension 0 of 'x', beside"):
        layout.stored_state({"a": torch.ones(2, 4), "b": torch.ones(3, 4)})
    with pytest.raises(
        CheckpointError, match=r"'b' is torch\.float16 and 'a' is torch\.float32; both are parts of 'x'"
    ):
        layout.stored_state({"a": torch.ones(2, 4), "b": torch.ones(2, 4).half()})
    with pytest.raises(CheckpointError, match="'x' is made of 'a', 'b', and 'b' is missing"):
        layout.stored_state({"a": torch.ones(2, 4)})
    with pytest.raises(CheckpointError, match=r"'x' has the shape \(5, 4\)\. Dimension 0 should be 4 long"):
        layout.own_state({"x": torch.ones(5, 4)})


@pytest.mark.parametrize("plain", [None, {"tensors": {}}, {"tensors": {"a": 1}, "aliases": {}, "zeros": {}}])
def test_a_record_that_tells_nothing_is_refused(plain):
    with pytest.raises(CheckpointError, match="does not tell where"):
        Layout.from_plain(plain)


def test_tied_tensors_are_found_and_views_of_one_storage_are_not():
    weight = torch.randn(2, 2)
    assert tied_names({"a": weight, "b": weight.detach(), "c": weight.T, "d": weight[:1], "e": 3}) == {"b": "a"}


@pytest.mark.parametrize("record", [{"namings": 5}, {"namings": {"own": {"tensors": 5}}}], ids=repr)
def test_a_record_that_cannot_be_read_says_what_it_is_for_what_happened_and_what_to_do(record):
    with pytest.raises(CheckpointError, match=r"(?s)called.*5.*another program has changed.*Nothing was .*Use another"):
        recorded_namings(record)
