"""The functions of ``app/lightning_seams.py`` do with private names of Lightning and torch what they say.

``test_strategy_seam.py``, ``test_seam_restore.py`` and, for what two processes need, ``phases/test_two_processes.py``
have the rest of that module.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateFinder, ModelCheckpoint, Timer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities.compile import from_compiled
from torch import nn
from torch.optim import SGD, Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

import seam_processes
from phasewire.app.lightning_seams import (
    forget_compiled_code,
    is_metric_synchronised,
    move_checkpoints_last,
    restart_lr_scheduler,
    state_dict_code,
    step_of_loggers,
    strategy_flag,
)
from phasewire.app.trainer_attributes import callbacks_of, replace_callbacks
from process_runner import run_script
from seam_recorder import (
    Batches,
    Journal,
    RecordedModule,
    leaving_no_process_group,
    make_trainer,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


@pytest.mark.parametrize("seams", sorted(ROOT.glob("*/lightning_seams.py")), ids=lambda path: path.parent.name)
def test_the_seams_name_the_versions_that_are_tested(seams: Path) -> None:
    documented = ast.get_docstring(ast.parse(seams.read_text())) or ""
    constraints = (ROOT / "constraints.txt").read_text()

    for package in ("lightning", "torch"):
        (tested,) = re.findall(rf"^{package}==(\S+)$", constraints, flags=re.MULTILINE)
        assert re.findall(rf"\b{package} (\d+(?:\.\d+)+)", documented) == [tested]


# -- the strategy's flag -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["single_device", "ddp", "ddp_fork", "ddp_find_unused_parameters_true", "ddp_spawn"])
def test_the_flag_is_what_the_user_wrote(flag: str) -> None:
    assert strategy_flag(make_trainer(flag)) == flag


def test_the_flag_is_what_lightning_chose_for_several_processes() -> None:
    assert strategy_flag(make_trainer("auto", devices=2)) == "ddp"


def test_the_flag_is_lost_where_lightning_chose_one_device() -> None:
    assert strategy_flag(make_trainer("auto")) is None


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy, DDPStrategy])
def test_an_instance_has_no_flag(strategy: type[Strategy]) -> None:
    assert strategy_flag(make_trainer(strategy())) is None


# -- callbacks -----------------------------------------------------------------------------------------------------


class Witness(Callback):
    """Keeps the hooks that were called, and may replace the Trainer's callbacks in ``setup``."""

    def __init__(self, *companions: Callback) -> None:
        self.companions = companions
        self.hooks: list[str] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.hooks.append("setup")
        if self.companions:
            replace_callbacks(trainer, [*self.companions, *callbacks_of(trainer)])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.hooks.append("on_fit_start")


def test_callbacks_replaced_in_setup_take_part_from_the_next_hook_on() -> None:
    added, last = Witness(), Witness()
    first = Witness(added)
    trainer = make_trainer("auto", first, last)

    trainer.fit(RecordedModule(Journal()), Batches(), Batches())

    assert first.hooks == last.hooks == ["setup", "on_fit_start"]
    assert added.hooks == ["on_fit_start"]
    assert callbacks_of(trainer) == trainer.callbacks == [added, first, last]


def test_checkpoint_callbacks_move_last_as_in_a_trainer(tmp_path: Path) -> None:
    first, second = ModelCheckpoint(tmp_path, monitor="a"), ModelCheckpoint(tmp_path, monitor="b")
    timer, witness, finder = Timer(), Witness(), LearningRateFinder()
    callbacks = [first, timer, second, witness, finder]

    moved = move_checkpoints_last(callbacks)

    assert moved == [finder, timer, witness, first, second]
    assert moved == make_trainer("auto", *callbacks).callbacks
    assert callbacks == [first, timer, second, witness, finder]


# -- metrics -------------------------------------------------------------------------------------------------------


def test_only_plain_metrics_without_sync_dist_are_unsynchronised_with_two_processes(tmp_path: Path) -> None:
    run_script(Path(seam_processes.__file__), str(tmp_path), "metrics")

    validated = {
        f"{name}/dataloader_idx_{index}": synchronised
        for name, synchronised in (("metric", True), ("synced", True), ("plain", False))
        for index in (0, 1)
    }
    trained = {"train_synced": True, "train_synced_step": True, "train_plain": False, "train_plain_step": False}
    expected = {
        "on_validation_end": {**validated, **trained},
        "on_train_epoch_end": {**validated, **trained, "train_synced_epoch": True, "train_plain_epoch": False},
    }
    for rank in (0, 1):
        assert json.loads((tmp_path / f"rank {rank}").read_text()) == expected


