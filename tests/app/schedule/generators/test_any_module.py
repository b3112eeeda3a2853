"""What holds for the schedules of all modules, tried with random ones."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from generated import Block, adapter_for, holding, names_in, thawed
from phasewire.app.schedule.generators import discriminative, equal_mass, find_structure, per_block

NAMES = ["layer1", "layer2", "layer3", "head", "embed", "norm", "body", "a", "a_b"]
LEAVES = st.sampled_from(
    [
        lambda: nn.Linear(2, 3),
        lambda: nn.LayerNorm(2),
        lambda: nn.BatchNorm1d(2),
        lambda: nn.Embedding(7, 2),
        nn.ReLU,
        Block,
    ]
)


@st.composite
def modules(draw):
    """A random tree of modules with a parameter somewhere; some modules and weights in it are shared."""
    made = []

    def node(depth):
        kind = draw(st.sampled_from(["leaf", "list", "sequential", "holder"])) if depth else "leaf"
        if made and draw(st.integers(0, 9)) == 0:
            return draw(st.sampled_from(made))
        if kind == "leaf":
            module = draw(LEAVES)()
        else:
            children = [node(depth - 1) for _ in range(draw(st.integers(1, 4)))]
            names = draw(st.permutations(NAMES))
            containers = {"list": nn.ModuleList, "sequential": lambda children: nn.Sequential(*children)}
            make = containers.get(kind, lambda children: holding(**dict(zip(names, children, strict=False))))
            module = make(children)
        made.append(module)
        return module

    linears = [nn.Linear(2, 3), nn.Linear(2, 3)]
    root = holding(**dict(zip(draw(st.permutations(NAMES)), [node(3), linears[0], node(2), linears[1]], strict=False)))
    if draw(st.booleans()):
        linears[1].weight = linears[0].weight
    return root


def share_out(schedule, module):
    """The phases' names, after checking that each parameter stands in one of them."""
    phases = thawed(schedule, module)
    assert sorted(name for names in phases for name in names) == sorted(dict(module.named_parameters()))
    assert all(phases)
    return phases


@settings(max_examples=150, deadline=None)
@given(modules())
def test_every_parameter_stands_in_one_part_and_one_phase(module):
    parts = [names_in(module, *part.parameters) for part in find_structure(module).parts]

    assert share_out(per_block(module, adapter_for(module)), module) == parts


@settings(max_examples=150, deadline=None)
@given(modules(), st.data())
def test_equal_mass_splits_no_part_and_is_about_equal(module, data):
    parts = find_structure(module).parts
    count = data.draw(st.integers(1, len(parts)))

    phases = share_out(equal_mass(module, adapter_for(module), phases=count), module)

    assert len(phases) == count
    parameters = dict(module.named_parameters())
    masses = [sum(parameters[name].numel() for name in names) for names in phases]
    largest = max(sum(parameter.numel() for parameter in part.parameters) for part in parts)
    assert max(masses) <= sum(masses) / count + largest
    phase_of = {name: depth for depth, names in enumerate(phases) for name in names}
    of_parts = [{phase_of[name] for name in names_in(module, *part.parameters)} for part in parts]
    assert all(len(depths) == 1 for depths in of_parts)
    assert of_parts == sorted(of_parts, key=min)


@settings(max_examples=100, deadline=None)
@given(modules(), st.floats(1.01, 10), st.floats(1e-6, 1))
def test_each_rate_is_a_factor_below_the_one_above(module, factor, top_lr):
    schedule = discriminative(module, adapter_for(module), factor=factor, top_lr=top_lr)

    share_out(schedule, module)
    rates = [top_lr, *(phase.lr for phase in schedule.phases[1:])]
    assert schedule.phases[0].lr is None
    assert all(above / below == pytest.approx(factor) for above, below in pairwise(rates))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=9), st.integers(1, 9), st.data())
def test_blocks_that_are_known_are_found_and_never_split(widths, embeddings, data):
    blocks = nn.ModuleList([Block(2, width) for width in widths])
    module = holding(embed=nn.Embedding(embeddings, 2), blocks=blocks, norm=nn.LayerNorm(2), out=nn.Linear(2, 2))
    count = data.draw(st.integers(1, len(widths) + 2))

    phases = share_out(equal_mass(module, adapter_for(module), phases=count), module)

    for block in blocks:
        assert any(set(names_in(module, block)) <= set(names) for names in phases)
    by_block = share_out(per_block(module, adapter_for(module)), module)
    assert by_block[1:-1] == [names_in(module, block) for block in reversed(blocks)]
