"""What a run keeps in its own checkpoints can be read back, and nothing that could run code becomes readable."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import zipfile
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from phasewire.app.own_classes import OwnClasses


class Outer(nn.Linear):
    """A module of a user, whose configuration is nested in it."""

    @dataclass
    class Config:
        rate: float = 0.5

        class Mode(Enum):
            FAST = "fast"

    @staticmethod
    def scale(value):
        return value


class Speed(Enum):
    """A choice of a user."""

    FAST = "fast"


OBJECTS = {
    "nested": {"config": Outer.Config(0.25), "modes": [Outer.Config.Mode.FAST]},
    "nested two deep": Outer.Config.Mode.FAST,
    "nested class": [Outer.Config, Outer.Config.Mode],
    "nested function": partial(Outer.scale, 1),
    "nested beside its outer class": [Outer(1, 1), Outer.Config(), Outer],
    "path": Path("data"),
    "options": argparse.Namespace(names={"a"}, rate=0.5),
    "module": nn.Linear(2, 2),
    "numpy": {"score": np.float64(0.5), "scores": np.arange(3)},
    "time": [timedelta(hours=1)],
}


def read(content: object, classes: OwnClasses) -> object:
    torch.save(content, file := io.BytesIO())
    file.seek(0)
    with classes.allowed():
        return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_read_back_by_the_run_that_has_stored_it(name) -> None:
    content = {"state_dict": {"weight": torch.zeros(2)}, "kept": OBJECTS[name]}
    with pytest.raises(pickle.UnpicklingError):
        read(content, OwnClasses())

    classes = OwnClasses()
    classes.note(content)
    assert repr(read(content, classes)["kept"]) == repr(OBJECTS[name])


@pytest.mark.parametrize("kept", [Speed.FAST, Outer.Config.Mode.FAST, Path])
def test_no_file_changes_a_class_that_may_be_read(kept) -> None:
    classes = OwnClasses()
    classes.note({"kept": kept})
    kind = kept if isinstance(kept, type) else type(kept)
    torch.save({}, file := io.BytesIO())
    # BUILD sets attributes of what is on the stack: of the class itself.
    owner, _, name = kind.__qualname__.rpartition(".")
    named = f"c{kind.__module__}\n{kind.__qualname__}\n" if not owner else f"c{kind.__module__}\n{owner}\n"
    step = f"cbuiltins\ngetattr\n({named}X{chr(len(name))}\0\0\0{name}tR" if owner else named
    harm = b"\x80\x02" + step.encode() + b"(N}X\x05\x00\x00\x00labelX\x05\x00\x00\x00ownedstb."
    with pytest.raises(pickle.UnpicklingError), classes.allowed():
        torch.load(with_pickle(file, harm), weights_only=True)
    assert not hasattr(kind, "label")


def with_pickle(file: io.BytesIO, content: bytes) -> io.BytesIO:
    """A checkpoint with another pickle in it."""
    changed = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, content if entry.filename.endswith("data.pkl") else source.read(entry))
    changed.seek(0)
    return changed


def test_plain_checkpoints_need_no_classes() -> None:
    before, classes = set(torch.serialization.get_safe_globals()), OwnClasses()
    classes.note({"state_dict": {"a": torch.zeros(1)}, "epoch": 1, "callbacks": {"x": [(1, "two"), None, {"y": 0.5}]}})
    with classes.allowed():
        assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("kept", [partial(os.getenv, "HOME"), partial(eval, "1"), partial(getattr, 1)])
def test_what_could_run_anything_is_never_read_back(kept) -> None:
    classes = OwnClasses()
    classes.note({"kept": kept})
    with pytest.raises(pickle.UnpicklingError):
        read({"kept": kept}, classes)


def local_class_stored_as_a_path() -> object:
    class Local:
        def __reduce__(self):
            return Path, ("a",)

    return Local()


def renamed() -> object:
    made = dataclass(type("Made", (), {}))
    made.__qualname__ = "Outer.Made"
    return made()


@pytest.mark.parametrize("make", [lambda: lambda: None, local_class_stored_as_a_path, renamed])
def test_what_cannot_be_stored_is_left_to_torch(make) -> None:
    OwnClasses().note({"kept": make()})


def test_what_contains_itself_is_looked_at_once() -> None:
    kept = [Path("a")]
    kept.append(kept)
    classes = OwnClasses()
    classes.note({"kept": kept})
    assert read({"kept": [Path("a")]}, classes) == {"kept": [Path("a")]}


class Calls:
    """Is pickled as a call of what it is given."""

    def __init__(self, *call):
        self._call = call

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    "kept",
    [
        Outer,
        Calls(Outer, (1, 1)),
        Calls(getattr, (Outer, "scale")),
        Calls(getattr, (Outer, "__init__")),
        Calls(getattr, (Outer.Config, "Mode")),
        Calls(getattr, (Outer.Config, "__init__")),
        Calls(getattr, (Path, "home")),
    ],
)
def test_nested_classes_open_no_way_to_others(kept) -> None:
    classes = OwnClasses()
    classes.note({"kept": [Outer.Config(), Path("a")]})
    try:
        given = read({"kept": kept}, classes)["kept"]
    except (pickle.UnpicklingError, TypeError):
        return  # TypeError: what stands for the outer class cannot be called
    assert kept is Outer  # a name that leads on to what was stored, and nothing that can be called
    assert not callable(given)
