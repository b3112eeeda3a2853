"""A checkpoint that asks for code to be run is refused on every path on which one is read, and none of it runs."""

from __future__ import annotations

import argparse
import io
import pickle
import shutil
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch.callbacks import Callback
from torch import nn

import fsdp_parts
import parallel_run
from canaries import Canary
from fsdp_on_cpu import EXPECTED_WARNINGS, fsdp_on_cpu
from phasewire.adapters import CheckpointError
from phasewire.app import FinetuningScheduler, FTSCheckpoint
from phasewire.app.convert import convert
from seam_recorder import leaving_no_process_group
from tuning import Batches, TunedModule, fit, make_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute 'loss' is an instance of `nn.Module`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
    *map(pytest.mark.filterwarnings, EXPECTED_WARNINGS),
]

SCHEDULE = {0: {"params": ["head.*"], "max_transition_epoch": 2}, 1: {"params": ["layers.1.*"]}}
#: The first epoch is the best one, so that a transition goes back to its file.
LOSSES = (1.0, 2.0)


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


class WithObjects(TunedModule):
    """Keeps objects among its hyperparameters, as many modules do."""

    def __init__(self) -> None:
        super().__init__(LOSSES)
        options = argparse.Namespace(data=Path("data"), names={"a", "b"})
        self.save_hyperparameters({"loss": nn.Linear(2, 1), "options": options})


class PutsACanary(Callback):
    """Replaces the best checkpoint before it is gone back to."""

    def __init__(self, canary: Canary) -> None:
        self.canary = canary

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 1:
            poison(Path(trainer.checkpoint_callback.best_model_path), self.canary)


def poison(path: Path, canary: Canary) -> None:
    torch.save({**torch.load(path, weights_only=False), "somebody's": canary}, path)


def trained(folder: Path, module, *callbacks, epochs: int = 3, **options):
    scheduler = FinetuningScheduler(ft_schedule=SCHEDULE, allow_untested=True, **options.pop("settings", {}))
    checkpoint = FTSCheckpoint(dirpath=folder, monitor="val_loss", save_last=True)
    trainer = make_trainer(folder, *callbacks, scheduler, checkpoint, max_epochs=epochs, **options)
    fit(trainer, module)
    return trainer


@pytest.fixture
def canary(tmp_path) -> Iterator[Canary]:
    """Checks, when the test is over, that nobody has run it, and that running it would have been seen."""
    canary = Canary(tmp_path / "the code of the checkpoint has run")
    yield canary
    assert not canary.file.exists()
    pickle.loads(pickle.dumps(canary))  # noqa: S301  # a canary that cannot sing proves nothing
    assert canary.file.exists()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    trained(folder, TunedModule(), epochs=2)
    return folder / "last.ckpt"


@pytest.fixture
def poisoned(saved, tmp_path, canary) -> Path:
    poison(path := shutil.copy(saved, tmp_path / "poisoned.ckpt"), canary)
    return path


def test_a_file_that_was_replaced_between_phases_is_refused(tmp_path, canary) -> None:
    with pytest.raises(CheckpointError, match="more than tensors and plain values") as caught:
        trained(tmp_path / "run", TunedModule(LOSSES), PutsACanary(canary))
    assert "epoch=" in caught.value.where
    assert "add_safe_globals" in caught.value.remedy


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_a_file_given_to_the_trainer_is_refused(stage, poisoned, tmp_path) -> None:
    callbacks = FinetuningScheduler(ft_schedule=SCHEDULE), FTSCheckpoint(tmp_path / "new", monitor="val_loss")
    trainer = make_trainer(tmp_path, *callbacks, max_epochs=3)
    options = {"val_dataloaders": Batches()} if stage == "fit" else {}
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        getattr(trainer, stage)(TunedModule(), Batches(), ckpt_path=poisoned, **options)


