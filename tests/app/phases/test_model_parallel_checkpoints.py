"""Checkpoints of sharded modules: whole files and folders of shards, in one process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateFinder
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader

from fault_injections import flip_bit, flip_bit_of_shard
from parallel_run import DEPTHS, LAYERS, ParallelModule, model_parallel, shard_layers, split_layers, train, whole_state
from phasewire.adapters import CheckpointError, ModelParallelStrategyAdapter
from phasewire.app import FinetuningScheduler
from seam_recorder import leaving_no_process_group
from tuning import Batches, make_trainer

CFG = {"fsdp_plan": LAYERS}
WRAPPED = {"fsdp_plan": {r"layers\.[01]": {"act_ckpt": "wrapped"}}}
OTHER_CALLBACKS = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
KINDS = pytest.mark.parametrize("shards", [False, True], ids=["file", "shards"])


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A training that saved whole files, and one that saved shards."""
    folder = tmp_path_factory.mktemp("runs")
    with leaving_no_process_group():
        return {shards: train(folder / str(shards), model_parallel(shards=shards), cfg=CFG) for shards in (False, True)}


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def validated(folder, strategy, module, ckpt_path, callbacks=()) -> float:
    trainer = make_trainer(folder, *callbacks, strategy=strategy)
    (metrics,) = trainer.validate(module, dataloaders=Batches(1), ckpt_path=ckpt_path, verbose=False)
    return metrics["val_loss"]


@pytest.mark.parametrize(
    "flip",
    [
        lambda folder: flip_bit_of_shard(folder, "state_dict.head.weight"),
        lambda folder: flip_bit_of_shard(folder, "optimizer_0.state.head.weight.exp_avg"),
        lambda folder: flip_bit(folder / "meta.pt", "data.pkl"),
    ],
    ids=["weight", "optimizer", "meta.pt"],
)
def test_a_folder_with_a_flipped_bit_is_refused(runs, tmp_path, flip) -> None:
    folder = tmp_path / "flipped.ckpt"
    shutil.copytree(runs[True].checkpoint(3), folder)
    flip(folder)
    with pytest.raises(CheckpointError, match=r"flipped\.ckpt.* damaged: .*checksum"):
        train(tmp_path / "run", model_parallel(shards=True), cfg=CFG, ckpt_path=folder)


# -- resuming ----------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("epoch", range(5))
def test_a_run_is_resumed_to_the_bit_from_every_epoch(runs, tmp_path, shards, epoch: int) -> None:
    run = runs[shards]
    resumed = train(tmp_path, model_parallel(shards=shards), cfg=CFG, ckpt_path=run.checkpoint(epoch))

    assert resumed.notes.depths == DEPTHS[epoch + 1 :]
    assert [note.groups for note in resumed.notes.epochs] == [note.groups for note in run.notes.epochs[epoch + 1 :]]
    assert same(resumed.state, run.state)


class NotesPhases(ModelParallelStrategyAdapter):
    def __init__(self) -> None:
        super().__init__(fsdp_plan=LAYERS)
        self.thawed = []

    def on_phase_thawed(self, depth):
        self.thawed.append(depth)


@KINDS
def test_a_resumed_run_tells_the_adapter_of_its_phase_once(runs, tmp_path, shards) -> None:
    settings = {"custom_strategy_adapters": {"auto": NotesPhases}}
    resumed = train(tmp_path, model_parallel(shards=shards), settings=settings, ckpt_path=runs[shards].checkpoint(2))

    assert resumed.scheduler.strategy_adapter.thawed == [1, 2]


@KINDS
def test_a_run_is_resumed_with_other_parts_sharded_and_wrapped(runs, tmp_path, shards) -> None:
    run = runs[shards]
    resumed = train(tmp_path, model_parallel(shards=shards), cfg=WRAPPED, ckpt_path=run.checkpoint(3))

    assert resumed.notes.depths == DEPTHS[4:]
    torch.testing.assert_close(resumed.state, run.state)


@KINDS
def test_a_run_saves_shards_and_is_resumed_from_a_file_or_the_other_way_round(runs, tmp_path, shards) -> None:
    run = runs[shards]
    resumed = train(tmp_path, model_parallel(shards=not shards), cfg=CFG, ckpt_path=run.checkpoint(4))

    assert same(resumed.state, run.state)


