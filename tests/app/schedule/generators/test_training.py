"""A generated schedule trains: phase by phase, at the rates it gives."""

import pytest
import torch
from torch import nn

from generated import Block, adapter_for, names_in
from phasewire.app import FinetuningScheduler, FTSEarlyStopping
from phasewire.app.schedule.generators import discriminative
from tuning import FEATURES, Notes, TunedModule, fit, make_trainer


class BlocksModule(TunedModule):
    """A stem, two blocks and a head, in which each epoch is worse than the one before."""

    def __init__(self):
        super().__init__(val_losses=[float(epoch) for epoch in range(1, 20)])
        self.layers = nn.Sequential(nn.Linear(FEATURES, FEATURES), Block(FEATURES), Block(FEATURES))


def test_a_generated_schedule_thaws_block_after_block(tmp_path):
    torch.manual_seed(0)
    module, notes = BlocksModule(), Notes()
    schedule = discriminative(module, adapter_for(module), factor=2, top_lr=0.1)
    callbacks = [FinetuningScheduler(schedule, restore_best=False), FTSEarlyStopping("val_loss", patience=1), notes]
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}

    fit(make_trainer(tmp_path, *callbacks, max_epochs=20), module)

    stem, first, second = module.layers
    downwards = [module.head, second, first, stem]
    assert sorted(set(notes.depths)) == [0, 1, 2, 3]
    for epoch in notes.epochs:
        trained = downwards[: epoch.depth + 1]
        assert sorted(epoch.trainable) == names_in(module, *trained)
        assert [sorted(group) for group in epoch.groups] == [names_in(module, part) for part in trained]
        assert epoch.lrs == pytest.approx([0.1, 0.05, 0.025, 0.0125][: epoch.depth + 1])
    assert all(not torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())
