"""Whatever stands in a checkpoint where Phasewire keeps its own: it is read, or refused by an error of ours."""

from __future__ import annotations

import copy
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phasewire.adapters import CheckpointError
from phasewire.adapters.checkpoint_names import recorded_namings, recorded_ties
from phasewire.adapters.errors import did_you_mean
from phasewire.app import FTSCheckpoint, FTSEarlyStopping
from phasewire.app.checkpoint import refuse_newer_format
from phasewire.app.phases.checkpoint_files import relocated
from phasewire.app.phases.state import OptimizationState, PhaseState

STATE = PhaseState(
    depth=1,
    schedule=[{"params": ["a"]}, {"params": ["b"], "lr": 0.1}],
    loop={"metrics": {"val_loss": 1.0}, "validation_follows": True},
    put_off=["x.ckpt"],
    versions={"torch": "2"},
    begun=True,
    criteria=[{"name": "epochs", "distribution": None, "options": {}, "over": False, "state": {}}],
    optimization=OptimizationState(groups=[["a"], ["b"]], lr_scheduler_groups=1, without_decay=[0]),
).to_dict()
PIECE = {"stored": "B", "dim": 0, "ranges": [[0, 1]], "transposed": False, "derived": False}
RECORD = {
    "format": 1,
    "parameter_names": "own",
    "namings": {"hf": {"tensors": {"a": "A", "b": PIECE}, "aliases": {"C": "A"}, "zeros": {"z": [[1, 2], "float32"]}}},
    "tied": {"t": "a"},
}
ONES = [torch.zeros(2), torch.zeros(2, 2), torch.tensor(1.5)]
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=4)),
    st.sampled_from([*ONES, math.inf, 2**70, "../x"]),
)
KEYS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


def places_in(content: object, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [keys, *(place for key, item in items for place in places_in(item, (*keys, key)))]


def with_value(content: object, place: tuple[Any, ...], value: object) -> object:
    if not place:
        return value
    changed = copy.deepcopy(content)
    at = changed
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return changed


def changed(content: object) -> st.SearchStrategy[object]:
    return st.builds(with_value, st.just(content), st.sampled_from(places_in(content)), VALUES)


def read_or_refuse(read, *arguments: object) -> None:
    with suppress(CheckpointError):
        read(*arguments)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@given(changed(STATE))
def test_the_state_of_a_schedule(saved) -> None:
    read_or_refuse(PhaseState.from_dict, saved)


@given(changed(RECORD))
def test_the_record_of_names(record) -> None:
    read_or_refuse(recorded_namings, record)
    read_or_refuse(recorded_ties, record)
    read_or_refuse(refuse_newer_format, {"phasewire": record}, "a.ckpt")


@given(changed(FTSEarlyStopping(monitor="val_loss").state_dict()))
def test_the_state_of_early_stopping(state) -> None:
    read_or_refuse(FTSEarlyStopping(monitor="val_loss").load_state_dict, state)


@given(changed({**FTSCheckpoint("best").state_dict(), "best_k_models": {"a.ckpt": torch.tensor(1.0)}}))
def test_the_state_of_a_checkpoint_callback(state) -> None:
    read_or_refuse(FTSCheckpoint("best").load_state_dict, state)


def test_keys_that_are_no_text_have_near_names_too() -> None:
    assert did_you_mean("1.5", [1.5, None]) == "Did you mean '1.5'?"


def test_files_to_remove_are_not_named_round_the_folder_of_the_run(tmp_path: Path) -> None:
    hidden = str(tmp_path / "best" / ".." / "others.ckpt")
    state = relocated({"best_model_path": hidden, "best_k_models": {hidden: 1.0}}, tmp_path / "best")
    assert state["best_model_path"] == str(tmp_path / "others.ckpt")
    assert list(state["best_k_models"]) == [str(tmp_path / "others.ckpt")]
