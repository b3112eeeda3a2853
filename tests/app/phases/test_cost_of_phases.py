"""What a phase costs does not grow with the number of parameters or of phases: counted, not timed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import RandomDataset

from phasewire.app import FinetuningScheduler
from phasewire.app.phases.mapped_checkpoint import read_mapped
from phasewire.app.phases.param_groups import add_phase_groups

PHASES = 6
MAPS = Path("/proc/self/maps")


def is_in_file(tensor, path):
    ranges = (line.split()[0].split("-") for line in MAPS.read_text().splitlines() if line.endswith(str(path)))
    return any(int(first, 16) <= tensor.data_ptr() < int(end, 16) for first, end in ranges)


class Chain(LightningModule):
    """A module that counts how often all of its parameters are listed."""

    listed = 0

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(PHASES)))

    def named_parameters(self, *args, **kwargs):
        type(self).listed += 1
        return super().named_parameters(*args, **kwargs)

    def training_step(self, batch, batch_idx):
        return self.layers(batch).sum()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(RandomDataset(2, 2))

    def configure_optimizers(self):
        return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), lr=0.1, momentum=0.9)


class Counting(FinetuningScheduler):
    """Notes how often the module is listed when an epoch, and with it a phase, begins."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.listed = []

    def on_train_epoch_start(self, trainer, pl_module):
        before = Chain.listed
        super().on_train_epoch_start(trainer, pl_module)
        self.listed.append(Chain.listed - before)


def test_a_further_phase_lists_the_module_no_more(tmp_path):
    phases = {at: {"params": [rf"layers\.{at}\."], "max_transition_epoch": at + 1} for at in range(PHASES)}
    scheduler = Counting(phases, epoch_transitions_only=True, restore_best=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=PHASES,
        limit_train_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[scheduler],
    )
    trainer.fit(Chain())
    assert scheduler.curr_depth == PHASES - 1
    assert len(trainer.optimizers[0].param_groups) == PHASES
    assert set(scheduler.listed) == {0}


@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, torch.optim.AdamW])
def test_a_group_is_added_as_torch_adds_it(optimizer_class):
    layers = [torch.nn.Linear(2, 2) for _ in range(3)]
    ours, theirs = (optimizer_class(layers[0].parameters(), lr=0.1, weight_decay=0.3) for _ in range(2))
    groups = ours.param_groups
    for layer in layers[1:]:
        named = dict(layer.named_parameters())
        add_phase_groups(ours, [], named, lr=0.2, held=())
        theirs.add_param_group({"params": list(named.values()), "lr": 0.2, "initial_lr": 0.2})
    assert ours.param_groups is groups
    assert [sorted(group) for group in groups] == [sorted(group) for group in theirs.param_groups]
    assert [[id(p) for p in group["params"]] for group in groups] == [
        [id(p) for p in group["params"]] for group in theirs.param_groups
    ]


@pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's list of what is mapped")
def test_only_the_weights_of_a_restored_checkpoint_stay_in_its_file(tmp_path):
    momentum, path = torch.ones(3), tmp_path / "a.ckpt"
    state = {"state": {0: {"first": momentum, "second": momentum}}}
    torch.save({"state_dict": {"w": torch.ones(3)}, "optimizer_states": [state]}, path)
    checkpoint = read_mapped(path, weights_only=True)
    kept = checkpoint["optimizer_states"][0]["state"][0]
    assert is_in_file(checkpoint["state_dict"]["w"], path)
    assert not is_in_file(kept["first"], path)
    assert kept["first"] is kept["second"]
    assert torch.equal(kept["first"], momentum)
