"""Small random models of many architectures, each behind a real ``TransformerBridge``; nothing is downloaded.

``transformer_lens`` takes seconds to import, so it and ``transformers`` are imported where a model is made: every
process of the tests imports this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

VOCABULARY, CONTEXT = 32, 8

_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GPT = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": CONTEXT, "vocab_size": VOCABULARY}
_LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": CONTEXT}
_LLAMA = {**_TOKENS, **_LAYERS, "intermediate_size": 32}
_GROUPED = {**_LLAMA, "num_key_value_heads": 2}

#: The six architectures of the specification, and others that Phasewire cannot know of: model to config and its values.
SIX: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2LMHeadModel": ("GPT2Config", {**_GPT, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "GPTJForCausalLM": ("GPTJConfig", {**_GPT, "rotary_dim": 4}),
    "OPTForCausalLM": ("OPTConfig", {**_TOKENS, **_LAYERS, "ffn_dim": 32, "word_embed_proj_dim": 16, "dropout": 0.0}),
    "PhiForCausalLM": ("PhiConfig", _LLAMA),
    "Qwen2ForCausalLM": ("Qwen2Config", _GROUPED),
    "LlamaForCausalLM": ("LlamaConfig", _GROUPED),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "MistralForCausalLM": ("MistralConfig", _GROUPED),
    "Qwen3ForCausalLM": ("Qwen3Config", {**_GROUPED, "head_dim": 4, "tie_word_embeddings": True}),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", _LLAMA),
    "Phi3ForCausalLM": ("Phi3Config", _GROUPED),
    "BloomForCausalLM": ("BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "MixtralForCausalLM": ("MixtralConfig", {**_GROUPED, "num_local_experts": 2}),
}


@dataclass(frozen=True)
class Bridged:
    """A bridge, the model behind it, and that model's state before there was a bridge."""

    bridge: Any
    model: torch.nn.Module
    before: dict[str, torch.Tensor]

    def hf_now(self) -> dict[str, torch.Tensor]:
        """Give the model's tensors by the names of ``before``, found by their place and not by Phasewire."""
        model, found = self.model, {}
        for name in self.before:
            module: Any = model
            for step in name.split("."):
                module = getattr(module, step)
                # A component of the bridge stands in front of the module that it wraps.
                while "_original_component" in getattr(module, "_modules", {}):
                    module = module._modules["_original_component"]
            found[name] = module
        return found


def bridged(architecture: str, **changes: Any) -> Bridged:
    """Make a random model and put a bridge around it."""
    import transformers
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    config_name, values = (SIX | OTHERS)[architecture]
    config = getattr(transformers, config_name)(**(values | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, architecture)(config)
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return Bridged(build_bridge_from_module(model, architecture, hf_config=config), model, before)


class BridgedModule(pl.LightningModule):
    """Next-token training of what is behind a bridge, with the bridge in the attribute ``model``."""

    def __init__(self, bridge: Any, lr: float = 0.1) -> None:
        super().__init__()
        self.model = bridge
        self.lr = lr

    def training_step(self, tokens: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.model(tokens, return_type="loss")

    def validation_step(self, tokens: torch.Tensor, batch_idx: int) -> None:
        self.log("val_loss", float(-self.current_epoch), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self.lr)


class SmallBridge(BridgedModule):
    """A module that makes its bridge from the name of the architecture, as a configuration file can."""

    def __init__(self, architecture: str) -> None:
        super().__init__(bridged(architecture).bridge)


def token_loader(batches: int = 2) -> DataLoader:
    """Give batches of random token ids, always the same ones."""
    rows = torch.randint(3, VOCABULARY, (2 * batches, CONTEXT), generator=torch.Generator().manual_seed(0))
    return DataLoader(rows, batch_size=2)
