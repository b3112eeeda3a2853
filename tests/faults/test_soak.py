"""A short soak: what benchmarks/soak.py counts in hours stays where it is for as long as a test can take."""

from __future__ import annotations

import importlib.util
import sys

import pytest

TRANSITIONS, FITS = 100, 20
#: Objects that the collector may know more of: a few for each look that the soak itself takes.
MOST_NEW_OBJECTS = 50


@pytest.fixture(scope="module")
def soak(pytestconfig):
    spec = importlib.util.spec_from_file_location("soak", pytestconfig.rootpath / "benchmarks" / "soak.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # dataclasses look their module up
    yield module if spec.loader.exec_module(module) is None else None
    del sys.modules["soak"]


def test_transitions_leave_nothing_behind(soak):
    seen = soak.soak_transitions(TRANSITIONS, looks=2)

    assert seen.problems == []
    assert seen.growth(after=1).objects < MOST_NEW_OBJECTS
    assert seen.growth(after=1).files == 0
    assert seen.log_is_linear()


def test_fits_with_one_container_leave_nothing_behind_whether_they_fail_or_not(soak):
    seen = soak.soak_fits(FITS, looks=4)

    assert seen.problems == []
    assert seen.growth(after=FITS // 4).objects < MOST_NEW_OBJECTS
    assert seen.growth(after=FITS // 4).files == 0
    assert seen.log_is_linear()


def test_a_soak_tells_what_grows(soak):
    held = [soak.Held(memory=size, objects=size, files=size, logged=size) for size in (0, 1, 2_000_000)]
    grown = soak.checked(soak.Soak("title", "fits", list(enumerate(held))), after=1)

    assert [problem.partition(" ")[2] for problem in grown.problems] == [
        "grew by 2.00 MB after the first 1 fits",
        "more files are open",
        "is logged does not grow in proportion",
    ]
