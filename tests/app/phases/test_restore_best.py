"""Going back to the best checkpoint when a phase ends."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torchmetrics import CatMetric, MeanMetric

from phasewire.app import CheckpointError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.checkpoint import SCHEDULER_STATE_KEY
from phasewire.app.nested_tensors import tensors_in
from tuning import Notes, TunedModule, fit, make_trainer, names_of_groups, state_of

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"], "max_transition_epoch": 4},
    2: {"params": ["layers.0.*"]},
}


class FirstStates(Notes):
    """Keeps the weights and the momentum that each epoch began with."""

    def __init__(self):
        super().__init__()
        self.weights, self.momentum = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if batch_idx == 0:
            self.weights.append(state_of(pl_module))
            names = {id(p): name for name, p in pl_module.named_parameters()}
            state = trainer.optimizers[0].state
            self.momentum.append({names[id(p)]: s["momentum_buffer"].clone() for p, s in state.items()})


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def run(tmp_path, losses, *, restore_best=True, epochs=6, module=None):
    notes, checkpoint = FirstStates(), FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}")
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE, restore_best=restore_best),
        FTSEarlyStopping("val_loss", patience=99),
        checkpoint,
        notes,
        max_epochs=epochs,
    )
    fit(trainer, module or TunedModule(losses))
    return notes, checkpoint, trainer


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class Configured(TunedModule):
    """A module whose configuration is nested in it, and stored as a hyperparameter."""

    @dataclass
    class Config:
        rate: float = 0.5

    def __init__(self, losses, config):
        super().__init__(losses)
        self.save_hyperparameters("config")


def test_a_nested_class_among_the_hyperparameters_is_read_back(tmp_path):
    notes, _, _ = run(tmp_path, None, epochs=3, module=Configured([1.0, 2.0, 3.0], Configured.Config()))

    assert same(notes.weights[2], notes.weights[1])


def test_a_phase_begins_with_the_weights_and_the_momentum_of_the_best_epoch(tmp_path):
    # Epoch 0 is the best of phase 0: phase 1 begins, in epoch 2, with what epoch 1 began with.
    notes, _, _ = run(tmp_path, [1.0, 2.0, 3.0], epochs=3)

    assert same(notes.weights[2], notes.weights[1])
    assert same(notes.momentum[2], notes.momentum[1])


def test_without_restoring_a_phase_goes_on_from_the_last_weights(tmp_path):
    restored, _, _ = run(tmp_path / "a", [1.0, 2.0, 3.0], epochs=3)
    torch.manual_seed(0)
    went_on, _, _ = run(tmp_path / "b", [1.0, 2.0, 3.0], epochs=3, restore_best=False)

    assert same(went_on.weights[1], restored.weights[1])
    assert not same(went_on.weights[2], restored.weights[2])


def test_the_best_of_an_earlier_phase_keeps_the_groups_of_every_phase(tmp_path):
    # The best epoch lies in phase 0; phase 1 finds none better.
    notes, checkpoint, trainer = run(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0], epochs=5)

    assert same(notes.weights[4], notes.weights[1])
    assert notes.epochs[4].groups == (
        ("head.weight", "head.bias"),
        ("layers.1.weight", "layers.1.bias"),
        ("layers.0.weight", "layers.0.bias"),
    )
    # The parameters of phase 1 start anew; their momentum belongs to weights that are gone.
    assert set(notes.momentum[4]) == {"head.weight", "head.bias"}
    assert checkpoint.best_ckpt_depth == 0
    assert len(names_of_groups(trainer.optimizers[0], trainer.lightning_module)) == 3


def test_learning_rates_go_on_from_the_newest_epoch(tmp_path):
    module = TunedModule(
        [1.0, 2.0, 3.0, 4.0, 5.0], scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    )

    notes, _, trainer = run(tmp_path, [], epochs=5, module=module)

    assert [epoch.lrs[0] for epoch in notes.epochs] == pytest.approx([0.1 * 0.5**epoch for epoch in range(5)])
    assert len(trainer.lr_scheduler_configs[0].scheduler.base_lrs) == 3


def test_the_depth_of_the_best_checkpoint_is_recorded_in_it(tmp_path):
    _, checkpoint, _ = run(tmp_path, [3.0, 3.0, 1.0, 2.0, 2.0], epochs=5)

    saved = torch.load(checkpoint.best_model_path, weights_only=True)
    assert saved["callbacks"][SCHEDULER_STATE_KEY]["depth"] == 1
    assert checkpoint.best_ckpt_depth == 1
    assert checkpoint.current_ckpt_depth == 1


def test_a_phase_too_short_for_a_checkpoint_goes_on_with_a_warning(tmp_path):
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE),
        FTSEarlyStopping("val_loss", patience=99),
        FTSCheckpoint(tmp_path, monitor="val_loss", every_n_epochs=3),
        max_epochs=3,
    )

    with pytest.warns(UserWarning, match="no best checkpoint was saved yet"):
        fit(trainer, TunedModule([1.0]))


def test_a_best_checkpoint_that_is_gone_is_named(tmp_path):
    class Tidy(FTSCheckpoint):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            Path(self.best_model_path).unlink()

    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE),
        FTSEarlyStopping("val_loss", patience=99),
        Tidy(tmp_path, monitor="val_loss", filename="gone", save_top_k=-1),
    )

    with pytest.raises(CheckpointError, match=r"gone.*\.ckpt: The checkpoint cannot be read \(FileNotFoundError"):
        fit(trainer, TunedModule([1.0]))


def test_a_best_checkpoint_of_something_else_is_refused(tmp_path):
    class Foreign(FTSCheckpoint):
        def on_train_epoch_end(self, trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)
            torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.6"}, tmp_path / "foreign.ckpt")
            self.best_model_path = str(tmp_path / "foreign.ckpt")

    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE),
        FTSEarlyStopping("val_loss", patience=99),
        Foreign(tmp_path, monitor="val_loss"),
    )

    with pytest.raises(CheckpointError, match=r"foreign\.ckpt: The checkpoint holds no state"):
        fit(trainer, TunedModule([1.0]))


class SparselyTrained(TunedModule):
    """Its head has an embedding whose gradients are sparse, and so is their momentum."""

    def __init__(self, val_losses):
        super().__init__(val_losses)
        self.head = torch.nn.ModuleDict({"words": torch.nn.Embedding(10, 4, sparse=True), "last": self.head})

    def forward(self, x):
        return self.head["last"](self.layers(x) + self.head["words"](torch.tensor([1, 2, 1, 2])))


def test_the_momentum_of_sparse_gradients_goes_back_too(tmp_path):
    found = []

    class AtTheBeginning(Notes):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 2 and batch_idx == 0:
                state = trainer.optimizers[0].state[pl_module.head["words"].weight]
                found.append(state["momentum_buffer"].clone())

    checkpoint = FTSCheckpoint(tmp_path, monitor="val_loss", filename="{epoch}")
    scheduler = FinetuningScheduler(SCHEDULE)
    callbacks = (scheduler, FTSEarlyStopping("val_loss", patience=99), checkpoint, AtTheBeginning())
    fit(make_trainer(tmp_path, *callbacks, max_epochs=3), SparselyTrained([1.0, 2.0]))
    stored = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    momentum = [state["momentum_buffer"] for state in stored["optimizer_states"][0]["state"].values()]
    assert any(each.is_sparse and torch.equal(each.to_dense(), found[0].to_dense()) for each in momentum)


class Assigning(TunedModule):
    """Takes the tensors of a checkpoint as they are."""

    def load_state_dict(self, state_dict, strict=True, assign=False):
        return super().load_state_dict(state_dict, strict=strict, assign=True)


class Averaging(TunedModule):
    """Keeps a metric, which takes its states as they are."""

    def __init__(self, val_losses):
        super().__init__(val_losses)
        self.mean, self.values = MeanMetric(), CatMetric()
        self.mean.persistent(True)
        self.values.persistent(True)

    def training_step(self, batch, batch_idx):
        self.mean.update(1.0)
        self.values.update(2.0)
        return super().training_step(batch, batch_idx)


def test_what_a_plug_in_has_read_into_memory_is_not_copied_again(tmp_path):
    read, kept = [], []

    class Reads(TorchCheckpointIO):
        def load_checkpoint(self, *arguments, **options):
            read.append(super().load_checkpoint(*arguments, **options))
            return read[-1]

    class Looks(Notes):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 2 and batch_idx == 0:
                kept.extend(each.data_ptr() for each in pl_module.parameters())

    callbacks = (
        FinetuningScheduler(SCHEDULE),
        FTSEarlyStopping("val_loss", patience=99),
        FTSCheckpoint(tmp_path, monitor="val_loss"),
    )
    fit(make_trainer(tmp_path, *callbacks, Looks(), max_epochs=3, plugins=[Reads()]), Assigning([1.0, 2.0]))
    assert kept
    assert set(kept) <= {each.data_ptr() for each in tensors_in(read[-1]["state_dict"])}


@pytest.mark.parametrize("module", [Assigning, Averaging])
def test_what_is_written_over_the_best_checkpoint_later_changes_no_weights(module, tmp_path):
    found = []

    class WritesOver(Notes):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 2 and batch_idx == 0:
                path = tmp_path / "epoch=0.ckpt"
                stored = torch.load(path, weights_only=True)["state_dict"]
                with path.open("r+b") as file:
                    file.write(bytes(path.stat().st_size))
                found.append((list(tensors_in(stored)), [each.clone() for each in tensors_in(pl_module.state_dict())]))

    checkpoint = FTSCheckpoint(tmp_path, monitor="val_loss", filename="{epoch}")
    callbacks = (FinetuningScheduler(SCHEDULE), FTSEarlyStopping("val_loss", patience=99), checkpoint, WritesOver())
    fit(make_trainer(tmp_path, *callbacks, max_epochs=3), module([1.0, 2.0]))
    ((stored, weights),) = found
    assert len(stored) == len(weights)
    assert all(map(torch.equal, stored, weights))
