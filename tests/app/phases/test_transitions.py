"""How a schedule moves from phase to phase."""

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from phasewire.app import FinetuningScheduler, FTSEarlyStopping, Schedule
from tuning import Notes, TunedModule, fit, make_trainer

HEAD = ("head.weight", "head.bias")
THREE_PHASES = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"], "max_transition_epoch": 4},
    2: {"params": ["layers.0.*"]},
}
NO_EPOCHS = {depth: {"params": phase["params"]} for depth, phase in THREE_PHASES.items()}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def run(tmp_path, module, scheduler, *callbacks, **options):
    notes = Notes()
    trainer = make_trainer(tmp_path, scheduler, notes, *callbacks, **options)
    fit(trainer, module)
    return notes, trainer


def test_phases_begin_at_their_epochs_and_thaw_what_they_name(tmp_path):
    scheduler = FinetuningScheduler(THREE_PHASES, restore_best=False)

    notes, _ = run(tmp_path, TunedModule(), scheduler, FTSEarlyStopping("val_loss", patience=99), max_epochs=6)

    assert notes.depths == [0, 0, 1, 1, 2, 2]
    assert notes.epochs[0].trainable == HEAD
    assert notes.epochs[2].trainable == ("layers.1.weight", "layers.1.bias", *HEAD)
    assert notes.epochs[4].trainable == (
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
        *HEAD,
    )


def test_quantized_parameters_stay_frozen_when_the_phase_that_names_them_begins(tmp_path):
    module = TunedModule()
    codes = torch.nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    module.layers[1].register_parameter("codes", codes)
    scheduler = FinetuningScheduler(THREE_PHASES, restore_best=False)

    with pytest.warns(UserWarning, match=r"hold integers .*layers\.1\.codes"):
        notes, _ = run(tmp_path, module, scheduler, FTSEarlyStopping("val_loss", patience=99), max_epochs=4)

    assert notes.depths == [0, 0, 1, 1]
    assert notes.epochs[2].trainable == ("layers.1.weight", "layers.1.bias", *HEAD)


def test_only_thawed_parameters_change(tmp_path):
    module = TunedModule()
    before = {name: value.clone() for name, value in module.named_parameters()}

    run(
        tmp_path,
        module,
        FinetuningScheduler({**THREE_PHASES, 1: {"params": ["layers.1.*"]}}, restore_best=False),
        FTSEarlyStopping("val_loss", patience=99),
        max_epochs=4,
    )

    changed = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    # Batch norm takes away what the bias before it adds, so that bias has no gradient.
    assert changed - {"layers.1.bias"} == {"layers.1.weight", *HEAD}


def test_patience_ends_a_phase_and_in_the_last_phase_the_training(tmp_path):
    losses = [3.0, 4.0, 2.0, 5.0, 1.0, 6.0, 7.0, 8.0]
    stopping = FTSEarlyStopping("val_loss", patience=1)

    notes, trainer = run(
        tmp_path, TunedModule(losses), FinetuningScheduler(NO_EPOCHS, restore_best=False), stopping, max_epochs=20
    )

    assert notes.depths == [0, 0, 1, 1, 2, 2]
    assert trainer.current_epoch == 6
    assert stopping.stopped_epoch == 5


def test_whichever_of_patience_and_epoch_comes_first_ends_the_phase(tmp_path):
    losses = [3.0, 2.0, 1.0, 5.0, 5.0, 0.5, 0.4, 0.3]
    schedule = {
        0: {"params": ["head.*"], "max_transition_epoch": 2},
        1: {"params": ["layers.1.*"], "max_transition_epoch": 7},
        2: {"params": ["layers.0.*"]},
    }

    notes, _ = run(
        tmp_path,
        TunedModule(losses),
        FinetuningScheduler(schedule, restore_best=False),
        FTSEarlyStopping("val_loss", patience=2),
        max_epochs=7,
    )

    assert notes.depths == [0, 0, 1, 1, 1, 2, 2]


def test_a_metric_that_is_not_finite_stops_the_training_in_any_phase(tmp_path):
    with pytest.warns(UserWarning, match="Training stops: 'val_loss' is nan.*resume from a checkpoint of an earlier"):
        notes, trainer = run(
            tmp_path,
            TunedModule([1.0, float("nan")]),
            FinetuningScheduler(NO_EPOCHS, restore_best=False),
            FTSEarlyStopping("val_loss", patience=1),
        )

    assert notes.depths == [0, 0]
    assert trainer.current_epoch == 2


def test_epoch_transitions_alone_need_no_early_stopping(tmp_path):
    schedule = {**THREE_PHASES, 2: {"params": ["layers.0.*"], "max_transition_epoch": 5}}
    scheduler = FinetuningScheduler(schedule, epoch_transitions_only=True, restore_best=False)

    notes, trainer = run(tmp_path, TunedModule([1.0, 2.0]), scheduler, max_epochs=5)

    assert notes.depths == [0, 0, 1, 1, 2]
    assert not any(isinstance(callback, EarlyStopping) for callback in trainer.callbacks)


