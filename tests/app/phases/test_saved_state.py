"""Where a run is still what its best checkpoint holds, a phase begins without reading it; otherwise it is restored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision

from phasewire.adapters import StrategyAdapter
from phasewire.app import CheckpointError, CheckpointTranslator, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.phases import saved_state
from phasewire.app.phases.checksums import checksum_of
from tuning import TunedModule, fit, make_trainer, state_of

SCHEDULE = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}


class Beginning(Callback):
    """Keeps what the second epoch, and with it phase 1, begins with, and the checkpoint that was restored."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.weights = state_of(pl_module)
            state = trainer.optimizers[0].state
            self.momentum = [state[p]["momentum_buffer"].clone() for p in pl_module.head.parameters()]
            self.options = {key: trainer.optimizers[0].param_groups[0][key] for key in ("lr", "momentum")}


class Reads:
    """Counts the files that torch reads."""

    def __init__(self, monkeypatch):
        self.count = 0
        load = torch.load

        def counted(*args, **kwargs):
            self.count += 1
            return load(*args, **kwargs)

        monkeypatch.setattr(torch, "load", counted)


class Changing(Callback):
    """Changes something when the second epoch begins, before the scheduler begins a phase."""

    def __init__(self, change):
        self.change = change

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.change(pl_module)


def run(tmp_path, module, *others, adapter=StrategyAdapter, plugins=(), **parts):
    beginning, checkpoint = Beginning(), FTSCheckpoint(tmp_path, monitor="val_loss", filename="{epoch}", save_top_k=-1)
    scheduler = FinetuningScheduler(SCHEDULE, custom_strategy_adapters={"auto": adapter}, **parts)
    stopping = FTSEarlyStopping("val_loss", patience=99)
    callbacks = (*others, scheduler, stopping, checkpoint, beginning)
    fit(make_trainer(tmp_path, *callbacks, max_epochs=2, plugins=list(plugins)), module)
    return beginning


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def is_as_saved(beginning, tmp_path):
    stored = torch.load(tmp_path / "epoch=0.ckpt", weights_only=False)
    momentum = [state["momentum_buffer"] for state in stored["optimizer_states"][0]["state"].values()]
    options = {key: stored["optimizer_states"][0]["param_groups"][0][key] for key in ("lr", "momentum")}
    return (
        same(beginning.weights, stored["state_dict"])
        and len(momentum) == len(beginning.momentum)
        and all(map(torch.equal, beginning.momentum, momentum))
        and beginning.options == options
    )


def test_nothing_is_read_when_the_last_epoch_is_the_best(tmp_path, monkeypatch):
    reads = Reads(monkeypatch)
    beginning = run(tmp_path, TunedModule([1.0]))
    assert reads.count == 0
    assert is_as_saved(beginning, tmp_path)


class LoadsInItsOwnWay(TunedModule):
    """Is given every checkpoint, so that it must be read."""

    def on_load_checkpoint(self, checkpoint):
        pass


@pytest.mark.parametrize(
    ("module", "saves"), [(TunedModule, 1), (LoadsInItsOwnWay, 0)], ids=["read only if it changed", "read anyway"]
)
def test_checksums_are_made_only_of_what_a_later_phase_may_begin_from(tmp_path, monkeypatch, module, saves):
    made = []
    monkeypatch.setattr(saved_state, "checksum_of", lambda tensor: made.append(tensor) or checksum_of(tensor))
    run(tmp_path, module([1.0, 0.5]))  # the second epoch is the best of the last phase
    weights = [tensor for tensor in made if tensor.shape == module([1.0]).head.weight.shape]
    assert len(weights) == saves * 2 * len(("weight", "its momentum")), "when it is saved, and when phase 1 begins"


def test_a_hook_is_given_the_checkpoint_and_what_it_changes_counts(tmp_path):
    given = []

    class Hooked(TunedModule):
        def on_load_checkpoint(self, checkpoint):
            given.append({**checkpoint, "state_dict": {k: v.clone() for k, v in checkpoint["state_dict"].items()}})
            checkpoint["state_dict"]["head.bias"] = torch.full((1,), 7.0)

    beginning = run(tmp_path, Hooked([1.0]))
    stored = torch.load(tmp_path / "epoch=0.ckpt", weights_only=False)
    (checkpoint,) = given
    assert checkpoint.keys() == stored.keys()
    assert checkpoint["epoch"] == 0
    assert same(checkpoint["state_dict"], stored["state_dict"])
    assert beginning.weights["head.bias"] == 7.0
    assert torch.equal(beginning.weights["head.weight"], stored["state_dict"]["head.weight"])


