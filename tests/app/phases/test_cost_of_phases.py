"""What a phase costs does not grow with the number of parameters or of phases: counted, not timed."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import RandomDataset

from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.phases.mapped_checkpoint import loading_into_memory, read_mapped
from phasewire.app.phases.module_parameters import HeldParameters
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


class LoggingChain(Chain):
    """Logs what a checkpoint and early stopping monitor."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss


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


class Profiled(Callback):
    """Notes the functions of the package that are called in the steps between the second and the sixth."""

    def __init__(self):
        self.calls = Counter()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            sys.setprofile(self.note)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 5:
            sys.setprofile(None)

    def note(self, frame, event, argument):
        if event == "call" and frame.f_globals["__name__"].startswith("phasewire."):
            self.calls[frame.f_code.co_name] += 1


def test_a_step_calls_two_hooks_of_ours_and_nothing_else(tmp_path):
    # Profiled is called first: it sees the hooks at the start of four steps, and at the end of three.
    profiled = Profiled()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[
            profiled,
            FinetuningScheduler({0: {"params": [r"layers\.0\."]}}),
            FTSEarlyStopping("loss"),
            FTSCheckpoint(tmp_path, monitor="loss"),
        ],
    )
    trainer.fit(LoggingChain(), torch.utils.data.DataLoader(RandomDataset(2, 8)))
    assert profiled.calls == {"on_train_batch_start": 4, "on_train_batch_end": 3}


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


def test_a_group_that_torch_refuses_leaves_the_groups_as_they_are():
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    groups, first = optimizer.param_groups, dict(optimizer.param_groups[0])
    with pytest.raises(ValueError, match="non-leaf"):
        add_phase_groups(optimizer, [], {"result": layer.weight * 2}, lr=0.2, held=())
    assert optimizer.param_groups is groups
    assert groups == [first]


def test_an_optimizer_that_keeps_its_groups_elsewhere_adds_them_itself():
    class Wrapped(torch.optim.SGD):
        """Keeps its groups in another optimizer, as wrappers do."""

        inner = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)

        @property
        def param_groups(self):
            return self.inner.param_groups

        @param_groups.setter
        def param_groups(self, groups):
            pass

    optimizer = Wrapped([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    before, layer = len(optimizer.param_groups), torch.nn.Linear(2, 2)
    add_phase_groups(optimizer, [], dict(layer.named_parameters()), lr=0.2, held=())
    assert len(optimizer.param_groups) == before + 1
    assert optimizer.inner.param_groups[-1]["params"][0] is layer.weight


def held_after(change):
    """The names that are known to be held after two phases and a change of the groups."""
    layers = {str(at): torch.nn.Parameter(torch.ones(1)) for at in range(6)}
    optimizer = torch.optim.SGD([{"params": [layers["0"]]}, {"params": [layers["1"]]}], lr=0.1)
    held = HeldParameters()
    for name in ("2", "3"):
        add_phase_groups(optimizer, [], {name: layers[name]}, lr=0.1, held=held.ids(optimizer))
        held.note_added(optimizer)
    change(optimizer, layers)
    return {name for name, parameter in layers.items() if id(parameter) in held.ids(optimizer)}


def append_to_a_group(optimizer, layers):
    optimizer.param_groups[1]["params"].append(layers["5"])


def exchange_in_a_group(optimizer, layers):
    optimizer.param_groups[1]["params"][0] = layers["5"]


def add_a_group(optimizer, layers):
    optimizer.add_param_group({"params": [layers["5"]]})


def remove_a_group(optimizer, layers):
    del optimizer.param_groups[1]


def exchange_a_group(optimizer, layers):
    remove_a_group(optimizer, layers)
    add_a_group(optimizer, layers)


def load_state(optimizer, layers):
    optimizer.load_state_dict(optimizer.state_dict())
    append_to_a_group(optimizer, layers)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (append_to_a_group, "01235"),
        (exchange_in_a_group, "0235"),
        (add_a_group, "01235"),
        (remove_a_group, "023"),
        (exchange_a_group, "0235"),
        (load_state, "01235"),
    ],
)
def test_what_others_do_to_the_groups_is_noticed(change, expected):
    assert held_after(change) == set(expected)


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of one parameter, its momentum twice, and another tensor."""
    momentum = torch.ones(3)
    state = {
        "state": {0: {"momentum_buffer": momentum, "other": momentum}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    torch.save({"state_dict": {"w": torch.ones(3)}, "optimizer_states": [state], "mine": momentum}, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's list of what is mapped")
def test_weights_and_optimizer_states_stay_in_the_file_and_nothing_else(saved):
    checkpoint = read_mapped(saved, weights_only=True)
    assert is_in_file(checkpoint["state_dict"]["w"], saved)
    assert is_in_file(checkpoint["optimizer_states"][0]["state"][0]["other"], saved)
    assert not is_in_file(checkpoint["mine"], saved)
    assert torch.equal(checkpoint["mine"], torch.ones(3))


def test_a_change_of_what_was_read_does_not_change_the_file(saved):
    read_mapped(saved, weights_only=True)["state_dict"]["w"].zero_()
    assert torch.equal(torch.load(saved)["state_dict"]["w"], torch.ones(3))


@pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's list of what is mapped")
def test_an_optimizer_has_its_state_in_memory_when_it_is_loaded(saved):
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    checkpoint = read_mapped(saved, weights_only=True)

    def load(given):
        optimizer.load_state_dict(given["optimizer_states"][0])

    loading_into_memory([optimizer], load, checkpoint)
    state = optimizer.state[parameter]
    assert not is_in_file(state["momentum_buffer"], saved)
    assert state["momentum_buffer"].untyped_storage().data_ptr() == state["other"].untyped_storage().data_ptr()
    assert torch.equal(state["momentum_buffer"], torch.ones(3))


def test_a_state_is_copied_into_the_tensors_that_it_replaces(tmp_path):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())

    def step():
        optimizer.zero_grad()
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    step()
    torch.save({"optimizer_states": [optimizer.state_dict()]}, tmp_path / "a.ckpt")
    expected = torch.load(tmp_path / "a.ckpt")["optimizer_states"][0]["state"]
    step()
    tensors = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    checkpoint = read_mapped(tmp_path / "a.ckpt", weights_only=True)
    loading_into_memory([optimizer], lambda given: optimizer.load_state_dict(given["optimizer_states"][0]), checkpoint)
    now = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert [id(tensor) for tensor in now] == [id(tensor) for tensor in tensors]
    assert all(torch.equal(now[2 * at], expected[at]["exp_avg"]) for at in expected)
    assert all(state["step"] == 1 for state in optimizer.state.values())
