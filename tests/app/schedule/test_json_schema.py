"""The JSON Schema accepts what Phasewire reads, and refuses what it refuses, as far as a schema can tell."""

from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from phasewire.app import Schedule, ScheduleError
from phasewire.app.schedule.json_schema import SCHEMA_FILE, schedule_schema, write_schema
from phasewire.app.schedule.rules import check_phase_zero

SCHEMA = schedule_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def as_json(value):
    """What a validator sees of a YAML file: keys are text."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


def accepted_by_schema(text):
    return VALIDATOR.is_valid(as_json(yaml.safe_load(text)))


def accepted_by_reader(mapping):
    with contextlib.suppress(ScheduleError):
        schedule = Schedule.from_mapping(mapping)
        if schedule.depths[0] == 0:
            from phasewire.app.schedule.places import Places

            check_phase_zero(schedule, Places())
            return True
    return False


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def schedule_files(repository):
    found = [*repository.glob("tests/data/*.yaml"), *repository.glob("examples/**/*.yaml")]
    for file in found:
        content = yaml.safe_load(file.read_text())
        if all(isinstance(key, int) for key in content):
            yield file, content


def test_every_schedule_file_of_the_repository_is_accepted(repository):
    files = dict(schedule_files(repository))
    assert len(files) >= 3
    assert {file.name: [error.message for error in VALIDATOR.iter_errors(as_json(files[file]))] for file in files} == {
        file.name: [] for file in files
    }


PHASE_ZERO = "0: {params: [head.*]}\n"


@pytest.mark.parametrize(
    "text",
    [
        "'0': {params: [a]}",
        "0.0: {params: [a]}",
        "'00': {params: [a], lr: 1, max_transition_epoch: 3.0}",
        PHASE_ZERO + "1:",
        PHASE_ZERO + "1: {}",
        PHASE_ZERO + "1: {params: , lr: '1e-5', max_transition_epoch: '-1'}",
        PHASE_ZERO + "1: {lr: 1e-5}",
        PHASE_ZERO + "10: {params: [b]}",
        PHASE_ZERO + "1: {new_optimizer: {optimizer_init: {class_path: a.B, init_args: }}}",
        PHASE_ZERO + "1: {new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, init_pg_lrs: [1, '2e-3']}}",
        PHASE_ZERO + "1: {new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, pl_lrs_cfg: {frequency: '2'}}}",
    ],
)
def test_what_is_read_is_accepted(text):
    assert accepted_by_reader(yaml.safe_load(text))
    assert accepted_by_schema(text)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "lr: 3",
        "1: {params: [a]}",
        "0: {}",
        "0:",
        "0: {params: []}",
        "0: {params: [a], lrr: 3}",
        "0: {params: [a]}\none: {params: [b]}",
        "0: {params: [a]}\n-1: {params: [b]}",
        "0: {params: [a]}\n0.5: {params: [b]}",
        "0: {params: [a], new_optimizer: {optimizer_init: {class_path: a.B}}}",
        "0: {params: [a], new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}}}",
        "0: {params: head}",
        "0: {params: [a, '']}",
        "0: {params: [1]}",
        PHASE_ZERO + "1: [a]",
        PHASE_ZERO + "1: {lr: -1}",
        PHASE_ZERO + "1: {lr: '-1'}",
        PHASE_ZERO + "1: {lr: fast}",
        PHASE_ZERO + "1: {lr: 'nan'}",
        PHASE_ZERO + "1: {lr: true}",
        PHASE_ZERO + "1: {max_transition_epoch: -2}",
        PHASE_ZERO + "1: {max_transition_epoch: '-2'}",
        PHASE_ZERO + "1: {max_transition_epoch: 1.5}",
        PHASE_ZERO + "1: {max_transition_epoch: false}",
        PHASE_ZERO + "1: {new_optimizer: {}}",
        PHASE_ZERO + "1: {new_optimizer: {optimizer_init: {init_args: {lr: 1}}}}",
        PHASE_ZERO + "1: {new_optimizer: {optimizer_init: {class_path: 3}}}",
        PHASE_ZERO + "1: {new_optimizer: {optimizer_init: {class_path: a.B, args: {}}}}",
        PHASE_ZERO + "1: {new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, init_pg_lrs: 3}}",
        PHASE_ZERO + "1: {new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, init_pg_lrs: [-3]}}",
        PHASE_ZERO + "1: {new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, pl_lrs_cfg: {interval: day}}}",
        PHASE_ZERO + "1: {new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, pl_lrs_cfg: {frequency: 0}}}",
        PHASE_ZERO + "1: {new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, pl_lrs_cfg: {strict: 1}}}",
        PHASE_ZERO + "1: {new_lr_scheduler: {lr_scheduler_init: {class_path: a.B}, use_current_optimizer_pg_lrs: 1}}",
    ],
)
def test_what_is_refused_is_refused_by_the_schema(text):
    content = yaml.safe_load(text)
    assert not isinstance(content, dict) or not accepted_by_reader(content)
    assert not accepted_by_schema(text)


KEYS = st.sampled_from([0, 1, 2, 3, "0", "1", "02", "x", "-1", "1.0", 0.0, 1.0, 0.5])
NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-2, 2, allow_nan=False),
    st.text("0123456789.-+e_ ", max_size=6),
)
PHASES = st.fixed_dictionaries(
    {},
    optional={
        "params": st.one_of(st.none(), st.just("a"), st.lists(st.sampled_from(["a", "b.*", ""]), max_size=2)),
        "lr": NUMBERS,
        "max_transition_epoch": NUMBERS,
        "unknown": st.just(1),
    },
)


def no_key_twice(mapping):
    return len({str(key) for key in mapping}) == len(mapping) and len({float(k) for k in mapping if k != "x"}) == len(
        [k for k in mapping if k != "x"]
    )


@given(st.dictionaries(KEYS, st.one_of(st.none(), PHASES), max_size=3).filter(no_key_twice))
def test_the_schema_says_what_the_reader_says(mapping):
    # YAML has no text keys that look like floats but those that are quoted, and JSON has no others.
    if any(isinstance(key, str) and "." in key for key in mapping):
        return
    assert VALIDATOR.is_valid(as_json(mapping)) == accepted_by_reader(mapping)


def test_the_schema_beside_schedules_is_renewed_but_no_other_file_is(tmp_path):
    file = tmp_path / SCHEMA_FILE
    assert write_schema(tmp_path) == f"./{SCHEMA_FILE}"
    written = file.read_text()
    file.write_text(json.dumps({"title": SCHEMA["title"], "of": "an older version"}))
    assert write_schema(tmp_path) == f"./{SCHEMA_FILE}"
    assert file.read_text() == written
    for other in ("my own notes", "{}", '{"title": "mine"}'):
        file.write_text(other)
        assert write_schema(tmp_path) is None
        assert file.read_text() == other