def test_a_hook_is_given_what_the_file_holds_and_not_what_the_module_does(tmp_path):
    class Hooked(TunedModule):
        def on_load_checkpoint(self, checkpoint):
            own = [value.data_ptr() for value in self.state_dict().values()]
            self.is_own = any(value.data_ptr() in own for value in checkpoint["state_dict"].values())

    module = Hooked([1.0])
    run(tmp_path, module)
    assert not module.is_own


class SeenInPart(torch.nn.BatchNorm1d):
    def _load_from_state_dict(self, state_dict, *args, **kwargs):
        super()._load_from_state_dict(state_dict, *args, **kwargs)
        self.seen = True


class SeenAsExtra(torch.nn.BatchNorm1d):
    def get_extra_state(self):
        return torch.ones(1)

    def set_extra_state(self, state):
        self.seen = True


class SavedInPart(torch.nn.BatchNorm1d):
    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        self.seen = True


def seen_before(layer, *_):
    layer.seen = True


@pytest.mark.parametrize("kind", [SeenInPart, SeenAsExtra, SavedInPart])
def test_a_part_of_the_module_that_loads_in_its_own_way_is_given_the_file(tmp_path, monkeypatch, kind):
    reads, module = Reads(monkeypatch), TunedModule([1.0])
    module.layers[2] = kind(4)
    run(tmp_path, module)
    assert reads.count == 1
    assert module.layers[2].seen


@pytest.mark.parametrize("register", ["register_load_state_dict_pre_hook", "register_load_state_dict_post_hook"])
def test_a_hook_of_a_part_of_the_module_is_called(tmp_path, register):
    module = TunedModule([1.0])
    getattr(module.layers[0], register)(seen_before)
    run(tmp_path, module)
    assert module.layers[0].seen


@pytest.mark.parametrize("register", ["register_load_state_dict_pre_hook", "register_load_state_dict_post_hook"])
def test_a_hook_of_the_optimizer_is_called(tmp_path, register):
    def optimizer(parameters):
        made = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        getattr(made, register)(seen_before)
        return made

    module = TunedModule([1.0], optimizer=optimizer)
    run(tmp_path, module)
    assert module.trainer.optimizers[0].seen


def test_an_optimizer_that_loads_in_its_own_way_is_given_the_file(tmp_path):
    class Seen(torch.optim.SGD):
        def load_state_dict(self, state_dict):
            super().load_state_dict(state_dict)
            self.seen = True

    module = TunedModule([1.0], optimizer=lambda parameters: Seen(parameters, lr=0.1, momentum=0.9))
    run(tmp_path, module)
    assert module.trainer.optimizers[0].seen


def test_a_translator_of_the_user_is_given_the_file(tmp_path, monkeypatch):
    reads = Reads(monkeypatch)

    class Translator(CheckpointTranslator):
        def translate(self, checkpoint, adapter, path, *, resuming):
            checkpoint["state_dict"]["head.bias"] = torch.full((1,), 7.0)
            return super().translate(checkpoint, adapter, path, resuming=resuming)

    beginning = run(tmp_path, TunedModule([1.0]), translator=Translator())
    assert reads.count == 1
    assert beginning.weights["head.bias"] == 7.0


def test_hooks_that_torch_itself_brings_along_read_nothing(tmp_path, monkeypatch):
    reads, module = Reads(monkeypatch), TunedModule([1.0])
    torch.nn.utils.parametrizations.weight_norm(module.layers[0])
    run(tmp_path, module)
    assert reads.count == 0


@pytest.mark.parametrize(
    "hook", ["before_restore_model", "load_model_state_dict", "on_before_restore_optimizers_and_lrs"]
)
def test_a_hook_of_an_adapter_is_called(tmp_path, hook):
    calls = []

    class Adapter(StrategyAdapter):
        pass

    def called(self, *args, **kwargs):
        calls.append(hook)
        return getattr(StrategyAdapter, hook)(self, *args, **kwargs)

    setattr(Adapter, hook, called)
    run(tmp_path, TunedModule([1.0]), adapter=Adapter)
    assert calls == [hook]


def change_a_weight(module):
    with torch.no_grad():
        module.layers[0].weight.add_(1.0)


def change_a_weight_behind_torch(module):
    module.head.weight.data.add_(1.0)


def change_one_of_many_weights_behind_torch(module):
    module.wide.weight.data[0, 1] += 1.0


def change_the_sign_of_two_of_many_weights_behind_torch(module):
    module.wide.weight.data[0, 1] *= -1.0
    module.wide.weight.data[0, 3] *= -1.0


