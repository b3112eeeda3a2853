"""Fine-tune a Hugging Face model inside a LightningModule, with a schedule that is made from its blocks.

The model is built from its configuration, so nothing is downloaded; in your script it is ``from_pretrained``. Needs
``transformers``. Run it from anywhere:

    python huggingface_model.py
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, random_split
from transformers import BertConfig, BertForSequenceClassification

from phasewire.app import FinetuningScheduler

LENGTH = 48  # bytes of text in a row


class TextClassifier(LightningModule):
    """Tells which of three texts a piece of text is from.

    Args:
        config: What the model is built from.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        # With pretrained weights: AutoModelForSequenceClassification.from_pretrained("bert-base-uncased", num_labels=3)
        self.model = BertForSequenceClassification(config)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        tokens, text = batch
        loss: Tensor = self.model(input_ids=tokens, labels=text).loss
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the metric that ends a phase."""
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.AdamW((weight for weight in self.parameters() if weight.requires_grad), lr=3e-3)


def pieces_of_text() -> TensorDataset:
    """Cut three texts into rows of bytes, each with the number of its text."""
    loaders: list[Any] = [load_breast_cancer, load_diabetes, load_iris]
    rows, labels = [], []
    for label, load in enumerate(loaders):
        text = load().DESCR.encode()
        pieces = torch.tensor(list(text[: len(text) // LENGTH * LENGTH])).view(-1, LENGTH)
        rows.append(pieces)
        labels.append(torch.full((len(pieces),), label))
    return TensorDataset(torch.cat(rows), torch.cat(labels))


def main() -> None:
    """Train through the phases that are made of the blocks: head, layers from the last to the first, embeddings."""
    seed_everything(0)
    config = BertConfig(
        vocab_size=256,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=3,
    )
    scheduler = FinetuningScheduler(
        schedule_generator="discriminative", schedule_generator_cfg={"top_lr": 3e-3, "factor": 2.0}
    )
    trainer = Trainer(
        max_epochs=12,
        accelerator="cpu",
        callbacks=[scheduler, EarlyStopping(monitor="val_loss", patience=1), ModelCheckpoint(monitor="val_loss")],
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    train, validate = random_split(pieces_of_text(), [0.7, 0.3])
    trainer.fit(
        TextClassifier(config), DataLoader(train, batch_size=32, shuffle=True), DataLoader(validate, batch_size=64)
    )
    for depth, phase in scheduler.ft_schedule.items():
        print(f"Phase {depth}: {len(phase['params'])} parameters, such as {phase['params'][0]}")
    print(f"Phase reached: {scheduler.curr_depth} of {scheduler.max_depth}")


if __name__ == "__main__":
    main()
