"""The generators that ship with Phasewire, and their options."""

import inspect
import math

import pytest
import torch
from torch import nn

from generated import Block, adapter_for, holding, names_in, thawed
from phasewire.adapters import ConfigError, ScheduleError, StrategyAdapter
from phasewire.app.schedule import generate_default
from phasewire.app.schedule.generators import (
    SHIPPED_GENERATORS,
    discriminative,
    equal_mass,
    pairs,
    per_block,
    with_options,
)


def model(blocks=4, embeddings=3):
    return holding(
        embed=nn.Embedding(embeddings, 2),
        layers=nn.ModuleList([Block() for _ in range(blocks)]),
        norm=nn.LayerNorm(2),
        head=nn.Linear(2, 2),
    )


def test_all_have_one_shape_and_options_with_defaults():
    for name, generator in SHIPPED_GENERATORS.items():
        module, names, *options = inspect.signature(generator).parameters.values()
        assert generator.__name__ == name
        assert (module.name, names.name) == ("module", "names")
        assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)


@pytest.mark.parametrize("generator", SHIPPED_GENERATORS.values(), ids=SHIPPED_GENERATORS)
def test_generating_leaves_the_module_as_it_was(generator):
    module = model()
    module.embed.weight.requires_grad = False
    before = {name: (id(p), p.requires_grad, p.clone()) for name, p in module.named_parameters()}

    phases = thawed(generator(module, adapter_for(module)), module)

    assert sorted(name for names in phases for name in names) == sorted(before)
    for name, parameter in module.named_parameters():
        assert (id(parameter), parameter.requires_grad) == before[name][:2]
        assert torch.equal(parameter, before[name][2])


@pytest.mark.parametrize("generator", SHIPPED_GENERATORS.values(), ids=SHIPPED_GENERATORS)
def test_a_module_without_parameters_is_refused(generator):
    with pytest.raises(ScheduleError, match="No parameter is known, so there is nothing to schedule"):
        generator(nn.ReLU(), adapter_for(nn.ReLU()))


def test_parameters_of_another_module_are_refused():
    with pytest.raises(ScheduleError, match=r"None of the 2 parameters .* \('weight' is the first\) .* of Embedding"):
        per_block(nn.Embedding(2, 2), adapter_for(nn.Linear(2, 2)))


def test_pairs_is_the_schedule_that_is_used_when_none_is_given():
    module = model()

    assert pairs(module, adapter_for(module)) == generate_default([name for name, _ in module.named_parameters()])


def test_pairs_is_in_the_names_of_the_adapter():
    class Renaming(StrategyAdapter):
        def get_named_params_for_schedule_validation(self):
            return {name.upper(): parameter for name, parameter in self.pl_module.named_parameters()}

    module = nn.Linear(2, 2)

    assert pairs(module, adapter_for(module, Renaming())).to_dict() == {0: {"params": ["BIAS", "WEIGHT"]}}


# -- options -----------------------------------------------------------------------------------------------------


def test_a_generator_with_its_options_is_called_without():
    module = model()
    generator = with_options(discriminative, {"factor": 2, "top_lr": 0.08})

    made = generator(module, adapter_for(module))

    assert made == discriminative(module, adapter_for(module), factor=2, top_lr=0.08)


def test_an_option_that_a_generator_does_not_have_is_refused_with_the_nearest():
    with pytest.raises(ConfigError) as raised:
        with_options(equal_mass, {"phase": 3}, where="config.yaml, line 4")

    assert str(raised.value) == (
        "config.yaml, line 4: The schedule generator equal_mass has no option named 'phase'. Did you mean 'phases'? "
        "Remove what it does not take."
    )


def test_options_of_a_generator_are_listed_where_none_is_near():
    with pytest.raises(ConfigError, match="Its options: 'factor' and 'top_lr'"):
        with_options(discriminative, {"x": 3})
    with pytest.raises(ConfigError, match="It has none"):
        with_options(per_block, {"x": 3})


def test_an_option_without_a_default_must_be_given():
    def mine(module, names, *, depth):
        return per_block(module, names)

    with pytest.raises(ConfigError, match="The schedule generator mine needs a value for 'depth'"):
        with_options(mine, {})
    module = model()
    assert len(with_options(mine, {"depth": 2})(module, adapter_for(module)).phases) == 6


