"""What the generators make of the models people tune, built from their library's configurations."""

import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import transformers
import yaml
from torch import nn

from generated import adapter_for, names_in, thawed
from phasewire.app import Schedule
from phasewire.app.schedule.generators import discriminative, per_block

WIDTH = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}


class Wrapped(pl.LightningModule):
    """A module as a user writes it: the library's model under an attribute, and a head of the user's own."""

    def __init__(self, backbone, head_first=False):
        super().__init__()
        if head_first:
            self.classifier = nn.Linear(8, 2)
        self.anything = backbone
        if not head_first:
            self.classifier = nn.Linear(8, 2)


def gpt2(layers=3):
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=11, n_positions=8, n_embd=8, n_layer=layers, n_head=2, bos_token_id=0, eos_token_id=0
        )
    )


def bert(**options):
    return transformers.BertModel(
        transformers.BertConfig(vocab_size=11, max_position_embeddings=8, num_hidden_layers=3, **WIDTH), **options
    )


def bert_classifier():
    return transformers.BertForSequenceClassification(bert().config)


def llama():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=11, num_hidden_layers=3, num_key_value_heads=2, **WIDTH)
    )


def vit():
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(image_size=8, patch_size=4, num_hidden_layers=3, **WIDTH)
    )


def resnet():
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8, 16], depths=[2, 1, 2], layer_type="basic")
    )


def t5():
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=11, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    )


def bart():
    sizes = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    tokens = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "forced_eos_token_id": 2}
    return transformers.BartForConditionalGeneration(
        transformers.BartConfig(
            vocab_size=11, d_model=8, max_position_embeddings=8, encoder_layers=2, decoder_layers=2, **sizes, **tokens
        )
    )


def albert():
    return transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(
            vocab_size=11, embedding_size=4, max_position_embeddings=8, num_hidden_layers=3, **WIDTH
        )
    )


def opt():
    return transformers.OPTForCausalLM(
        transformers.OPTConfig(
            vocab_size=11,
            hidden_size=8,
            word_embed_proj_dim=4,
            max_position_embeddings=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=16,
        )
    )


def downwards(blocks):
    return [[block] for block in reversed(blocks)]


#: How to build a model, and the parts of it that its phases thaw.
ARCHITECTURES = {
    "GPT-2": (
        gpt2,
        lambda m: [[m.transformer.ln_f], *downwards(m.transformer.h), [m.transformer.wpe, m.transformer.wte]],
    ),
    "BERT": (
        bert_classifier,
        lambda m: [[m.classifier, m.bert.pooler], *downwards(m.bert.encoder.layer), [m.bert.embeddings]],
    ),
    "Llama": (llama, lambda m: [[m.lm_head, m.model.norm], *downwards(m.model.layers), [m.model.embed_tokens]]),
    "ViT": (vit, lambda m: [[m.classifier, m.vit.layernorm], *downwards(m.vit.layers), [m.vit.embeddings]]),
    "ResNet": (resnet, lambda m: [[m.classifier], *downwards(m.resnet.encoder.stages), [m.resnet.embedder]]),
    "T5": (
        t5,
        lambda m: [
            [m.decoder.final_layer_norm],
            *downwards(m.decoder.block),
            [m.encoder.final_layer_norm, m.encoder.block[1]],
            [m.encoder.block[0]],
            [m.shared],
        ],
    ),
    "BART": (
        bart,
        lambda m: [
            *downwards(m.model.decoder.layers),
            *downwards(m.model.encoder.layers),
            [
                part
                for coder in (m.model.decoder, m.model.encoder)
                for part in (coder.embed_positions, coder.layernorm_embedding, coder.embed_tokens)
            ],
        ],
    ),
    "ALBERT, whose layers are one": (
        albert,
        lambda m: [
            [m.classifier, m.albert.pooler],
            [m.albert.encoder.albert_layer_groups],
            [m.albert.encoder.embedding_hidden_mapping_in, m.albert.embeddings],
        ],
    ),
    "OPT, which registers its final norm before its layers": (
        opt,
        lambda m: [
            [m.model.decoder.final_layer_norm, m.model.decoder.project_out],
            *downwards(m.model.decoder.layers),
            [m.model.decoder.project_in, m.model.decoder.embed_positions, m.model.decoder.embed_tokens],
        ],
    ),
    "GPT-2 of one layer": (
        lambda: gpt2(layers=1),
        lambda m: [[m.transformer.ln_f], [m.transformer.h[0]], [m.transformer.wpe, m.transformer.wte]],
    ),
    "BERT without a pooler": (
        lambda: bert(add_pooling_layer=False),
        lambda m: [*downwards(m.encoder.layer), [m.embeddings]],
    ),
    "BERT in a LightningModule": (
        lambda: Wrapped(bert()),
        lambda m: [
            [m.classifier, m.anything.pooler],
            *downwards(m.anything.encoder.layer),
            [m.anything.embeddings],
        ],
    ),
    "BERT in a LightningModule, after its head": (
        lambda: Wrapped(bert(), head_first=True),
        lambda m: [
            [m.classifier, m.anything.pooler],
            *downwards(m.anything.encoder.layer),
            [m.anything.embeddings],
        ],
    ),
}


@pytest.mark.parametrize(("build", "parts"), ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_head_then_blocks_from_the_top_then_embeddings(build, parts):
    with torch.device("meta"):  # only names, sizes and sharing matter here
        model = build()
    expected = [names_in(model, *phase) for phase in parts(model)]
    assert sum(map(len, expected)) == len(dict(model.named_parameters())), "the expectation names every parameter"

    schedule = per_block(model, adapter_for(model))

    assert thawed(schedule, model) == expected


def test_the_documentation_shows_what_is_made():
    page = (Path(__file__).parents[4] / "docs" / "schedules.md").read_text()
    shown = re.search(r"What `discriminative` makes of a BERT .*?```yaml\n(.*?)```", page, re.DOTALL)
    model = bert_classifier()

    schedule = discriminative(model, adapter_for(model), factor=2, top_lr=8e-5)

    assert Schedule.from_mapping(yaml.safe_load(shown[1])) == schedule


def test_a_block_is_one_line_that_a_person_can_move():
    model = Wrapped(bert())

    schedule = per_block(model, adapter_for(model))

    assert [phase.params for phase in schedule.phases] == [
        (r"classifier\..*", r"anything\.pooler\..*"),
        (r"anything\.encoder\.layer\.2\..*",),
        (r"anything\.encoder\.layer\.1\..*",),
        (r"anything\.encoder\.layer\.0\..*",),
        (r"anything\.embeddings\..*",),
    ]
