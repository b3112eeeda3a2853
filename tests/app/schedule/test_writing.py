"""Schedules written as YAML."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasewire.app import Phase, Schedule, ScheduleError, ScheduleValidator
from phasewire.app.config_file import parse_yaml
from phasewire.app.schedule import (
    HEADER,
    ClassInit,
    LightningLRConfig,
    LRSchedulerReinit,
    OptimizerReinit,
    dump_schedule,
    load_schedule,
    save_schedule,
)

RATES = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
DATA = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
CLASSES = st.builds(ClassInit, class_path=st.text(), init_args=st.dictionaries(st.text(), DATA, max_size=3))
LR_CONFIGS = st.builds(
    LightningLRConfig,
    interval=st.sampled_from([None, "epoch", "step"]),
    frequency=st.none() | st.integers(1),
    name=st.none() | st.text(),
    monitor=st.none() | st.text(),
    strict=st.none() | st.booleans(),
    reduce_on_plateau=st.none() | st.booleans(),
)
PHASES = st.builds(
    Phase,
    params=st.lists(st.text(min_size=1), max_size=4).map(tuple),
    max_transition_epoch=st.integers(-1),
    lr=st.none() | RATES,
    new_optimizer=st.none() | st.builds(OptimizerReinit, optimizer_init=CLASSES),
    new_lr_scheduler=st.none()
    | st.builds(
        LRSchedulerReinit,
        lr_scheduler_init=CLASSES,
        pl_lrs_cfg=st.none() | LR_CONFIGS,
        use_current_optimizer_pg_lrs=st.none() | st.booleans(),
        init_pg_lrs=st.none() | st.lists(RATES, max_size=3),
    ),
)


@st.composite
def schedules(draw):
    phases = draw(st.lists(PHASES, min_size=1, max_size=4))
    depths = draw(st.lists(st.integers(), min_size=len(phases), max_size=len(phases), unique=True))
    return Schedule(phases=tuple(phases), depths=tuple(sorted(depths)))


@settings(deadline=None)  # a busy machine is no mistake
@given(schedules())
def test_what_is_written_is_read_back_equal(schedule):
    assert Schedule.from_mapping(parse_yaml(dump_schedule(schedule)).mapping()) == schedule


@settings(deadline=None)  # a busy machine is no mistake
@given(schedules())
def test_plain_python_is_read_back_equal(schedule):
    assert Schedule.from_mapping(schedule.to_dict()) == schedule


def test_a_written_file_is_read_back_equal(tmp_path, repository):
    schedule = load_schedule(repository / "tests" / "data" / "full_schedule.yaml")

    assert load_schedule(save_schedule(schedule, tmp_path / "copy.yaml")) == schedule


def test_the_text_is_readable_and_says_how_to_edit_it():
    text = dump_schedule(
        Schedule(
            phases=(Phase(params=("head.bias", r"body\.\d+"), max_transition_epoch=3), Phase(params=["a"], lr=1e-5))
        )
    )

    assert text == (
        HEADER + "0:\n  params:\n  - head.bias\n  - body\\.\\d+\n  max_transition_epoch: 3\n"
        "1:\n  params:\n  - a\n  lr: 1.0e-05\n"
    )
    for key in ("params", "max_transition_epoch", "lr", "new_optimizer", "new_lr_scheduler"):
        assert key in HEADER
    assert all(line.startswith("#") for line in HEADER.splitlines())


def test_a_resolved_schedule_can_be_written(tmp_path):
    resolved = ScheduleValidator().validate(
        Schedule(phases=(Phase(params=["0.*"]), Phase(params=["1.*"]))),
        dict(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)).named_parameters()),
        base_max_lr=0.5,
    )

    assert load_schedule(save_schedule(resolved.to_dict(), tmp_path / "used.yaml")).to_dict() == {
        0: {"params": ["0.weight", "0.bias"]},
        1: {"params": ["1.weight", "1.bias"], "lr": 0.5},
    }


def test_a_file_with_another_content_is_not_written_over(tmp_path):
    edited = tmp_path / "mine.yaml"
    edited.write_text("0: {params: [a]}\n")
    schedule = Schedule(phases=(Phase(params=["a"]),))

    first, again = save_schedule(schedule, edited), save_schedule(schedule, edited)

    assert edited.read_text() == "0: {params: [a]}\n"
    assert first == again == tmp_path / "mine_1.yaml"


def test_a_mapping_is_checked_before_it_is_written(tmp_path):
    with pytest.raises(ScheduleError, match="Did you mean 'params'"):
        save_schedule({0: {"parms": ["a"]}}, tmp_path / "mine.yaml")

    assert not list(tmp_path.iterdir())


def test_a_value_that_is_no_data_is_named():
    init = {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": [len]}}
    schedule = Schedule.from_mapping({0: {}, 1: {"new_lr_scheduler": {"lr_scheduler_init": init}}})

    with pytest.raises(
        ScheduleError, match=r"phase 1, new_lr_scheduler.*lr_lambda\[0\]: <built-in function len> .* cannot be written"
    ):
        dump_schedule(schedule)


def test_text_that_no_file_can_hold_is_refused():
    with pytest.raises(ScheduleError, match="cannot be written as YAML"):
        dump_schedule(Schedule(phases=(Phase(params=["\ud800"]),)))
