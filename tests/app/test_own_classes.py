"""What a run keeps in its own checkpoints can be read back, and nothing that could run code becomes readable."""

from __future__ import annotations

import argparse
import cProfile
import ctypes
import importlib
import inspect
import io
import operator
import os
import pickle
import pkgutil
import runpy
import shutil
import subprocess
import sys
import timeit
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

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
    "nested beside its outer class": [Outer(1, 1), Outer.Config(), Outer],
    "path": Path("data"),
    "options": argparse.Namespace(names={"a"}, rate=0.5),
    "module": nn.Linear(2, 2),
    "numpy": {"score": np.float64(0.5), "scores": np.arange(3)},
    "numpy objects": np.array(["a", None], dtype=object),
    "time": [timedelta(hours=1), date(2024, 1, 2), datetime(2024, 1, 2, tzinfo=UTC)],
    "numbers": [Decimal("0.5"), Fraction(1, 2), UUID(int=1), range(3), slice(1, 2), frozenset({1})],
    "types": [int, dict, Any, SimpleNamespace(a=1), defaultdict(list)],
    "optimizer to be": partial(torch.optim.AdamW, lr=0.5),
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


def own_function(command: str) -> None:
    """Stands for a function of a user that runs what it is given."""
    raise AssertionError(command)


#: What could find, run, remove or import something.
HARMFUL = [
    *(os.system, os.getenv, os.remove, shutil.rmtree, subprocess.run, subprocess.Popen, ctypes.CDLL, zipfile.ZipFile),
    *(operator.attrgetter, operator.methodcaller, operator.itemgetter, importlib.import_module, pkgutil.resolve_name),
    *(runpy.run_path, cProfile.run, timeit.timeit, timeit.Timer, pickle.loads, pickle.Unpickler, io.FileIO, io.open),
    *(eval, exec, compile, __import__, getattr, setattr, type, property, classmethod, map, filter),
    *(torch.hub.load, torch.load, np.load, np.fromfile, own_function, Outer.scale),
]


@pytest.mark.parametrize("harmful", HARMFUL, ids=lambda each: f"{each.__module__}.{each.__qualname__}")
@pytest.mark.parametrize("keeping", [partial, lambda each: each], ids=["in a partial", "by itself"])
def test_what_could_run_anything_is_never_read_back(harmful, keeping) -> None:
    kept = keeping(harmful)
    classes = OwnClasses()
    classes.note({"kept": kept})
    with pytest.raises(pickle.UnpicklingError):
        read({"kept": kept}, classes)


@pytest.mark.parametrize(
    "calling", [operator.attrgetter("system"), operator.methodcaller("unlink"), operator.itemgetter(0)], ids=repr
)
def test_what_would_find_or_call_attributes_is_never_read_back(calling) -> None:
    classes = OwnClasses()
    classes.note({"kept": calling})
    with pytest.raises(pickle.UnpicklingError):
        read({"kept": calling}, classes)


def of_the_standard_library(found: object) -> bool:
    module = getattr(found, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in sys.stdlib_module_names


def test_of_the_standard_library_a_short_list_of_harmless_classes_is_read() -> None:
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in sys.stdlib_module_names]
    # From the module's dict: to ask for an attribute may import one, or warn that it is deprecated.
    members = {each for module in modules for each in vars(module).values() if type_or_function(each)}
    members = set(filter(of_the_standard_library, members))
    assert len(members) > 1000
    assert {os.system, shutil.rmtree, subprocess.Popen, io.open, cProfile.run} <= members

    before, readable = set(torch.serialization.get_safe_globals()), set()
    for member in members:
        classes = OwnClasses()
        classes.note({"kept": member})
        with classes.allowed():
            readable |= set(torch.serialization.get_safe_globals()) - before
    names = {name.partition(".")[0] + "." + name.rpartition(".")[2] for _, name in readable}
    assert names - {f"builtins.{name}" for name in BUILTINS.split()} == set(STANDARD.split())
    assert not {found for found, _ in readable if inspect.isroutine(found)}


def type_or_function(found: object) -> bool:
    return isinstance(found, type) or inspect.isroutine(found)


BUILTINS = "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple"
STANDARD = """
    argparse.Namespace collections.Counter collections.OrderedDict collections.defaultdict datetime.date
    datetime.datetime datetime.time datetime.timedelta datetime.timezone decimal.Decimal fractions.Fraction
    functools.partial pathlib.Path pathlib.PosixPath pathlib.PurePath pathlib.PurePosixPath pathlib.PureWindowsPath
    pathlib.WindowsPath types.SimpleNamespace typing.Any uuid.UUID
"""


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