def test_every_metric_is_synchronised_in_one_process() -> None:
    answers: list[bool] = []

    class Asks(Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            answers.append(is_metric_synchronised(trainer, "plain/dataloader_idx_0"))

    trainer = make_trainer("auto", Asks(), num_sanity_val_steps=0)
    trainer.fit(seam_processes.MetricsModule(), Batches(), [Batches(), Batches()])

    assert answers == [True]


# -- compiled modules ----------------------------------------------------------------------------------------------


class Layers(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 1


def whole(module: Layers, backend: Callable[..., object]) -> Layers:
    return from_compiled(torch.compile(module, backend=backend))


def in_place(module: Layers, backend: Callable[..., object]) -> Layers:
    module.compile(backend=backend)
    return module


def part(module: Layers, backend: Callable[..., object]) -> Layers:
    module.inner = torch.compile(module.inner, backend=backend)
    return module


def method(module: Layers, backend: Callable[..., object]) -> Layers:
    module.forward = torch.compile(module.forward, backend=backend)
    return module


def nothing(module: Layers, backend: Callable[..., object]) -> Layers:
    return module


@pytest.mark.parametrize(
    ("compiled", "compiled_again"), [(whole, 1), (in_place, 1), (part, 1), (method, 1), (nothing, 0)]
)
def test_what_was_compiled_is_forgotten_where_a_module_is_compiled(
    compiled: Callable[..., Layers], compiled_again: int
) -> None:
    compilations: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        compilations.append(inputs)
        return graph.forward

    module = compiled(Layers(), backend)
    elsewhere = torch.compile(lambda x: 2 * x, backend=backend)
    ones = torch.ones(1, 2)
    for _ in range(2):
        module(ones)
        elsewhere(ones)
    before = len(compilations)

    forget_compiled_code(module)
    module(ones)
    elsewhere(ones)

    assert before == 1 + compiled_again
    assert len(compilations) - before == 2 * compiled_again
    torch.compiler.reset()


def test_code_that_was_compiled_again_is_forgotten_again() -> None:
    compilations: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        compilations.append(inputs)
        return graph.forward

    module = whole(Layers(), backend)
    for _ in range(3):
        module(torch.ones(1, 2))
        forget_compiled_code(module)

    assert len(compilations) == 3


def test_where_nothing_was_compiled_no_part_of_the_module_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    monkeypatch.setattr(Layers, "modules", lambda self: pytest.fail("the parts were listed"))

    forget_compiled_code(Layers())


# -- state dicts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "register"),
    [
        (nn.Linear(1, 1), "register_state_dict_pre_hook"),
        (nn.Linear(1, 1), "register_state_dict_post_hook"),
        (nn.Linear(1, 1), "register_load_state_dict_pre_hook"),
        (nn.Linear(1, 1), "register_load_state_dict_post_hook"),
        (SGD([torch.ones(1)]), "register_state_dict_pre_hook"),
        (SGD([torch.ones(1)]), "register_state_dict_post_hook"),
        (SGD([torch.ones(1)]), "register_load_state_dict_pre_hook"),
        (SGD([torch.ones(1)]), "register_load_state_dict_post_hook"),
    ],
)
def test_what_is_registered_for_a_state_dict_is_found(owner: nn.Module | Optimizer, register: str) -> None:
    def hook(*_: object) -> None: ...

    assert {code.__module__.partition(".")[0] for code in state_dict_code(owner)} == {"torch"}

    getattr(owner, register)(hook)

    assert [code.__name__ for code in state_dict_code(owner) if code.__module__ == __name__] == ["hook"]


# -- lr schedulers -------------------------------------------------------------------------------------------------

LR_SCHEDULERS: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 3], 0.5),
    "ConstantLR": lambda optimizer: lr_scheduler.ConstantLR(optimizer, 0.5, 2),
    "LinearLR": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.5),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 3),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 2),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda optimizer: lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.5),
}


@pytest.mark.parametrize("name", LR_SCHEDULERS)
def test_a_restarted_lr_scheduler_gives_the_rates_of_a_new_one(name: str) -> None:
    layer = nn.Linear(2, 2)
    optimizer = SGD([layer.weight], lr=0.3)
    restarted = LR_SCHEDULERS[name](optimizer)
    optimizer.param_groups[0].update(params=[layer.bias], lr=0.1, initial_lr=0.1)
    restarted.base_lrs = [0.1]

    restart_lr_scheduler(restarted)

    assert rates(restarted, 5) == rates(LR_SCHEDULERS[name](SGD([layer.bias], lr=0.1)), 5)


def rates(scheduler: LRScheduler, steps: int) -> list[tuple[int, float, float]]:
    seen = []
    for _ in range(steps):
        (last,) = scheduler.get_last_lr()
        seen.append((scheduler.last_epoch, float(last), float(scheduler.optimizer.param_groups[0]["lr"])))
        scheduler.optimizer.step()
        scheduler.step()
    return seen


class NotesSteps(Callback):
    """Notes the step of the loggers before every batch."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        self.steps.append(step_of_loggers(trainer))


class NotesLogged(Logger):
    """Notes the step that Lightning logs a metric under."""

    name = version = "noted"

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int | None] = []

    def log_hyperparams(self, params: object, *args: object, **kwargs: object) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "loss" in metrics:
            self.steps.append(step)


class TwoStepsABatch(pl.LightningModule):
    """Takes two optimizer steps a batch, so that ``global_step`` is not what is logged under."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.automatic_optimization = False

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        for _ in range(2):
            self.optimizers().step()
        self.log("loss", 1.0)

    def configure_optimizers(self) -> Optimizer:
        return SGD(self.parameters(), lr=0.1)


def test_the_step_of_the_loggers_is_the_one_that_lightning_logs_under(tmp_path: Path) -> None:
    noting, logger = NotesSteps(), NotesLogged()
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        callbacks=[noting],
        logger=logger,
        max_epochs=2,
        log_every_n_steps=1,
        accelerator="cpu",
        devices=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )

    trainer.fit(TwoStepsABatch(), DataLoader(torch.zeros(3, 1)))

    assert noting.steps == logger.steps == [0, 1, 2, 3, 4, 5]
    assert trainer.global_step == 12
