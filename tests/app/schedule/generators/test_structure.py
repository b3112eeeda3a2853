"""Where the head, the blocks and the embeddings of a module are found."""

import pytest
from torch import nn

from generated import Block, holding, names_in
from phasewire.app.schedule.generators import find_structure


def linear():
    return nn.Linear(2, 2)


def found(module):
    """Names of the parts from the top, and the names in each."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        part.name: sorted(names[id(parameter)] for parameter in part.parameters)
        for part in find_structure(module).parts
    }


def expected(module, **parts):
    return {path: names_in(module, *held) for path, held in parts.items()}


def test_numbered_attributes_are_stages():
    module = holding(conv1=linear(), bn1=nn.BatchNorm1d(2))
    stages = [nn.Sequential(Block(), Block(hidden=4)), nn.Sequential(Block(), Block()), nn.Sequential(Block())]
    for number, stage in enumerate(stages, start=1):
        module.add_module(f"layer{number}", stage)
    module.fc = linear()

    assert found(module) == expected(
        module,
        head=[module.fc],
        layer3=[stages[2]],
        layer2=[stages[1]],
        layer1=[stages[0]],
        embeddings=[module.conv1, module.bn1],
    )


def test_a_sequential_has_its_stem_its_blocks_and_its_head():
    module = nn.Sequential(linear(), Block(), nn.ReLU(), Block(), nn.LayerNorm(2), linear())

    parts = found(module)

    assert list(parts) == ["head", "3", "1", "embeddings"]
    assert parts["head"] == names_in(module, module[4], module[5])
    assert parts["embeddings"] == names_in(module, module[0])


def test_what_stands_between_two_blocks_belongs_to_the_one_before():
    module = holding(features=nn.Sequential(Block(), linear(), Block(), nn.Sequential(linear()), Block()))

    parts = found(module)

    assert list(parts) == ["features.4", "features.2", "features.0"]
    assert parts["features.0"] == names_in(module, module.features[0], module.features[1])
    assert parts["features.2"] == names_in(module, module.features[2], module.features[3])


def test_between_two_blocks_no_name_counts():
    module = holding(block1=Block(), patch_embed2=linear(), block2=Block(), out=linear())

    assert found(module)["block1"] == names_in(module, module.block1, module.patch_embed2)


def test_what_is_as_near_to_one_stack_as_to_the_next_belongs_to_the_block_before():
    module = holding(down1=Block(), down2=Block(), middle=linear(), up1=Block(), up2=Block())

    assert found(module)["down2"] == names_in(module, module.down2, module.middle)


def test_a_module_may_show_others_its_parameters_differently():
    class Secretive(nn.Linear):
        def named_parameters(self, *arguments, **options):
            return iter(())

    layer = Secretive(2, 2)

    [part] = find_structure(layer).parts

    assert [id(parameter) for parameter in part.parameters] == [id(layer.weight), id(layer.bias)]


def test_layers_of_a_list_may_be_of_several_classes():
    class OtherBlock(Block):
        pass

    module = holding(layers=nn.ModuleList([Block(), OtherBlock(), Block(), OtherBlock()]))

    assert list(found(module)) == ["layers.3", "layers.2", "layers.1", "layers.0"]


def test_of_nested_repetition_the_outermost_counts():
    stages = nn.ModuleList([holding(layers=nn.ModuleList([Block(), Block()])) for _ in range(2)])

    assert list(found(holding(stages=stages))) == ["stages.1", "stages.0"]


def test_a_small_stack_beside_a_large_one_is_a_detail():
    module = holding(
        patches=nn.Sequential(Block(), Block()),
        layers=nn.ModuleList([Block(50, 50), Block(50, 50)]),
        tasks=nn.ModuleList([Block(), Block()]),
    )

    assert found(module) == expected(
        module,
        head=[module.tasks],
        **{"layers.1": [module.layers[1]], "layers.0": [module.layers[0]]},
        embeddings=[module.patches],
    )


@pytest.mark.parametrize("name", ["heads", "task_heads", "classifiers"])
def test_heads_of_any_size_are_the_head(name):
    module = holding(layers=nn.ModuleList([Block(), Block()]), **{name: nn.ModuleList([Block(20), Block(20)])})

    assert found(module)["head"] == names_in(module, getattr(module, name))


@pytest.mark.parametrize("name", ["head", "lm_head", "classifier", "Unembed", "final_norm", "project_out"])
def test_a_name_that_says_head_comes_before_its_place(name):
    module = holding(**{name: linear()}, stem=linear(), layers=nn.ModuleList([Block(), Block()]), norm=nn.LayerNorm(2))

    parts = found(module)

    assert parts["head"] == names_in(module, getattr(module, name), module.norm)
    assert parts["embeddings"] == names_in(module, module.stem)


def test_a_name_that_says_embeddings_comes_before_its_place():
    module = holding(layers=nn.ModuleList([Block(), Block()]), pos_embed=nn.Embedding(3, 2), out=linear())

    parts = found(module)

    assert parts["embeddings"] == names_in(module, module.pos_embed)
    assert parts["head"] == names_in(module, module.out)


def test_only_the_name_beside_the_blocks_counts_not_that_of_what_holds_them():
    backbone = holding(stem=linear(), layers=nn.ModuleList([Block(), Block()]), norm=nn.LayerNorm(2))
    module = holding(embedder=backbone, out=linear())

    parts = found(module)

    assert parts["head"] == names_in(module, backbone.norm, module.out)
    assert parts["embeddings"] == names_in(module, backbone.stem)


def test_between_two_stacks_the_nearer_one_decides():
    encoder = holding(stem=linear(), layers=nn.ModuleList([Block(), Block()]), norm=nn.LayerNorm(2))
    decoder = holding(stem=linear(), layers=nn.ModuleList([Block(), Block()]), norm=nn.LayerNorm(2))
    module = holding(encoder=encoder, decoder=decoder)

    assert found(module) == expected(
        module,
        head=[decoder.norm],
        **{
            "decoder.layers.1": [decoder.layers[1]],
            "decoder.layers.0": [decoder.layers[0]],
            "encoder.layers.1": [encoder.layers[1], encoder.norm],
            "encoder.layers.0": [encoder.layers[0]],
        },
        embeddings=[encoder.stem, decoder.stem],
    )


def test_what_is_shared_belongs_to_the_first_that_holds_it():
    module = holding(embed=nn.Linear(2, 2, bias=False), layers=nn.ModuleList([Block(), Block()]), out=linear())
    module.out.weight = module.embed.weight
    module.layers[1].up = module.layers[0].up

    parts = found(module)

    assert parts["embeddings"] == ["embed.weight"]
    assert parts["head"] == ["out.bias"]
    assert not [name for name in parts["layers.1"] if ".up." in name]


def test_without_blocks_each_layer_is_one_with_the_norm_that_follows():
    module = holding(
        body=nn.Sequential(linear(), nn.BatchNorm1d(2), nn.ReLU(), linear(), nn.LayerNorm(2)), head=linear()
    )

    parts = found(module)

    assert list(parts) == ["head", "body.3", "body.0"]
    assert parts["body.0"] == names_in(module, module.body[0], module.body[1])
    assert parts["body.3"] == names_in(module, module.body[3], module.body[4])


def test_a_module_that_is_one_layer_is_one_part():
    assert found(linear()) == {"": ["bias", "weight"]}


def test_a_module_without_parameters_has_no_parts():
    assert find_structure(nn.Sequential(nn.ReLU())).parts == ()
