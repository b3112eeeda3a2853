"""What the cases written by hand are made of: metrics, schedules, modules, lr schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from parity_case import Case, Options, ScriptedModule, inverse, lr_scheduler, shrinking

HEAD, BLOCK_1, BLOCK_0 = "head.*", r"blocks\.1\..*", r"blocks\.0\..*"

#: Epoch 0 is the best of phase 0, and no later epoch is better.
WORSENING = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
#: The best of phase 0 is its first epoch, that of phase 1 its last.
UNEVEN = (3.0, 4.0, 2.0, 1.0, 5.0, 6.0)


def phases(**later: Any) -> dict[int, dict[str, Any]]:
    """Three phases of two epochs; ``one`` and ``two`` add keys to phases 1 and 2."""
    return {
        0: {"params": [HEAD], "max_transition_epoch": 2},
        1: {"params": [BLOCK_1], "max_transition_epoch": 4, **later.get("one", {})},
        2: {"params": [BLOCK_0], **later.get("two", {})},
    }


def by_patience(*params: list[str]) -> dict[int, dict[str, Any]]:
    return {depth: {"params": names} for depth, names in enumerate(params or ([HEAD], [BLOCK_1], [BLOCK_0]))}


class HalvingLR(StepLR):
    """A subclass of a supported lr scheduler, with arguments of its own."""

    def __init__(self, optimizer: torch.optim.Optimizer, last_epoch: int = -1) -> None:
        super().__init__(optimizer, step_size=1, gamma=0.5, last_epoch=last_epoch)


class SeveralShapes(ScriptedModule):
    """An embedding whose weight is also the output layer's, as in GPT-2, and a block between them."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.embedding = nn.Embedding(5, 4)
        self.block = nn.Linear(4, 4)
        self.output = nn.Linear(4, 5, bias=False)
        self.output.weight = self.embedding.weight

    def loss(self, batch: list[Tensor]) -> Tensor:
        x, _ = batch
        tokens = x.argmax(dim=1)
        return nn.functional.cross_entropy(self.output(self.block(self.embedding(tokens))), tokens)


class FrozenByUser(ScriptedModule):
    """A module that thaws more than phase 0 while it configures its optimizer."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.head(self.body(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        self.body.bias.requires_grad = True
        return super().configure_optimizers()


LR_SCHEDULERS: Mapping[str, Options] = {
    "LambdaLR": lr_scheduler("LambdaLR", lr_lambda=inverse),
    "MultiplicativeLR": lr_scheduler("MultiplicativeLR", lr_lambda=shrinking),
    "StepLR": lr_scheduler("StepLR", step_size=2, gamma=0.5),
    "MultiStepLR": lr_scheduler("MultiStepLR", milestones=[1, 3], gamma=0.5),
    "ExponentialLR": lr_scheduler("ExponentialLR", gamma=0.8),
    "CosineAnnealingLR": lr_scheduler("CosineAnnealingLR", T_max=4, eta_min=1e-4),
    "CosineAnnealingWarmRestarts": lr_scheduler("CosineAnnealingWarmRestarts", T_0=3),
    "ConstantLR": lr_scheduler("ConstantLR", factor=0.5, total_iters=3),
    "LinearLR": lr_scheduler("LinearLR", start_factor=0.25, total_iters=5),
    "ReduceLROnPlateau": {
        **lr_scheduler("ReduceLROnPlateau", patience=0, factor=0.5, min_lr=0.005),
        "monitor": "val_loss",
    },
    "subclass": {"class_path": "case_parts.HalvingLR"},
}


def gpt2(case: Case) -> pl.LightningModule:
    """A tiny GPT-2 of transformers, whose output layer is its embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    class LanguageModel(ScriptedModule):
        def __init__(self, case: Case) -> None:
            super().__init__(case)
            sizes = GPT2Config(
                vocab_size=11,
                n_positions=8,
                n_embd=8,
                n_layer=2,
                n_head=2,
                use_cache=False,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
            )
            self.model = GPT2LMHeadModel(sizes)

        def loss(self, batch: list[Tensor]) -> Tensor:
            tokens = batch[0].argsort(dim=1)
            return self.model(input_ids=tokens, labels=tokens).loss

    return LanguageModel(case)


def new_lr(given: Options, **more: Any) -> dict[str, Any]:
    return {"new_lr_scheduler": {"lr_scheduler_init": dict(given), **more}}


def new_optimizer(name: str, **arguments: Any) -> dict[str, Any]:
    return {"new_optimizer": {"optimizer_init": {"class_path": f"torch.optim.{name}", "init_args": arguments}}}


OLD = (LR_SCHEDULERS["ExponentialLR"],)
STEPS = lr_scheduler("StepLR", step_size=1, gamma=0.7)