def exchange_many_weights_behind_torch(module):
    module.wide.weight.data.copy_(module.wide.weight.data.flip(0, 1))


def put_in_another_weight(module):
    module.head.weight.data = module.head.weight.data + 1.0


def change_a_buffer(module):
    module.layers[2].running_mean.zero_().add_(5.0)


def change_the_momentum(module):
    optimizer = module.trainer.optimizers[0]
    optimizer.state[module.head.weight]["momentum_buffer"].add_(1.0)


def change_an_option(module):
    module.trainer.optimizers[0].param_groups[0]["momentum"] = 0.5


def write_another_file(module):
    path = Path(module.trainer.checkpoint_callback.best_model_path)
    stored = torch.load(path, weights_only=False)
    stored["state_dict"]["head.weight"] += 1.0
    torch.save(stored, path)


@pytest.mark.parametrize(
    "change",
    [
        change_a_weight,
        change_a_weight_behind_torch,
        change_one_of_many_weights_behind_torch,
        change_the_sign_of_two_of_many_weights_behind_torch,
        exchange_many_weights_behind_torch,
        put_in_another_weight,
        change_a_buffer,
        change_the_momentum,
        change_an_option,
        write_another_file,
    ],
)
def test_what_changes_after_the_checkpoint_was_saved_is_restored(tmp_path, change):
    module = TunedModule([1.0])
    module.wide = torch.nn.Linear(100, 100)
    assert is_as_saved(run(tmp_path, module, Changing(change)), tmp_path)


def test_weights_that_a_hook_puts_into_the_checkpoint_are_restored(tmp_path):
    class Averaging(TunedModule):
        def on_save_checkpoint(self, checkpoint):
            halved = {name: value / 2 for name, value in checkpoint["state_dict"].items() if name.startswith("head.")}
            checkpoint["state_dict"] = checkpoint["state_dict"] | halved

    assert is_as_saved(run(tmp_path, Averaging([1.0])), tmp_path)


def test_what_is_unknown_in_the_state_of_an_optimizer_is_read(tmp_path, monkeypatch):
    class Adding(TunedModule):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["optimizer_states"][0]["lookahead"] = 1

    reads = Reads(monkeypatch)
    run(tmp_path, Adding([1.0]))
    assert reads.count == 1


@pytest.mark.parametrize("changes", [True, False])
def test_the_scale_of_mixed_precision_is_restored_if_it_changed(tmp_path, monkeypatch, changes):
    reads, scaler = Reads(monkeypatch), torch.amp.GradScaler("cpu", init_scale=64.0)
    scales = []

    class Scale(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            scales.append(scaler.get_scale())

    def change(module):
        if changes:
            scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0})

    precision = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    run(tmp_path, TunedModule([1.0]), Changing(change), Scale(), plugins=[precision])
    assert scales == [64.0] * 4
    assert reads.count == (1 if changes else 0)


def test_a_best_checkpoint_that_was_replaced_by_its_weights_is_refused(tmp_path):
    def keep_the_weights(module):
        module.trainer.save_checkpoint(module.trainer.checkpoint_callback.best_model_path, weights_only=True)

    with pytest.raises(CheckpointError, match=r"epoch=0\.ckpt: .*holds no state of .*FinetuningScheduler"):
        run(tmp_path, TunedModule([1.0]), Changing(keep_the_weights))


def test_a_best_checkpoint_whose_optimizer_state_is_gone_is_refused(tmp_path):
    def lose_the_state(module):
        path = Path(module.trainer.checkpoint_callback.best_model_path)
        torch.save({**torch.load(path, weights_only=False), "optimizer_states": []}, path)

    with pytest.raises(CheckpointError, match=r"epoch=0\.ckpt: .* states of 0 optimizers, and the run has 1"):
        run(tmp_path, TunedModule([1.0]), Changing(lose_the_state))


def test_a_learning_rate_that_moved_on_since_stays(tmp_path, monkeypatch):
    reads = Reads(monkeypatch)
    module = TunedModule([1.0], scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    assert run(tmp_path, module).options["lr"] == 0.05
    assert reads.count == 0


def test_a_buffer_that_is_a_part_of_another_tensor_is_no_hindrance(tmp_path, monkeypatch):
    module = TunedModule([1.0])
    module.register_buffer("cosines", torch.polar(torch.ones(512, 32), torch.rand(512, 32)).real)
    reads = Reads(monkeypatch)
    beginning = run(tmp_path, module)
    assert reads.count == 0
    assert is_as_saved(beginning, tmp_path)
