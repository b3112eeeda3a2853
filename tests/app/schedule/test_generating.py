"""The default schedule."""

import pytest

from phasewire.app import ScheduleError
from phasewire.app.schedule import generate_default


def test_two_names_a_phase_are_taken_from_the_last_on():
    schedule = generate_default(["a.weight", "a.bias", "b.weight", "b.bias"])

    assert schedule.to_dict() == {0: {"params": ["b.bias", "b.weight"]}, 1: {"params": ["a.bias", "a.weight"]}}


def test_a_name_left_over_is_alone_in_the_last_phase():
    assert [phase.params for phase in generate_default(["a", "b", "c"]).phases] == [("c", "b"), ("a",)]


def test_without_names_there_is_no_schedule():
    with pytest.raises(ScheduleError, match="No parameter is known"):
        generate_default([])
