"""The order in which Lightning calls what Phasewire is built on.

The tables are the documentation of the seams: they hold for the Lightning that ``app/lightning_seams.py`` names, and a
release that changes one of them fails here first. ``test_seam_exceptions.py`` has what happens when a run fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import seam_processes
from phasewire.app.strategy_seam import StrategySeam
from process_runner import run_script
from seam_recorder import (
    ENTRY_POINTS,
    STRATEGIES,
    Batches,
    Journal,
    RecordedModule,
    Recorder,
    adam_steps_of,
    events_of_process,
    leaving_no_process_group,
    make_trainer,
    record_all_entry_points,
    weight_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

FIT = (
    "callback.setup",
    "module.setup",
    "module.configure_model",
    "strategy.setup: entered",
    "module.configure_optimizers",
    "strategy.setup: left",
    "callback.on_fit_start",
    "strategy.lightning_module_state_dict",
    "callback.state_dict",
    "callback.on_save_checkpoint",
    "strategy.save_checkpoint",
    "strategy.teardown",
    "callback.on_fit_end",
    "callback.teardown",
)

RESUMED_FIT = (
    "callback.setup",
    "module.setup",
    "module.configure_model",
    "strategy.load_checkpoint",
    "module.on_load_checkpoint",
    "strategy.load_model_state_dict",
    "callback.on_load_checkpoint",
    "callback.load_state_dict",
    "strategy.setup: entered",
    "module.configure_optimizers",
    "strategy.setup: left",
    "callback.on_fit_start",
    "strategy.load_optimizer_state_dict",
    "strategy.lightning_module_state_dict",
    "callback.state_dict",
    "callback.on_save_checkpoint",
    "strategy.save_checkpoint",
    "strategy.teardown",
    "callback.on_fit_end",
    "callback.teardown",
)

# validate, test and predict
EVALUATION = (
    "callback.setup",
    "module.setup",
    "module.configure_model",
    "strategy.load_checkpoint",
    "module.on_load_checkpoint",
    "strategy.load_model_state_dict",
    "callback.on_load_checkpoint",
    "callback.load_state_dict",
    "strategy.setup: entered",
    "strategy.setup: left",
    "strategy.teardown",
    "callback.teardown",
)

# ModelParallelStrategy loads weights and optimizers in load_checkpoint, so that comes when the module is sharded and
# the optimizers exist; load_model_state_dict does nothing, and load_optimizer_state_dict is not called.
SHARDED_RESUMED_FIT = (
    "callback.setup",
    "module.setup",
    "module.configure_model",
    "strategy.setup: entered",
    "module.configure_optimizers",
    "strategy.setup: left",
    "callback.on_fit_start",
    "strategy.load_checkpoint",
    "module.on_load_checkpoint",
    "strategy.load_model_state_dict",
    "callback.on_load_checkpoint",
    "callback.load_state_dict",
    "strategy.lightning_module_state_dict",
    "callback.state_dict",
    "callback.on_save_checkpoint",
    "strategy.save_checkpoint",
    "strategy.teardown",
    "callback.on_fit_end",
    "callback.teardown",
)

SHARDED_EVALUATION = (
    "callback.setup",
    "module.setup",
    "module.configure_model",
    "strategy.setup: entered",
    "strategy.setup: left",
    "strategy.load_checkpoint",
    "module.on_load_checkpoint",
    "strategy.load_model_state_dict",
    "callback.on_load_checkpoint",
    "callback.load_state_dict",
    "strategy.teardown",
    "callback.teardown",
)

# In the order of ENTRY_POINTS.
CALL_ORDER = {
    "single_device": (FIT, RESUMED_FIT, EVALUATION, EVALUATION, EVALUATION),
    "ddp": (FIT, RESUMED_FIT, EVALUATION, EVALUATION, EVALUATION),
    "model_parallel, sharded file": (
        FIT,
        SHARDED_RESUMED_FIT,
        SHARDED_EVALUATION,
        SHARDED_EVALUATION,
        SHARDED_EVALUATION,
    ),
    "model_parallel, full file": (
        FIT,
        SHARDED_RESUMED_FIT,
        SHARDED_EVALUATION,
        SHARDED_EVALUATION,
        SHARDED_EVALUATION,
    ),
}


@dataclass(frozen=True)
class Recording:
    strategy: str
    events: dict[str, list[str]]


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


@pytest.fixture(scope="module", params=STRATEGIES)
def one_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("checkpoints")
    with leaving_no_process_group():
        events = record_all_entry_points(request.param, folder, journal=lambda entry_point: Journal())
    return Recording(request.param, events)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_lightning_calls_the_seams_in_this_order(one_process: Recording, entry_point: str) -> None:
    expected = CALL_ORDER[one_process.strategy][ENTRY_POINTS.index(entry_point)]

    assert tuple(one_process.events[entry_point]) == expected


def test_each_of_two_processes_has_the_order_of_one(tmp_path: Path) -> None:
    run_script(Path(seam_processes.__file__), str(tmp_path), "entry points")

    expected = {
        (strategy, entry_point, rank): order
        for strategy in STRATEGIES
        for entry_point, order in zip(ENTRY_POINTS, CALL_ORDER[strategy], strict=True)
        for rank in range(seam_processes.PROCESSES)
        if strategy != "single_device"
    }
    assert {
        (strategy, entry_point, rank): tuple(events_of_process(tmp_path / strategy / entry_point, f"rank {rank}"))
        for strategy, entry_point, rank in expected
    } == expected


def test_a_checkpoint_saved_after_fit_passes_no_seam(tmp_path: Path) -> None:
    journal = Journal()
    trainer = make_trainer("auto", Recorder(journal))
    trainer.fit(RecordedModule(journal), Batches(), Batches())
    journal.events.clear()

    trainer.save_checkpoint(tmp_path / "by_the_user.ckpt")

    assert journal.events == ["callback.state_dict", "callback.on_save_checkpoint"]


class SeesCheckpointPath(Callback):
    """Keeps what ``trainer.ckpt_path`` says in ``setup``."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.seen.append(trainer.ckpt_path)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_in_setup_the_checkpoint_path_is_that_of_the_call_before(strategy: str, tmp_path: Path) -> None:
    saved = tmp_path / "saved.ckpt"
    module = fitted_and_saved(strategy, saved)
    witness = SeesCheckpointPath()
    trainer = make_trainer(STRATEGIES[strategy](1), witness, max_epochs=2)

    trainer.fit(module, Batches(), Batches(), ckpt_path=saved)
    trainer.validate(module, Batches(), verbose=False)
    trainer.validate(module, Batches(), verbose=False)

    assert witness.seen == [None, saved, None]