def test_a_file_of_a_sharded_run_is_resumed_on_one_device_and_the_other_way_round(runs, tmp_path) -> None:
    run = runs[False]
    resumed = train(tmp_path / "one", ckpt_path=run.checkpoint(4))
    assert same(resumed.state, run.state)

    alone = train(tmp_path / "alone")
    resumed = train(tmp_path / "sharded", model_parallel(), cfg=CFG, ckpt_path=alone.checkpoint(3))
    torch.testing.assert_close(resumed.state, alone.state)


@KINDS
def test_a_run_with_an_optimizer_that_keeps_nothing_is_resumed(tmp_path, shards) -> None:
    def build() -> ParallelModule:
        return ParallelModule(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))

    run = train(tmp_path / "run", model_parallel(shards=shards), build(), cfg=CFG)
    resumed = train(tmp_path / "resumed", model_parallel(shards=shards), build(), cfg=CFG, ckpt_path=run.checkpoint(2))

    assert same(resumed.state, run.state)


@KINDS
def test_a_learning_rate_that_is_a_tensor_is_resumed(tmp_path, shards) -> None:
    def build() -> ParallelModule:
        return ParallelModule(optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=torch.tensor(0.1)))

    run = train(tmp_path / "run", model_parallel(shards=shards), build(), cfg=CFG)
    resumed = train(tmp_path / "resumed", model_parallel(shards=shards), build(), cfg=CFG, ckpt_path=run.checkpoint(2))

    assert same(resumed.state, run.state)


@KINDS
def test_an_optimizer_that_has_not_stepped_is_saved_without_a_state(tmp_path, shards) -> None:
    class SavesAtOnce(Callback):
        def on_train_start(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "at once.ckpt", weights_only=False)
            self.state = dict(trainer.optimizers[0].state)

    callback = SavesAtOnce()
    run = train(tmp_path / "run", model_parallel(shards=shards), cfg=CFG, callbacks=(callback,))
    assert callback.state == {}

    resumed = train(tmp_path / "resumed", model_parallel(shards=shards), cfg=CFG, ckpt_path=tmp_path / "at once.ckpt")
    assert resumed.notes.depths == DEPTHS
    assert same(resumed.state, run.state)


@KINDS
def test_what_a_validation_left_whole_is_saved_as_it_is_trained(tmp_path, shards) -> None:
    class Asks(Callback):
        def on_validation_end(self, trainer, pl_module):
            self.state = trainer.strategy.optimizer_state(trainer.optimizers[0])

    callback = Asks()
    run = train(tmp_path, model_parallel(shards=shards), cfg=CFG, max_epochs=1, callbacks=(callback,))

    saved = run.checkpoint(0)
    numbers = [4, 5]  # of the head, in the module
    keys = ["head.weight", "head.bias"] if shards else numbers
    assert list(callback.state["state"]) == callback.state["param_groups"][0]["params"] == keys
    assert saved.is_dir() or torch.load(saved, weights_only=True)["optimizer_states"][0]["state"].keys() == set(keys)


def test_a_file_may_be_replaced_once_it_is_read(runs, tmp_path) -> None:
    path = tmp_path / "replaced.ckpt"
    shutil.copy(runs[False].checkpoint(4), path)

    class Replaces(Callback):
        def on_train_start(self, trainer, pl_module):
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))

    # The head is plain, and the bias of a layer is a replica: neither is cut out of what was read.
    module = ParallelModule(split_layers)
    resumed = train(tmp_path, model_parallel(), module, ckpt_path=path, callbacks=(Replaces(),))

    torch.testing.assert_close(resumed.state, runs[False].state)


class WithRate(ParallelModule):
    """Has the attribute that a learning rate finder sets."""

    def __init__(self) -> None:
        super().__init__(optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=self.lr))
        self.lr = 0.1


