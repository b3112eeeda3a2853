"""The model that the pages of the documentation take for granted: named as a BERT classifier, and tiny."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

LAYERS = 12


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.output = nn.Linear(2, 2)

    def forward(self, states):
        return torch.tanh(self.output(states))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleList(Layer() for _ in range(LAYERS))


class Embeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.word_embeddings = nn.Embedding(8, 2)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = Encoder()
        self.classifier = nn.Linear(2, 2)

    def forward(self, words):
        states = self.embeddings.word_embeddings(words).mean(dim=1)
        for layer in self.encoder.layer:
            states = layer(states)
        return self.classifier(states)


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Network()

    def training_step(self, batch, batch_idx):
        words, kinds = batch
        loss = nn.functional.cross_entropy(self.model(words), kinds)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        words, kinds = batch
        self.log("val_loss", nn.functional.cross_entropy(self.model(words), kinds))

    def configure_optimizers(self):
        return torch.optim.SGD([weight for weight in self.parameters() if weight.requires_grad], lr=0.1)


class Data(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.arange(16).view(4, 4) % 8, torch.arange(4) % 2), batch_size=2)

    val_dataloader = train_dataloader
