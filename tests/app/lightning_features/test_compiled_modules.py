"""Modules that ``torch.compile`` compiled, whole or in part, trained in phases."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from by_hand import same, train_by_hand
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping, Schedule, ScheduleError
from phasewire.app.schedule.validate import ScheduleValidator
from tuning import FEATURES, Batches, Notes, TunedModule, fit, make_trainer, state_of

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": [r"layers\.1\..*"], "max_transition_epoch": 4, "lr": 0.05},
    2: {"params": ["layers.0.weight", "layers.0.bias"], "max_transition_epoch": 6, "lr": 0.01},
}
LOSSES = [2.0, 3.0, 1.0, 4.0, 5.0, 6.0]


class Module(TunedModule):
    # Tracing what Lightning does when a value is logged takes seconds, and gives nothing.
    @torch.compiler.disable
    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    yield
    torch.compiler.reset()


def build(tmp_path, *callbacks, restore_best=True, schedule=SCHEDULE, epochs=6):
    notes = Notes()
    if restore_best:
        stopping = FTSEarlyStopping("val_loss", patience=99)
        checkpoint = FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}")
        parts = [FinetuningScheduler(schedule), stopping, checkpoint]
    else:
        settings = {"epoch_transitions_only": True, "restore_best": False}
        parts = [FinetuningScheduler(schedule, **settings), ModelCheckpoint(tmp_path / "newest", filename="{epoch}")]
    return make_trainer(tmp_path, *parts, notes, *callbacks, max_epochs=epochs), notes


def whole(module, backend="eager"):
    return torch.compile(module, backend=backend)


def whole_in_place(module, backend="eager"):
    module.compile(backend=backend)
    return module


def part(module, backend="eager"):
    module.layers = torch.compile(module.layers, backend=backend)
    return module


def part_in_place(module, backend="eager"):
    module.layers.compile(backend=backend)
    return module


def forward_alone(module, backend="eager"):
    module.forward = torch.compile(module.forward, backend=backend)
    return module


WAYS = pytest.mark.parametrize("compiled", [whole, whole_in_place, part, part_in_place, forward_alone])


@WAYS
@pytest.mark.parametrize("restore_best", [True, False], ids=["restoring the best", "by epochs"])
@pytest.mark.filterwarnings("ignore:phase 2, max_transition_epoch:UserWarning")
def test_a_compiled_module_ends_with_the_weights_of_one_that_is_not(tmp_path, compiled, restore_best):
    trainer, notes = build(tmp_path, restore_best=restore_best)
    module = Module(LOSSES)

    fit(trainer, compiled(module))

    torch.manual_seed(0)
    best = {1: 0, 2: 2} if restore_best else None
    expected = train_by_hand(TunedModule(), SCHEDULE, {2: 1, 4: 2}, epochs=6, best=best)
    assert notes.depths == [0, 0, 1, 1, 2, 2]
    assert same({name.replace("_orig_mod.", ""): value for name, value in state_of(module).items()}, expected)


@pytest.mark.parametrize("compiled", [whole, whole_in_place])
def test_checkpoints_of_a_module_compiled_whole_have_its_own_names(tmp_path, compiled):
    trainer, _ = build(tmp_path, restore_best=False, epochs=1)
    module = Module()

    fit(trainer, compiled(module))

    saved = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert saved["state_dict"].keys() == TunedModule().state_dict().keys()
    assert not any(
        "_orig_mod" in name
        for phase in saved["callbacks"][trainer.callbacks[0].state_key]["schedule"]
        for name in phase["params"]
    )


# -- as many phases as there are -----------------------------------------------------------------------------------

DEEP = 9  # more than torch compiles one function for


class DeepModule(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(FEATURES, FEATURES) for _ in range(DEEP)])
        self.head = nn.Linear(FEATURES, 1)

    def forward(self, x):
        return self.head(self.layers(x))

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("compiled", [whole, part])
def test_every_phase_is_compiled_however_many_there_are(tmp_path, compiled):
    compilations = []

    def backend(graph, inputs):
        compilations.append(len(notes.epochs))
        return graph.forward

    schedule = {
        depth: {
            "params": ["head.*" if depth == 0 else rf"layers\.{DEEP - depth}\..*"],
            "max_transition_epoch": depth + 1,
        }
        for depth in range(DEEP + 1)
    }
    trainer, notes = build(tmp_path, restore_best=False, schedule=schedule, epochs=DEEP + 1)

    trainer.fit(compiled(DeepModule(), backend), Batches())

    assert notes.depths == list(range(DEEP + 1))
    assert set(compilations) == set(range(1, DEEP + 2))


def test_what_else_was_compiled_stays_when_the_module_is_not(tmp_path):
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    class Metric(Callback):
        double = staticmethod(torch.compile(lambda x: 2 * x, backend=backend))

        def on_train_epoch_end(self, trainer, pl_module):
            self.double(torch.ones(2))

    trainer, notes = build(tmp_path, Metric(), restore_best=False)

    fit(trainer, TunedModule())

    assert notes.depths == [0, 0, 1, 1, 2, 2]
    assert len(compilations) == 1


# -- names of a compiled part --------------------------------------------------------------------------------------


def resolved(params, names=("head.weight", "layers._orig_mod.1.weight", "layers._orig_mod.0.weight")):
    schedule = Schedule.from_mapping({0: {"params": params}})
    return list(ScheduleValidator().validate(schedule, dict.fromkeys(names)).phases[0].params)


@pytest.mark.parametrize(
    ("params", "taken"),
    [
        (["layers.1.weight"], ["layers._orig_mod.1.weight"]),
        (["layers._orig_mod.1.weight"], ["layers._orig_mod.1.weight"]),
        ([r"layers\.1\..*"], ["layers._orig_mod.1.weight"]),
        ([r"layers\._orig_mod\.1\..*"], ["layers._orig_mod.1.weight"]),
        (["layers.*"], ["layers._orig_mod.1.weight", "layers._orig_mod.0.weight"]),
        ([r"(?!layers\.1\.).*"], ["head.weight", "layers._orig_mod.0.weight"]),
    ],
)
def test_names_of_a_compiled_part_are_known_with_and_without_its_wrapper(params, taken):
    assert resolved(params) == taken


def test_a_name_that_is_not_there_is_refused_in_a_compiled_part_too():
    with pytest.raises(ScheduleError, match=r"'layers\.7\.weight' matches no parameter"):
        resolved(["layers.7.weight"])


def test_the_default_schedule_of_a_compiled_part_fits_the_module_that_is_not_compiled(tmp_path):
    schedules = []
    for name, module in (("compiled", part(TunedModule())), ("plain", TunedModule())):
        trainer = make_trainer(
            tmp_path / name, FinetuningScheduler(restore_best=False), FTSEarlyStopping("val_loss"), max_epochs=1
        )
        fit(trainer, module)
        schedules.append((tmp_path / name / "TunedModule_ft_schedule.yaml").read_text())

    assert schedules[0] == schedules[1]