def test_a_generator_that_takes_any_option_is_given_them():
    def mine(module, names, **options):
        assert options == {"anything": 1}
        return per_block(module, names)

    module = nn.Linear(2, 2)
    assert with_options(mine, {"anything": 1})(module, adapter_for(module)) == per_block(module, adapter_for(module))


# -- equal_mass --------------------------------------------------------------------------------------------------


def test_equal_mass_shares_out_blocks():
    module = model(blocks=8)

    phases = thawed(equal_mass(module, adapter_for(module), phases=4), module)

    layers = module.layers
    assert phases == [
        names_in(module, module.head, module.norm, layers[7], layers[6]),
        names_in(module, layers[5], layers[4]),
        names_in(module, layers[3], layers[2]),
        names_in(module, layers[1], layers[0], module.embed),
    ]


def test_equal_mass_gives_a_large_part_a_phase_of_its_own():
    module = model(blocks=4, embeddings=1000)

    phases = thawed(equal_mass(module, adapter_for(module), phases=3), module)

    assert phases[-1] == names_in(module, module.embed)
    assert all(phases)


def test_equal_mass_in_one_phase_thaws_all():
    module = model()

    assert thawed(equal_mass(module, adapter_for(module), phases=1), module) == [names_in(module, module)]


def test_equal_mass_in_as_many_phases_as_parts_is_per_block():
    module = model()

    assert equal_mass(module, adapter_for(module), phases=6) == per_block(module, adapter_for(module))


def test_equal_mass_with_more_phases_than_parts_names_the_parts():
    module = model(blocks=2)

    with pytest.raises(ConfigError) as raised:
        equal_mass(module, adapter_for(module), phases=5)

    assert str(raised.value) == (
        "equal_mass.phases: Module has too few parts for 5 phases: head, layers.1, layers.0 and embeddings. "
        "Give 4 or less; blocks are not split."
    )


@pytest.mark.parametrize("phases", [0, -1, True, 2.0, "3", None])
def test_equal_mass_takes_a_number_of_phases(phases):
    with pytest.raises(ConfigError, match=r"^equal_mass\.phases: .* is no number of phases\. Give a whole number of 1"):
        equal_mass(model(), adapter_for(model()), phases=phases)


def test_equal_mass_needs_sizes():
    module = holding(layers=nn.ModuleList([Block(), Block()]), head=nn.LazyLinear(2))

    with pytest.raises(ScheduleError, match=r"part 'head' belongs to a lazy layer .* Run a batch"):
        equal_mass(module, adapter_for(module), phases=2)

    assert len(thawed(per_block(module, adapter_for(module)), module)) == 3


# -- discriminative ----------------------------------------------------------------------------------------------


def test_discriminative_thaws_by_block_with_a_rate_a_factor_below_the_one_above():
    module = model(blocks=3)

    schedule = discriminative(module, adapter_for(module), factor=2, top_lr=0.08)

    assert [phase.lr for phase in schedule.phases] == [None, 0.04, 0.02, 0.01, 0.005]
    assert [phase.params for phase in schedule.phases] == [
        phase.params for phase in per_block(module, adapter_for(module)).phases
    ]


def test_discriminative_reads_numbers_as_yaml_gives_them():
    module = model()
    schedule = discriminative(module, adapter_for(module), factor="2", top_lr="1e-5")

    assert schedule.phases[1].lr == pytest.approx(5e-6)


@pytest.mark.parametrize("value", [1, 0, -2.6, math.inf, math.nan, True, "much", None, 10**400])
def test_discriminative_needs_a_factor_greater_than_one(value):
    with pytest.raises(ConfigError, match=r"^discriminative\.factor: .* Give a finite number greater than 1\.$"):
        discriminative(model(), adapter_for(model()), factor=value)


@pytest.mark.parametrize("value", [0, -1e-5, math.inf, math.nan, False, [], None])
def test_discriminative_needs_a_rate_greater_than_zero(value):
    with pytest.raises(ConfigError, match=r"^discriminative\.top_lr: .* Give a finite number greater than 0\.$"):
        discriminative(model(), adapter_for(model()), top_lr=value)


def test_discriminative_refuses_a_factor_that_leaves_the_last_phase_no_rate():
    module = model(blocks=4)

    with pytest.raises(ConfigError, match=r"0 before the last of 6 phases\. Take a smaller factor\."):
        discriminative(module, adapter_for(module), factor=1e100)
