"""What a schedule file may say, and how what it may not is refused."""

import gc
import pickle
from contextlib import suppress
from types import MappingProxyType

import numpy as np
import pytest

from phasewire.app import Phase, Schedule, ScheduleError
from phasewire.app.schedule import ClassInit, load_schedule


@pytest.fixture
def written(tmp_path):
    """Writes a schedule file."""

    def write(text):
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return file

    return write


def test_every_key_of_a_schedule_is_read(repository):
    schedule = load_schedule(repository / "tests" / "data" / "full_schedule.yaml")

    assert schedule.to_dict() == {
        0: {"params": ["model.classifier.*"], "max_transition_epoch": 3},
        1: {"params": ["model.encoder.layer.11.*"], "lr": 1e-5},
        2: {
            "params": [r"model.encoder.layer.(?!11\.)\d+.*", "model.embeddings.*"],
            "new_optimizer": {"optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e-5}}},
            "new_lr_scheduler": {
                "lr_scheduler_init": {
                    "class_path": "torch.optim.lr_scheduler.StepLR",
                    "init_args": {"step_size": 1, "gamma": 0.7},
                },
                "pl_lrs_cfg": {"interval": "epoch", "frequency": 1, "name": "Explicit_Reinit_LR_Scheduler"},
                "use_current_optimizer_pg_lrs": True,
                "init_pg_lrs": [1e-6, 1e-6, 2e-6],
            },
        },
        3: {
            "params": ["model.pooler.dense.bias", "model.pooler.dense.weight"],
            "max_transition_epoch": 9,
            "lr": 1e-6,
            "new_lr_scheduler": {
                "lr_scheduler_init": {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"},
                "pl_lrs_cfg": {"monitor": "val_loss", "strict": False, "reduce_on_plateau": True},
            },
        },
    }


@pytest.mark.parametrize("key", [0, "0", 0.0, "00", np.int64(0)])
def test_a_phase_may_be_numbered_by_anything_that_is_a_whole_number(key):
    assert Schedule.from_mapping({key: {"params": ["a"]}}).depths == (0,)


@pytest.mark.parametrize("key", [True, False, None, 0.5, "-1", "1.0", "one", "", "²", float("nan"), (0,)])
def test_a_key_that_is_no_number_is_refused(key):
    with pytest.raises(ScheduleError, match=r"The key .* the number of a phase is expected"):
        Schedule.from_mapping({key: {"params": ["a"]}})


def test_a_setting_outside_the_phases_is_refused_with_its_line(written):
    with pytest.raises(ScheduleError, match=r"mine\.yaml, line 2: The key 'lr' is text, and the number of a phase"):
        load_schedule(written("0: {params: [a]}\nlr: 0.1\n"))


def test_two_keys_that_are_one_number_are_refused_with_both_lines(written):
    with pytest.raises(
        ScheduleError, match=r"mine\.yaml, line 2: The keys 1 and '1' are both .* phase 1; .*mine\.yaml, line 1"
    ):
        load_schedule(written("1: {params: [a]}\n'1': {params: [b]}\n"))


def test_phases_are_ordered_by_number():
    assert [phase.params for phase in Schedule.from_mapping({"1": {"params": ["b"]}, 0: {"params": ["a"]}}).phases] == [
        ("a",),
        ("b",),
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n"])
def test_a_schedule_without_phases_is_refused(written, text):
    with pytest.raises(ScheduleError, match=r"mine\.yaml: The schedule has no phases"):
        load_schedule(written(text))


def test_a_file_that_is_no_mapping_is_refused(written):
    with pytest.raises(ScheduleError, match=r"mine\.yaml, line 1: A mapping .* is expected"):
        load_schedule(written("- params: [a]\n"))


def test_a_missing_file_is_refused_with_the_nearest_name(written):
    file = written("0: {params: [a]}\n")

    with pytest.raises(ScheduleError, match=r"There is no such file\. Did you mean 'mine\.yaml'"):
        load_schedule(file.with_name("mien.yaml"))


def test_what_is_no_schedule_at_all_is_refused():
    with pytest.raises(ScheduleError, match="3 is a number, and a schedule is expected"):
        load_schedule(3)


@pytest.mark.parametrize(
    ("line", "place", "complaint"),
    [
        ("max_transition_epochs: 3", "phase 0, max_transition_epochs", "Did you mean 'max_transition_epoch'"),
        (
            "new_optimizer: {optimiser_init: {}}",
            "phase 0, new_optimizer.optimiser_init",
            "Did you mean 'optimizer_init'",
        ),
        ("new_optimizer: {optimizer_init: {class_path: a.B, init_arg: {}}}", r"init_arg", "Did you mean 'init_args'"),
        (
            "new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, pl_lrs_cfg: {intervall: step}}",
            "phase 0, new_lr_scheduler.pl_lrs_cfg.intervall",
            "Did you mean 'interval'",
        ),
        ("new_lr_scheduler: {}", "phase 0, new_lr_scheduler.lr_scheduler_init", "'lr_scheduler_init' is missing"),
        ("7: 3", r"phase 0, 7|phase 0, \[7\]", "There is no key 7 here"),
    ],
)
def test_an_unknown_or_missing_key_is_refused_at_every_level(written, line, place, complaint):
    with pytest.raises(ScheduleError, match=rf"mine\.yaml, line 3, .*({place}).*: .*{complaint}") as refused:
        load_schedule(written(f"0:\n  params: [a]\n  {line}\n"))
    assert str(refused.value).count("mine.yaml") == 1


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("params: head.*", r"'head.\*' is text, and a list of names or patterns, such as \[head.\*\], is expected"),
        ("params: {a: b}", "is a mapping, and a list"),
        ("params: [1.5]", r"params\[0\]: 1.5 is a number, and text is expected"),
        ("params: ['']", "The pattern at index 0 is empty"),
        ("lr: true", "lr: True is a truth value, and a number is expected"),
        ("lr: fast", "'fast' cannot be read as a number"),
        ("lr: -1.0e-05", "-1e-05 is no learning rate"),
        ("lr: .nan", "nan is no learning rate"),
        ("lr: .inf", "inf is no learning rate"),
        ("lr: [1.0]", r"\[1.0\] is a list, and a number is expected"),
        ("max_transition_epoch: false", "False is a truth value, and a whole number is expected"),
        ("max_transition_epoch: 2.5", "2.5 is a number, and a whole number is expected"),
        ("max_transition_epoch: -2", "-2 is too low; the lowest number allowed is -1"),
        ("max_transition_epoch: three", "'three' is text, and a whole number is expected"),
        ("new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, init_pg_lrs: 0.1}", "a list of numbers is expected"),
        ("new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, init_pg_lrs: [true]}", "True is a truth value"),
        (
            "new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, use_current_optimizer_pg_lrs: 1}",
            "1 is a number, and true or false is expected",
        ),
        (
            "new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, pl_lrs_cfg: {interval: day}}",
            "'day' cannot be used: .*'epoch' or 'step'",
        ),
        (
            "new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, pl_lrs_cfg: {frequency: 0}}",
            "0 is too low; the lowest number allowed is 1",
        ),
        ("new_optimizer: torch.optim.SGD", "'torch.optim.SGD' is text, and a mapping .* is expected"),
        ("new_optimizer: {optimizer_init: {class_path: 3}}", "class_path: 3 is a number, and text is expected"),
        ("new_optimizer: {optimizer_init: {class_path: a.B, init_args: [1]}}", r"\[1\] is a list, and a mapping"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_line(written, line, complaint):
    with pytest.raises(ScheduleError, match=rf"mine\.yaml, line 2, phase 0, .*{complaint}"):
        load_schedule(written(f"0:\n  {line}\n"))


def test_a_phase_that_is_no_mapping_is_refused(written):
    with pytest.raises(ScheduleError, match=r"mine\.yaml, line 2, phase 1: .* is a list, and a mapping"):
        load_schedule(written("0: {params: [a]}\n1: [b]\n"))


def test_several_mistakes_are_told_together(written):
    with pytest.raises(ScheduleError) as refused:
        load_schedule(written("0:\n  lr: x\n1:\n  max_transition_epoch: y\n  parms: [a]\n"))

    lines = str(refused.value).splitlines()
    assert lines[0] == "The schedule has 3 mistakes:"
    assert ["line 2, phase 0, lr" in lines[1], "line 4" in lines[2], "line 5" in lines[3]] == [True] * 3


def test_of_many_mistakes_a_few_are_told():
    with pytest.raises(ScheduleError, match="The schedule has 1,000 mistakes:") as refused:
        Schedule.from_mapping({depth: {"lr": "x"} for depth in range(1000)})

    assert str(refused.value).endswith("and 995 more")


def test_a_value_that_contains_itself_is_refused():
    arguments = {}
    arguments["self"] = arguments

    with pytest.raises(ScheduleError, match="phase 0, new_optimizer: A value contains itself"):
        Schedule.from_mapping({0: {"new_optimizer": {"optimizer_init": {"class_path": "a.B", "init_args": arguments}}}})


@pytest.mark.parametrize("rate", [1e-5, "1e-5", "0.00001", np.float32(0), 0, "0"])
def test_a_learning_rate_may_be_any_number_from_zero_on_also_as_text(rate):
    assert Phase(lr=rate).lr == float(rate)


@pytest.mark.parametrize(("given", "epoch"), [(3, 3), (3.0, 3), ("3", 3), (-1, -1), ("-1", -1), (None, -1)])
def test_an_epoch_may_be_any_whole_number_also_as_text(given, epoch):
    assert Phase(max_transition_epoch=given).max_transition_epoch == epoch


@pytest.mark.parametrize("phase", [{}, None, {"params": None}, {"params": []}])
def test_a_phase_may_be_empty(phase):
    assert Schedule.from_mapping({0: phase}).phases == (Phase(),)


def test_any_mapping_is_read_and_none_is_changed_or_shared():
    betas = [0.8, 0.9]
    init = MappingProxyType({"class_path": "torch.optim.Adam", "init_args": MappingProxyType({"betas": betas})})
    given = MappingProxyType({0: MappingProxyType({"params": ["a"], "new_optimizer": {"optimizer_init": init}})})

    schedule = Schedule.from_mapping(given)
    betas.append(1.0)
    schedule.to_dict()[0]["new_optimizer"]["optimizer_init"]["init_args"].clear()

    assert schedule.to_dict()[0]["new_optimizer"] == {
        "optimizer_init": {"class_path": "torch.optim.Adam", "init_args": {"betas": [0.8, 0.9]}}
    }


def test_a_schedule_can_be_made_of_phases():
    schedule = Schedule(phases=(Phase(params=("a",)), Phase(params=("b",), lr=0.1)))

    assert schedule == Schedule.from_mapping({0: {"params": ["a"]}, 1: {"params": ["b"], "lr": 0.1}})
    assert load_schedule(schedule) is schedule


@pytest.mark.parametrize(
    ("construct", "complaint"),
    [
        (lambda: Phase(parms=["a"]), "parms: There is no key 'parms' here. Did you mean 'params'"),
        (lambda: Phase(lr=True), "lr: True is a truth value"),
        (lambda: ClassInit(class_pth="a.B"), "Did you mean 'class_path'"),
        (lambda: Schedule(phases=()), "The schedule has no phases"),
        (lambda: Schedule(phases=(Phase(),), depths=(0, 1)), "1 phases cannot have the numbers"),
        (lambda: Schedule(phases=(Phase(), Phase()), depths=(1, 0)), "ascending"),
    ],
)
def test_what_is_built_in_code_is_refused_in_the_same_way(construct, complaint):
    with pytest.raises(ScheduleError, match=complaint):
        construct()


def test_schedules_and_phases_cannot_be_changed():
    schedule = Schedule(phases=(Phase(params=("a",)),))

    with pytest.raises(AttributeError):
        schedule.phases = ()
    with pytest.raises(AttributeError):
        schedule.phases[0].lr = 1.0


def test_a_schedule_from_a_file_can_be_sent_to_another_process(written):
    schedule = load_schedule(written("0: {params: [a]}\n"))

    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301  # our own bytes


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("text", ["0: {params: [a]}\n", "0: {parms: [a]}\n"])
def test_reading_leaves_the_garbage_collector_as_it_was(written, text, collecting):
    was_on = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        with suppress(ScheduleError):
            load_schedule(written(text))
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if was_on else gc.disable)()
