"""The rules that phases keep with one another, and with the Trainer."""

import pytest
import torch
from torch import nn

from phasewire.app import Schedule, ScheduleError, ScheduleValidator
from phasewire.app.schedule import PhaseNumberError, ResolvedSchedule, load_schedule

NAMES = {name: nn.Parameter(torch.zeros(1)) for name in ("a", "b", "c", "d")}


def validate(phases, **options):
    loaded = phases if isinstance(phases, Schedule) else Schedule.from_mapping(phases)
    return ScheduleValidator().validate(loaded, NAMES, **options)


def phases_with(*extras):
    return {depth: {"params": [name], **extra} for depth, (name, extra) in enumerate(zip("abcd", extras, strict=False))}


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [(-1, 0, 2), (1, 2), (0, 2), (5,)])
def test_phases_with_gaps_or_a_wrong_start_are_refused_with_the_repaired_schedule(keys):
    given = {key: {"params": [name]} for key, name in zip(keys, "abc", strict=False)}

    with pytest.raises(PhaseNumberError, match="must begin with 0 and have no gaps") as refused:
        validate(given)

    repaired = refused.value.repaired
    assert repaired.to_dict() == {at: given[key] for at, key in enumerate(keys)}
    validate(repaired)


def test_the_repaired_schedule_is_proposed_as_yaml_with_the_line_of_the_first_wrong_number(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("0:\n  params: [a]\n2:\n  params: [b]\n  lr: 0.1\n")

    with pytest.raises(ScheduleError) as refused:
        validate(load_schedule(file))

    assert str(refused.value) == (
        f"{file}, line 3, phase 2: The phases have the numbers 0 and 2; they must begin with 0 and have no gaps. "
        "Number them in order:\n\n0:\n  params:\n  - a\n1:  # was 2\n  params:\n  - b\n  lr: 0.1\n"
    )
    assert list(tmp_path.iterdir()) == [file]


def test_a_long_proposal_is_shortened():
    many = {depth: {"params": [f"p{index}" for index in range(9)]} for depth in range(1, 50_001)}

    with pytest.raises(PhaseNumberError) as refused:
        validate(many)

    message = str(refused.value)
    assert len(message) < 2_000
    assert "params:  # the first 4 of 9\n" in message
    assert "# ... 49,994 more phases ...\n49999:  # was 50000\n" in message
    assert len(refused.value.repaired.phases) == 50_000


# -- phase 0 and learning rates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [{}, {"params": []}])
def test_a_first_phase_without_params_is_refused(phase):
    with pytest.raises(ScheduleError, match="phase 0: Phase 0 has no params"):
        validate({0: phase, 1: {"params": ["a"]}})


def test_later_phases_without_params_draw_one_warning():
    resolved = validate({0: {"params": ["a"]}, 1: {}, 2: {"params": ["b"]}, 3: {"params": []}})

    (warning,) = resolved.warnings
    assert warning.startswith("phase 1: phases 1 and 3 have no params, and so thaw nothing.")
    assert "Give them params" in warning
    assert resolved.phases[3].params == ()


@pytest.mark.parametrize(
    "change",
    [
        {"new_optimizer": {"optimizer_init": {"class_path": "torch.optim.SGD"}}},
        {"new_lr_scheduler": {"lr_scheduler_init": {"class_path": "torch.optim.lr_scheduler.StepLR"}}},
    ],
)
def test_the_first_phase_cannot_change_the_optimizer_or_lr_scheduler(change):
    with pytest.raises(ScheduleError, match=f"phase 0, {next(iter(change))}: Phase 0 cannot have"):
        validate(phases_with(change, {}))


def test_the_lr_of_the_first_phase_is_ignored_with_a_warning():
    resolved = validate(phases_with({"lr": 0.25}, {}))

    assert resolved.phases[0].lr is None
    assert "lr" not in resolved.to_dict()[0]
    assert len(resolved.warnings) == 1
    assert resolved.warnings[0].startswith("phase 0, lr: the lr of phase 0 (0.25) is ignored")


@pytest.mark.parametrize(("base_max_lr", "expected"), [(0.5, [None, 0.5, 0.125]), (None, [None, None, 0.125])])
def test_a_phase_without_lr_takes_base_max_lr(base_max_lr, expected):
    resolved = validate(phases_with({}, {}, {"lr": 0.125}), base_max_lr=base_max_lr)

    assert [phase.lr for phase in resolved.phases] == expected


# -- epochs --------------------------------------------------------------------------------------------------------


def test_transitions_by_epochs_alone_need_an_epoch_in_every_phase():
    with pytest.raises(ScheduleError, match=r"phase 1: Epochs alone end phases, and phases 1 and 3 have no max_"):
        validate(
            phases_with({"max_transition_epoch": 1}, {}, {"max_transition_epoch": 2}, {}), epoch_transitions_only=True
        )


def test_the_highest_epoch_and_the_last_phase_are_told():
    resolved = validate(phases_with({"max_transition_epoch": 1}, {"max_transition_epoch": 4}, {}))

    assert (resolved.final_depth, resolved.highest_transition_epoch, resolved.warnings) == (2, 4, ())
    assert validate(phases_with({}, {})).highest_transition_epoch == -1


@pytest.mark.parametrize(
    ("max_epochs", "limit"), [(10, "max_epochs (10)"), (-1, "max_epochs (no limit)"), (None, "max_epochs")]
)
def test_an_epoch_of_the_last_phase_draws_a_warning_about_max_epochs(max_epochs, limit):
    resolved = validate(phases_with({"max_transition_epoch": 5}, {"max_transition_epoch": 7}), max_epochs=max_epochs)

    assert len(resolved.warnings) == 1
    assert "phase 1, max_transition_epoch" in resolved.warnings[0]
    assert f"the greater of {limit} and the highest max_transition_epoch of the schedule (7)" in resolved.warnings[0]


def test_an_epoch_that_is_not_greater_than_an_earlier_one_draws_a_warning():
    resolved = validate(
        phases_with({"max_transition_epoch": 5}, {"max_transition_epoch": 5}, {"max_transition_epoch": 3}, {})
    )

    assert len(resolved.warnings) == 1
    assert "phases 1 and 2 have a max_transition_epoch that is not greater" in resolved.warnings[0]


def test_a_first_phase_that_ends_before_it_begins_draws_a_warning():
    assert "phase 0 ends at epoch 0" in validate(phases_with({"max_transition_epoch": 0}, {})).warnings[0]


# -- what a phase starts anew --------------------------------------------------------------------------------------


def init(class_path, init_args):
    return {"class_path": class_path, **({"init_args": init_args} if init_args else {})}


def optimizer(class_path, **init_args):
    return {"new_optimizer": {"optimizer_init": init(class_path, init_args)}}


def lr_scheduler(class_path, **init_args):
    return {"new_lr_scheduler": {"lr_scheduler_init": init(class_path, init_args)}}


@pytest.mark.parametrize(
    "change",
    [
        optimizer("torch.optim.SGD", lr=0.1, momentum=0.9),
        optimizer("torch.optim:AdamW"),
        lr_scheduler("torch.optim.lr_scheduler.StepLR", step_size=1, gamma=0.7),
        lr_scheduler("torch.optim.lr_scheduler.ReduceLROnPlateau"),
    ],
)
def test_a_later_phase_may_start_with_another_optimizer_or_lr_scheduler(change):
    assert validate(phases_with({}, change)).to_dict()[1].items() >= change.items()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (optimizer("torch.optim.SDG"), r"optimizer_init\.class_path: .*'SDG'.*Did you mean (?i:'SGD')"),
        (optimizer("torhc.optim.SGD"), r"class_path: There is no module 'torhc'"),
        (optimizer("SGD"), "'SGD' is not the path of a class"),
        (optimizer("torch.nn.Linear"), r"a subclass of torch\.optim\.optimizer\.Optimizer is expected"),
        (optimizer("torch.relu"), "a subclass of"),
        (optimizer("torch.optim.SGD", momentun=0.9), r"init_args\.momentun: SGD takes no .*Did you mean 'momentum'"),
        (optimizer("torch.optim.SGD", params=[]), r"init_args\.params: SGD takes no argument 'params'"),
        (lr_scheduler("torch.optim.SGD"), r"lr_scheduler_init\.class_path: .*LRScheduler is expected"),
        (lr_scheduler("torch.optim.lr_scheduler.StepLR"), r"lr_scheduler_init\.init_args: StepLR needs .*'step_size'"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_before_training(change, complaint):
    with pytest.raises(ScheduleError, match=rf"phase 1, .*{complaint}"):
        validate(phases_with({}, change))


def test_the_documented_schedule_fits_the_model_it_is_for(repository):
    names = [
        "model.embeddings.word.weight",
        *(f"model.encoder.layer.{layer}.{part}" for layer in range(12) for part in ("weight", "bias")),
        *("model.pooler.dense.weight", "model.pooler.dense.bias"),
        *("model.classifier.weight", "model.classifier.bias"),
    ]
    full = load_schedule(repository / "tests" / "data" / "full_schedule.yaml")

    resolved = ScheduleValidator().validate(full, dict.fromkeys(names, nn.Parameter(torch.zeros(1))))

    assert [len(phase.params) for phase in resolved.phases] == [2, 2, 23, 2]
    assert [phase.lr for phase in resolved.phases] == [None, 1e-5, 1e-5, 1e-6]
    assert sorted(name for phase in resolved.phases for name in phase.params) == sorted(names)


# -- schedules that adapters resolve -------------------------------------------------------------------------------


def test_a_plain_schedule_of_an_adapter_is_taken_as_it_is():
    plain = {0: {"params": ["top.*", "top.*"]}, 1: {"params": ["bottom"], "max_transition_epoch": 2, "lr": 0.5}, 2: {}}

    resolved = ResolvedSchedule.from_dict(plain, base_max_lr=0.25)

    assert resolved.to_dict() == {
        0: {"params": ["top.*"], "max_transition_epoch": -1},
        1: {"params": ["bottom"], "max_transition_epoch": 2, "lr": 0.5},
        2: {"params": [], "max_transition_epoch": -1, "lr": 0.25},
    }
    assert (resolved.final_depth, resolved.highest_transition_epoch) == (2, 2)


def test_a_resolved_schedule_survives_its_plain_form():
    resolved = validate(phases_with({}, optimizer("torch.optim.SGD", lr=0.1), {"lr": 0.5}))

    assert ResolvedSchedule.from_dict(resolved.to_dict()) == resolved


@pytest.mark.parametrize(
    ("plain", "complaint"),
    [
        ({0: {"params": ["a"]}, 2: {"params": ["b"]}}, "no gaps"),
        ({0: {"params": ["a"], "lrr": 1}}, "Did you mean 'lr'"),
        ({0: {"params": "a"}}, "a list of names"),
        ({0: {"params": [1]}}, "text is expected"),
        ({0: {"params": []}}, "Phase 0 has no params"),
        ({0: {"params": ["a"]}, 1: {"params": ["b"], **optimizer("torch.optim.SDG")}}, "has no 'SDG'"),
    ],
)
def test_a_plain_schedule_with_a_wrong_structure_is_refused(plain, complaint):
    with pytest.raises(ScheduleError, match=complaint):
        ResolvedSchedule.from_dict(plain)