def test_a_file_to_convert_is_refused(poisoned, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        convert(poisoned, tmp_path / "converted.ckpt", "canonical")
    assert not (tmp_path / "converted.ckpt").exists()


def test_a_run_goes_back_to_its_own_files_whatever_its_module_keeps_in_them(tmp_path) -> None:
    module = WithObjects()
    trainer = trained(tmp_path, module)
    best = trainer.checkpoint_callback.best_model_path
    with pytest.raises(pickle.UnpicklingError):
        torch.load(best, weights_only=True)
    assert next(c for c in trainer.callbacks if isinstance(c, FinetuningScheduler)).curr_depth == 1


def test_a_replaced_file_is_refused_in_a_run_that_keeps_objects_too(tmp_path, canary) -> None:
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        trained(tmp_path / "run", WithObjects(), PutsACanary(canary))


class Sizes(list):
    """A list of somebody's own."""


@pytest.mark.parametrize(
    ("kept", "named"),
    [(defaultdict(int, a=1), "defaultdict"), (AttributeDict(a=1), "AttributeDict"), (Sizes([1]), "Sizes")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_what_torch_never_reads_the_class_is_named_and_the_run_can_be_gone_on_from(kept, named, tmp_path) -> None:
    def module() -> TunedModule:
        made = TunedModule(LOSSES)
        made.save_hyperparameters({"options": kept})
        return made

    with (
        pytest.warns(UserWarning, match=rf"epoch=0.*{named}.*will fail for the same reason"),
        pytest.raises(CheckpointError, match=rf"no file that is not trusted: .*{named}.*Keep a plain dict"),
    ):
        trained(tmp_path, module())
    scheduler = FinetuningScheduler(ft_schedule=SCHEDULE)
    checkpoint = FTSCheckpoint(tmp_path, monitor="val_loss", save_last=True)
    resumed = make_trainer(tmp_path, scheduler, checkpoint, max_epochs=3)
    fit(resumed, module(), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert scheduler.curr_depth == 1


@pytest.mark.parametrize("kept", [OrderedDict(a=1), Counter("ab")], ids=["OrderedDict", "Counter"])
def test_dicts_that_torch_knows_are_read_back(kept, tmp_path) -> None:
    module = TunedModule(LOSSES)
    module.save_hyperparameters({"options": kept})
    trained(tmp_path, module)


def test_a_function_among_the_hyperparameters_is_named_with_what_allows_it(tmp_path) -> None:
    module = TunedModule(LOSSES)
    module.save_hyperparameters({"activation": nn.functional.relu})
    with (
        pytest.warns(
            UserWarning, match=r"epoch=0.*nn\.functional\.relu.*will fail for the same reason.*add_safe_globals"
        ) as told,
        pytest.raises(CheckpointError, match=r"nn\.functional\.relu.*classes and functions by .*add_safe_globals"),
    ):
        trained(tmp_path / "refused", module)
    assert len([warning for warning in told if "will fail for the same reason" in str(warning.message)]) == 1
    with torch.serialization.safe_globals([nn.functional.relu]):
        trained(tmp_path / "allowed", module)


class MadeOnce:
    """Is saved, and made from what was saved only with more than that."""

    def __setstate__(self, state):
        raise RuntimeError("there is no connection to the server")

    def __getstate__(self):
        return {"server": "gone"}

    def __deepcopy__(self, memo):
        return self  # save_hyperparameters copies


def test_an_object_that_cannot_be_made_again_is_warned_of_and_stops_no_run_that_restores_nothing(tmp_path) -> None:
    module = TunedModule(LOSSES)
    module.save_hyperparameters({"client": MadeOnce()})
    with pytest.warns(UserWarning, match="RuntimeError: there is no connection to the server"):
        trainer = trained(tmp_path, module, settings={"restore_best": False})
    assert trainer.current_epoch == 3


def test_what_the_user_says_of_a_file_holds_between_phases_too(tmp_path) -> None:
    trained(tmp_path / "first", WithObjects(), epochs=1)
    callbacks = FinetuningScheduler(ft_schedule=SCHEDULE), FTSCheckpoint(tmp_path / "new", monitor="val_loss")
    resumed = make_trainer(tmp_path, *callbacks, max_epochs=3)
    with pytest.raises(CheckpointError, match="weights_only=False to the Trainer"):
        fit(resumed, WithObjects(), ckpt_path=tmp_path / "first" / "last.ckpt")

    scheduler = FinetuningScheduler(ft_schedule=SCHEDULE)
    checkpoint = FTSCheckpoint(tmp_path / "first", monitor="val_loss", save_last=True)
    resumed = make_trainer(tmp_path, scheduler, checkpoint, max_epochs=3)
    fit(resumed, WithObjects(), ckpt_path=tmp_path / "first" / "last.ckpt", weights_only=False)
    assert scheduler.curr_depth == 1


# -- sharded strategies ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded_runs(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """The checkpoints of trainings: strategy and kind to a file, or a folder of shards."""
    folder, saved = tmp_path_factory.mktemp("sharded"), {}
    for kind in ("full", "sharded"):
        with leaving_no_process_group():
            resume("model_parallel", kind, folder / "model_parallel" / kind, None)
        saved["model_parallel", kind] = folder / "model_parallel" / kind / "best" / "epoch=2.ckpt"
        with leaving_no_process_group(), fsdp_on_cpu():
            resume("fsdp", kind, folder / "fsdp" / kind, None)
        saved["fsdp", kind] = folder / "fsdp" / kind / "epoch=2.ckpt"
    return saved


def resume(strategy: str, kind: str, folder: Path, ckpt_path: Path | None) -> None:
    if strategy == "fsdp":
        fsdp_parts.train(folder, fsdp_parts.strategy(orig=True, kind=kind), devices=1, ckpt_path=ckpt_path)
    else:
        running = parallel_run.model_parallel(shards=kind == "sharded")
        parallel_run.train(folder, running, cfg={"fsdp_plan": parallel_run.LAYERS}, ckpt_path=ckpt_path)


def poison_index(folder: Path, canary: Canary) -> None:
    index = pickle.loads(folder.joinpath(".metadata").read_bytes())  # noqa: S301  # the test has written it
    index.planner_data = {**index.planner_data, "canary": canary}
    folder.joinpath(".metadata").write_bytes(pickle.dumps(index))


def poison_value(folder: Path, canary: Canary) -> None:
    """Put the canary where a value of the optimizer's groups stands."""
    index = pickle.loads(folder.joinpath(".metadata").read_bytes())  # noqa: S301  # the test has written it
    place = next(info for at, info in index.storage_data.items() if at.fqn.endswith("lr"))
    torch.save(canary, content := io.BytesIO())
    shard = folder / place.relative_path
    place.offset, place.length = shard.stat().st_size, len(content.getvalue())
    shard.write_bytes(shard.read_bytes() + content.getvalue())
    folder.joinpath(".metadata").write_bytes(pickle.dumps(index))


def poison_meta(folder: Path, canary: Canary) -> None:
    poison(folder / "meta.pt", canary)


def leave_the_folder(folder: Path, canary: Canary) -> None:
    index = pickle.loads(folder.joinpath(".metadata").read_bytes())  # noqa: S301  # the test has written it
    place = next(iter(index.storage_data.values()))
    place.relative_path = f"../{folder.name}/{place.relative_path}"
    folder.joinpath(".metadata").write_bytes(pickle.dumps(index))


@pytest.mark.parametrize(
    ("kind", "poisoning", "message"),
    [
        ("full", poison, "more than tensors and plain values"),
        ("sharded", poison_meta, "more than tensors and plain values"),
        ("sharded", poison_index, r"This is no index of shards .*it names"),
        ("sharded", poison_value, r"The shards cannot be read .*lr is more than tensors.*Unsupported global"),
        ("sharded", leave_the_folder, "which is no file in the folder"),
    ],
)
@pytest.mark.parametrize("strategy", ["model_parallel", "fsdp"])
def test_checkpoints_of_sharded_strategies_are_refused(
    strategy, kind, poisoning, message, sharded_runs, tmp_path, canary
) -> None:
    path, source = tmp_path / "poisoned.ckpt", sharded_runs[strategy, kind]
    shutil.copy(source, path) if kind == "full" else shutil.copytree(source, path)
    poisoning(path, canary)
    with fsdp_on_cpu(), pytest.raises(CheckpointError, match=message):
        resume(strategy, kind, tmp_path / "run", path)