def test_early_stopping_is_taken_out_with_a_warning_when_epochs_alone_decide(tmp_path):
    schedule = {0: {"params": ["head.*"], "max_transition_epoch": 3}}
    scheduler = FinetuningScheduler(schedule, epoch_transitions_only=True, restore_best=False)

    with pytest.warns(UserWarning, match="EarlyStopping callback was removed"):
        notes, _ = run(tmp_path, TunedModule([1.0]), scheduler, EarlyStopping("val_loss", patience=1), max_epochs=3)

    assert notes.depths == [0, 0, 0]


def test_the_last_phase_runs_to_its_own_epoch_beyond_max_epochs(tmp_path):
    schedule = {0: {"params": ["head.*"], "max_transition_epoch": 4}}
    scheduler = FinetuningScheduler(schedule, epoch_transitions_only=True, restore_best=False)

    notes, _ = run(tmp_path, TunedModule(), scheduler, max_epochs=2)

    assert len(notes.epochs) == 4


def test_max_depth_ends_the_schedule_early(tmp_path):
    scheduler = FinetuningScheduler(THREE_PHASES, max_depth=1, restore_best=False)

    notes, _ = run(tmp_path, TunedModule(), scheduler, FTSEarlyStopping("val_loss", patience=99), max_epochs=6)

    assert notes.depths == [0, 0, 1, 1, 1, 1]
    assert scheduler.max_depth == 1
    assert scheduler.depth_remaining == 0


def test_one_scheduler_serves_several_fits(tmp_path):
    scheduler = FinetuningScheduler(THREE_PHASES, restore_best=False)
    seen = []
    for name in ("first", "second"):
        notes, _ = run(
            tmp_path / name, TunedModule(), scheduler, FTSEarlyStopping("val_loss", patience=99), max_epochs=5
        )
        seen.append([(epoch.depth, epoch.trainable, epoch.groups) for epoch in notes.epochs])

    assert seen[0] == seen[1]


def test_a_schedule_object_trains_as_its_dict_does(tmp_path):
    scheduler = FinetuningScheduler(Schedule.from_mapping(THREE_PHASES), restore_best=False)

    notes, _ = run(tmp_path, TunedModule(), scheduler, FTSEarlyStopping("val_loss", patience=99), max_epochs=5)

    assert notes.depths == [0, 0, 1, 1, 2]


def test_the_schedule_given_is_not_changed(tmp_path):
    given = {depth: {**phase, "params": list(phase["params"])} for depth, phase in THREE_PHASES.items()}
    before = repr(given)

    run(
        tmp_path,
        TunedModule(),
        FinetuningScheduler(given, restore_best=False),
        FTSEarlyStopping("val_loss", patience=99),
        max_epochs=3,
    )

    assert repr(given) == before


def test_layers_built_in_setup_and_in_configure_model_are_scheduled(tmp_path):
    class Late(TunedModule):
        def __init__(self) -> None:
            super().__init__()
            del self.head

        def setup(self, stage: str) -> None:
            self.head = torch.nn.Linear(4, 1)

        def configure_model(self) -> None:
            if not hasattr(self, "top"):
                self.top = torch.nn.Linear(1, 1)

        def forward(self, x):
            return self.top(self.head(self.layers(x)))

    schedule = {0: {"params": ["top.*"], "max_transition_epoch": 1}, 1: {"params": ["head.*"]}}

    notes, _ = run(
        tmp_path,
        Late(),
        FinetuningScheduler(schedule, restore_best=False),
        FTSEarlyStopping("val_loss", patience=99),
        max_epochs=2,
    )

    assert notes.epochs[0].trainable == ("top.weight", "top.bias")
    assert set(notes.epochs[1].trainable) == {"top.weight", "top.bias", *HEAD}


@pytest.mark.parametrize(("tracking", "moved"), [(True, True), (False, False)])
def test_frozen_batch_norm_updates_its_statistics_only_if_told_so(tmp_path, tracking, moved):
    module = TunedModule()
    before = module.layers[2].running_mean.clone()
    schedule = {0: {"params": ["head.*"]}}

    run(
        tmp_path,
        module,
        FinetuningScheduler(schedule, restore_best=False, frozen_bn_track_running_stats=tracking),
        FTSEarlyStopping("val_loss", patience=99),
        max_epochs=1,
    )

    assert torch.equal(before, module.layers[2].running_mean) is not moved


def test_a_batch_norm_without_parameters_is_in_no_phase_and_keeps_its_statistics(tmp_path):
    module = TunedModule()
    module.layers[2] = torch.nn.BatchNorm1d(4, affine=False)

    run(
        tmp_path,
        module,
        FinetuningScheduler({0: {"params": [".*"]}}, restore_best=False, frozen_bn_track_running_stats=False),
        FTSEarlyStopping("val_loss", patience=99),
        max_epochs=1,
    )

    assert module.layers[2].num_batches_tracked > 0


def test_a_thawed_batch_norm_updates_its_statistics_again(tmp_path):
    module = TunedModule()
    before = module.layers[2].running_mean.clone()
    schedule = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.2.*"]}}

    run(
        tmp_path,
        module,
        FinetuningScheduler(schedule, restore_best=False, frozen_bn_track_running_stats=False),
        FTSEarlyStopping("val_loss", patience=99),
        max_epochs=2,
    )

    assert not torch.equal(before, module.layers[2].running_mean)