@KINDS
def test_a_learning_rate_finder_leaves_nothing_behind_but_a_rate(tmp_path, shards) -> None:
    finder = LearningRateFinder(num_training_steps=4, update_attr=False)
    run = train(tmp_path / "found", model_parallel(shards=shards), WithRate(), cfg=CFG, callbacks=(finder,))
    expected = train(tmp_path / "without", model_parallel(shards=shards), WithRate(), cfg=CFG)

    assert len(finder.optimal_lr.results["lr"]) > 1
    assert same(run.state, expected.state)


class CountsRows(torch.optim.SGD):
    """Keeps a number for every row of a parameter."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["rows"] = torch.ones(parameter.shape[0] + 1)
        return loss


@KINDS
def test_a_state_of_another_shape_than_its_parameter_is_not_restored_silently(tmp_path, shards) -> None:
    def build() -> ParallelModule:
        return ParallelModule(optimizer=lambda parameters: CountsRows(parameters, lr=0.1))

    options = {"schedule": {0: {"params": [".*"]}}, "cfg": CFG}
    run = train(tmp_path / "run", model_parallel(shards=shards), build(), max_epochs=1, **options)

    with pytest.raises(CheckpointError, match=r"rows.* has the shape \(5,\) in the checkpoint, and \(4, 4\) is wanted"):
        train(tmp_path, model_parallel(shards=shards), build(), ckpt_path=run.checkpoint(0), **options)


# -- reading elsewhere -------------------------------------------------------------------------------------------------


@KINDS
@OTHER_CALLBACKS
def test_a_checkpoint_is_read_at_every_stage(runs, tmp_path, shards) -> None:
    run = runs[shards]
    reference = ParallelModule(val_losses=())
    reference.load_state_dict(run.state)
    expected = validated(tmp_path, "auto", reference, None)

    module = ParallelModule(val_losses=())
    scheduler = FinetuningScheduler(strategy_adapter_cfg=CFG)
    loss = validated(tmp_path, model_parallel(shards=shards), module, run.checkpoint(5), [scheduler])

    assert loss == pytest.approx(expected)
    assert same(whole_state(module), run.state)


@KINDS
@OTHER_CALLBACKS
def test_a_trainer_without_the_callback_reads_the_checkpoint(runs, tmp_path, shards) -> None:
    run = runs[shards]
    module = ParallelModule(shard_layers, val_losses=())
    trainer = make_trainer(tmp_path, strategy=model_parallel(shards=shards))
    trainer.validate(module, dataloaders=Batches(1), ckpt_path=run.checkpoint(5), verbose=False)

    assert same(whole_state(module), run.state)


def test_a_file_has_the_names_of_a_module_that_is_not_sharded(runs, tmp_path) -> None:
    loaded = ParallelModule.load_from_checkpoint(runs[False].checkpoint(5), map_location="cpu")

    assert same(loaded.state_dict(), runs[False].state)


# -- what does not fit -------------------------------------------------------------------------------------------------


class Longer(ParallelModule):
    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.heads = nn.Linear(1, 1)


class Shorter(ParallelModule):
    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.head = nn.Identity()


class Wider(ParallelModule):
    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.head = nn.Linear(4, 2)


MISFITS = {
    "lacks": (Longer, True, "it lacks 'heads.bias'"),
    "lacks, file": (Longer, False, r"Missing key\(s\) in state_dict: .*heads.weight"),
    "holds": (Shorter, True, "it holds 'head.bias'"),
    "holds, file": (Shorter, False, r"Unexpected key\(s\) in state_dict: .*head.weight"),
    "shape": (Wider, True, r"head.weight has the shape \(1, 4\) in the checkpoint, and \(2, 4\) is wanted"),
    "shape, file": (Wider, False, r"head.weight has the shape \(1, 4\) in the checkpoint, and \(2, 4\) is wanted"),
}


@pytest.mark.parametrize(("build", "shards", "message"), MISFITS.values(), ids=MISFITS)
def test_a_checkpoint_of_another_module_is_refused(runs, tmp_path, build, shards, message) -> None:
    scheduler = FinetuningScheduler(strategy_adapter_cfg=CFG)
    with pytest.raises(CheckpointError, match=message):
        validated(
            tmp_path, model_parallel(shards=shards), build(val_losses=()), runs[shards].checkpoint(5), [scheduler]
        )


@KINDS
@OTHER_CALLBACKS
def test_without_strict_loading_what_fits_is_loaded(runs, tmp_path, shards) -> None:
    module = Longer(val_losses=())
    module.strict_loading = False
    untouched = module.heads.weight.detach().clone()
    scheduler = FinetuningScheduler(strategy_adapter_cfg=CFG)
    validated(tmp_path, model_parallel(shards=shards), module, runs[shards].checkpoint(5), [scheduler])

    state = whole_state(module)
    assert torch.equal(state.pop("heads.weight"), untouched)
    state.pop("heads.bias")
    assert same(state, runs[shards].state)


@KINDS
def test_a_checkpoint_that_is_not_whole_is_refused(runs, tmp_path, shards) -> None:
    path = tmp_path / "torn.ckpt"
    if shards:
        path.mkdir()
    else:
        path.write_bytes(runs[False].checkpoint(5).read_bytes()[:100])
    scheduler = FinetuningScheduler(strategy_adapter_cfg=CFG)
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        validated(tmp_path, model_parallel(shards=shards), ParallelModule(), path, [scheduler])
    assert str(path) in str(error.value)


def test_a_folder_that_lacks_a_file_of_shards_is_refused(runs, tmp_path) -> None:
    torn = tmp_path / "torn.ckpt"
    shutil.copytree(runs[True].checkpoint(5), torn)
    for path in torn.glob("*.distcp"):
        path.unlink()
    scheduler = FinetuningScheduler(strategy_adapter_cfg=CFG)
    with pytest.raises(CheckpointError, match=r"The shards cannot be read \(rank 0: .*distcp") as error:
        validated(tmp_path, model_parallel(shards=True), ParallelModule(), torn, [scheduler])
    assert str(torn) in str(error.value)


@KINDS
def test_weights_alone_are_no_checkpoint_to_resume_from(tmp_path, shards) -> None:
    class SavesWeights(Callback):
        def on_train_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)

    train(tmp_path, model_parallel(shards=shards), cfg=CFG, max_epochs=1, callbacks=(SavesWeights(),))
    with pytest.raises(CheckpointError, match="save_weights_only=True"):
        train(tmp_path / "again", model_parallel(shards=shards), cfg=CFG, ckpt_path=tmp_path / "weights.ckpt")


# -- an adapter with names of its own ----------------------------------------------------------------------------------


class Shouts(ModelParallelStrategyAdapter):
    """Stores parameters in capitals."""

    checkpoint_names = "capitals"

    def lightning_module_state_dict(self):
        return {name.upper(): value for name, value in super().lightning_module_state_dict().items()}

    def before_restore_model(self, checkpoint):
        state = {name.lower(): value for name, value in checkpoint["state_dict"].items()}
        return {**checkpoint, "state_dict": state}


def names_in(path) -> list[str]:
    if path.is_dir():
        flat = FileSystemReader(path).read_metadata().planner_data.values()
        return sorted(place[1] for place in flat if place[0] == "state_dict")
    return sorted(torch.load(path, weights_only=True)["state_dict"])


@KINDS
def test_an_adapter_names_what_a_file_holds_and_shards_keep_the_names_of_the_module(runs, tmp_path, shards) -> None:
    settings = {"custom_strategy_adapters": {"auto": Shouts}}
    run = train(tmp_path / "run", model_parallel(shards=shards), cfg=CFG, settings=settings)
    resumed = train(
        tmp_path / "resumed",
        model_parallel(shards=shards),
        cfg=CFG,
        settings=settings,
        ckpt_path=run.checkpoint(3),
    )
    # After the fit Lightning saves without asking the strategy's shadows.
    run.trainer.save_checkpoint(tmp_path / "after.ckpt")

    names = sorted(run.state)
    expected = names if shards else [name.upper() for name in names]
    for path in (run.checkpoint(3), tmp_path / "after.ckpt"):
        meta = torch.load(path / "meta.pt" if shards else path, weights_only=True)
        assert names_in(path) == sorted(expected)
        assert meta["phasewire"]["parameter_names"] == ("module" if shards else "capitals")
    assert same(resumed.state, run.state)
    assert same(run.state, runs[shards].state)
