"""Generated schedules are written in the names that the adapter gives."""

import pytest
import torch
from torch import nn

from generated import Block, adapter_for, holding, names_in, thawed
from phasewire.adapters import StrategyAdapter
from phasewire.app.schedule.generators import pairs, per_block


class Renaming(StrategyAdapter):
    """Gives names of its own to some or all parameters."""

    def __init__(self, rename):
        super().__init__()
        self.rename = rename

    def get_named_params_for_schedule_validation(self):
        named = super().get_named_params_for_schedule_validation()
        return {self.rename(name): parameter for name, parameter in named.items() if self.rename(name)}


def model():
    return holding(embed=nn.Embedding(3, 2), layers=nn.ModuleList([Block(), Block()]), out=nn.Linear(2, 2))


def written(module, rename):
    adapter = adapter_for(module, Renaming(rename))
    schedule = per_block(module, adapter)
    return [list(phase.params) for phase in schedule.phases], thawed(schedule, module, adapter)


def test_names_with_the_same_beginning_become_one_pattern():
    params, _ = written(model(), lambda name: f"tl/{name.replace('layers.', 'blocks[')}")

    assert params[0] == [r"tl/out\..*"]
    assert params[1] == [r"tl/blocks\[1\..*"]
    assert params[3] == ["tl/embed.weight"]


def test_names_with_no_beginning_of_their_own_stand_in_full():
    module = model()

    params, phases = written(module, lambda name: name.replace(".", "_"))

    assert params[1] == [name.replace(".", "_") for name in reversed(list(dict(module.named_parameters())))][2:8]
    assert [sorted(entries) for entries in params] == phases


def test_a_pattern_takes_no_name_of_another_phase():
    # One parameter of the embeddings is named as if it were part of the upper block.
    params, phases = written(model(), lambda name: "layers.1.extra" if name == "embed.weight" else name)

    assert "layers.1.extra" in params[-1]
    assert phases[-1] == ["layers.1.extra"]
    assert r"layers\.1\.up\..*" in params[1]


def test_a_name_may_be_the_beginning_of_others():
    params, phases = written(model(), lambda name: "layers.1" if name == "embed.weight" else name)

    assert params[1] == [r"layers\.1\..*"]
    assert phases[-1] == params[-1] == ["layers.1"]


def test_a_pattern_takes_no_second_name_that_the_adapter_does_not_give():
    module = model()
    module.out = holding(first=nn.Linear(2, 2), second=nn.Linear(2, 2))
    module.out.first.weight = module.embed.weight = nn.Parameter(torch.zeros(2, 2))

    # The validator would warn of `out.first.weight`.
    params, phases = written(module, lambda name: "tokens" if name == "embed.weight" else name)

    assert params[0] == [r"out\.second\..*", "out.first.bias"]
    assert phases[-1] == ["tokens"]


def test_a_layer_whose_number_begins_like_that_of_another_is_kept_apart():
    module = holding(layers=nn.ModuleList([Block() for _ in range(12)]))

    schedule = per_block(module, adapter_for(module))

    assert thawed(schedule, module) == [names_in(module, block) for block in reversed(module.layers)]


def test_parameters_without_a_name_are_left_out():
    module = model()

    params, _ = written(module, lambda name: name if "layers" in name else None)

    assert params == [[r"layers\.1\..*"], [r"layers\.0\..*"]]


def test_a_parameter_that_the_module_does_not_have_goes_with_the_one_before():
    module = model()

    class WithAnother(StrategyAdapter):
        def get_named_params_for_schedule_validation(self):
            named = dict(self.pl_module.named_parameters())
            return {"first": nn.Parameter(torch.zeros(1)), **named, "last": nn.Parameter(torch.zeros(1))}

    adapter = adapter_for(module, WithAnother())
    phases = thawed(per_block(module, adapter), module, adapter)

    assert "first" in phases[-1]
    assert "last" in phases[0]


@pytest.mark.parametrize("both_names", [False, True], ids=["first name", "both names"])
def test_a_tied_parameter_stands_once_under_the_name_that_counts(both_names):
    module = model()
    module.out.weight = module.embed.weight = nn.Parameter(torch.zeros(2, 2))

    class BothNames(StrategyAdapter):
        def get_named_params_for_schedule_validation(self):
            return dict(self.pl_module.named_parameters(remove_duplicate=not both_names))

    adapter = adapter_for(module, BothNames())
    phases = thawed(per_block(module, adapter), module, adapter)

    assert phases[0] == ["out.bias"]
    assert phases[-1] == ["embed.weight"]


def test_a_tied_parameter_is_known_by_its_second_name_where_the_adapter_gives_no_other():
    module = model()
    module.out.weight = module.embed.weight = nn.Parameter(torch.zeros(2, 2))

    _, phases = written(module, lambda name: "out.weight" if name == "embed.weight" else name)

    assert phases[0] == ["out.bias"]
    assert phases[-1] == ["out.weight"]


def test_a_schedule_for_compiled_blocks_fits_the_module_that_is_not_compiled():
    module = model()
    plain = thawed(per_block(module, adapter_for(module)), module)
    module.embed = torch.compile(module.embed, backend="eager")
    for number, block in enumerate(module.layers):
        module.layers[number] = torch.compile(block, backend="eager")

    schedule = per_block(module, adapter_for(module))

    assert [phase.params for phase in schedule.phases][1:] == [
        (r"layers\.1\..*",),
        (r"layers\.0\..*",),
        ("embed.weight",),
    ]
    assert [name for phase in pairs(module, adapter_for(module)).phases for name in phase.params] == list(
        reversed([name for name, _ in model().named_parameters()])
    )
    assert thawed(schedule, model()) == plain
    thawed(schedule, module)


def test_characters_with_a_meaning_in_patterns_are_taken_as_they_are():
    module = holding(**{"a+b": holding(layers=nn.ModuleList([Block(), Block()]))})

    assert len(thawed(per_block(module, adapter_for(module)), module)) == 2
