"""Fine-tune a model behind a TransformerBridge with a schedule in TransformerLens names.

The same schedule, bridge_schedule.yaml, drives any architecture that TransformerLens wraps. Needs
``phasewire[transformer-lens,demo]``, and downloads nothing: the model is small and random, the text that of the
descriptions in scikit-learn. Copy it, and put your model, your text and your schedule in. Run it from anywhere:

    python bridge_finetune.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_linnerud, load_wine
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import build_bridge_from_module
from transformers import GPT2Config, GPT2LMHeadModel

from phasewire.app import FinetuningScheduler

CONTEXT = 64
Batches = DataLoader[tuple[Tensor, ...]]


class BridgedLanguageModel(LightningModule):
    """Predicts the next byte of a text. In your script: the next token, with a pretrained model."""

    def __init__(self, bridge: TransformerBridge) -> None:
        super().__init__()
        # The adapter looks here; the option bridge_attribute names another attribute.
        self.model = bridge

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        loss: Tensor = self.model(batch[0], return_type="loss")
        return loss

    def validation_step(self, batch: tuple[Tensor], batch_idx: int) -> None:
        """Log the metric that ends a phase."""
        self.log("val_loss", self.model(batch[0], return_type="loss"))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.AdamW((weight for weight in self.parameters() if weight.requires_grad), lr=1e-2)


class LossPerPhase(Callback):
    """Keeps the best loss of every phase, and how many numbers it trained."""

    def __init__(self, scheduler: FinetuningScheduler) -> None:
        self.scheduler = scheduler
        self.best: dict[int, tuple[float, int]] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the loss that was logged."""
        if trainer.sanity_checking:
            return
        phase, loss = self.scheduler.curr_depth, float(trainer.callback_metrics["val_loss"])
        trained = sum(weight.numel() for weight in pl_module.parameters() if weight.requires_grad)
        self.best[phase] = min(self.best.get(phase, (loss, trained)), (loss, trained))


def small_bridge() -> TransformerBridge:
    """Make a bridge without any download.

    With a pretrained model: ``TransformerBridge.boot_transformers("gpt2")``.
    """
    config = GPT2Config(vocab_size=256, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=4, tie_word_embeddings=False)
    return build_bridge_from_module(GPT2LMHeadModel(config), "GPT2LMHeadModel", hf_config=config)


def text_batches() -> tuple[Batches, Batches]:
    """Give batches to train on and, from the end of the text, batches to validate on."""
    loaders: list[Any] = [load_breast_cancer, load_diabetes, load_digits, load_iris, load_linnerud, load_wine]
    text = "\n".join(load().DESCR for load in loaders).encode()
    rows = torch.tensor(list(text[: len(text) // CONTEXT * CONTEXT])).view(-1, CONTEXT)
    held_out = len(rows) // 5
    return (
        DataLoader(TensorDataset(rows[:-held_out]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(rows[-held_out:]), batch_size=64),
    )


def main() -> None:
    """Train through the phases of bridge_schedule.yaml and print the loss of each."""
    seed_everything(0)
    scheduler = FinetuningScheduler(
        ft_schedule=Path(__file__).with_name("bridge_schedule.yaml"),
        custom_strategy_adapters={"auto": "transformerbridge"},
        strategy_adapter_cfg={"use_tl_names": True},
    )
    losses = LossPerPhase(scheduler)
    trainer = Trainer(
        max_epochs=12,
        accelerator="cpu",
        callbacks=[
            scheduler,
            EarlyStopping(monitor="val_loss", patience=2),
            ModelCheckpoint(monitor="val_loss"),
            losses,
        ],
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    train, validate = text_batches()
    trainer.fit(BridgedLanguageModel(small_bridge()), train, validate)
    for phase, (loss, trained) in losses.best.items():
        first = ", ".join(scheduler.ft_schedule[phase]["params"][:3])
        print(f"Phase {phase}: best loss {loss:.3f}, {trained:,} numbers trained, new are {first}, ...")


if __name__ == "__main__":
    main()