class SeesWhoLoads(Callback):
    """Keeps a weight and the optimizer's steps after each of the strategy's methods that may load them."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[float, int]] = {}
        self.arguments: dict[str, dict[str, object]] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        def seen_after(name: str, *args: object, **kwargs: object) -> object:
            result = getattr(seam, name)(*args, **kwargs)
            self.seen[name] = (weight_of(pl_module), adam_steps_of(trainer))
            self.arguments[name] = kwargs
            return result

        names = ("load_checkpoint", "load_model_state_dict")
        seam = StrategySeam(trainer.strategy, {name: partial(seen_after, name) for name in names})


@pytest.mark.parametrize("strategy", ["single_device", "ddp"])
def test_reading_a_checkpoint_loads_nothing_yet(strategy: str, tmp_path: Path) -> None:
    trained = fitted_and_saved(strategy, tmp_path / "saved.ckpt")
    witness = SeesWhoLoads()

    resume_with_other_weights(strategy, tmp_path / "saved.ckpt", witness)

    assert witness.seen == {"load_checkpoint": (7.0, 0), "load_model_state_dict": (weight_of(trained), 0)}
    assert witness.arguments["load_checkpoint"] == {"weights_only": False}


@pytest.mark.parametrize("strategy", ["model_parallel, sharded file", "model_parallel, full file"])
def test_model_parallel_loads_weights_and_optimizer_as_it_reads_the_file(strategy: str, tmp_path: Path) -> None:
    trained = fitted_and_saved(strategy, tmp_path / "saved.ckpt")
    witness = SeesWhoLoads()

    resume_with_other_weights(strategy, tmp_path / "saved.ckpt", witness)

    loaded = (weight_of(trained), len(Batches()))
    assert witness.seen == {"load_checkpoint": loaded, "load_model_state_dict": loaded}
    # What was given to fit is lost on the way: what goes into a checkpoint must load with torch's own default, True.
    assert witness.arguments["load_checkpoint"] == {"weights_only": None}


@pytest.mark.parametrize("strategy", ["model_parallel, sharded file", "model_parallel, full file"])
def test_model_parallel_has_a_load_model_state_dict_that_does_nothing(strategy: str) -> None:
    module = RecordedModule(Journal())
    trainer = make_trainer(STRATEGIES[strategy](1))
    trainer.fit(module, Batches(), Batches())
    trained = weight_of(module)

    trainer.strategy.load_model_state_dict({"state_dict": {"layer.weight": torch.full((1, 3), 7.0)}}, strict=True)

    assert weight_of(module) == trained


def fitted_and_saved(strategy: str, saved: Path) -> RecordedModule:
    module = RecordedModule(Journal())
    trainer = make_trainer(STRATEGIES[strategy](1))
    trainer.fit(module, Batches(), Batches())
    trainer.save_checkpoint(saved)
    return module


def resume_with_other_weights(strategy: str, saved: Path, *callbacks: Callback) -> None:
    """Resume with ``weights_only=False``, in a module whose weights are all 7 before."""
    module = RecordedModule(Journal())
    with torch.no_grad():
        module.layer.weight.fill_(7.0)
    trainer = make_trainer(STRATEGIES[strategy](1), *callbacks, max_epochs=2)
    trainer.fit(module, Batches(), Batches(), ckpt_path=saved, weights_only=False)
