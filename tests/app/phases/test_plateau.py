"""The plateau criterion: when a straight line through the newest values of a metric says that a phase is over."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phasewire.adapters import ConfigError, PhaseProgress
from phasewire.app.phases.plateau import PlateauCriterion


def progress(value: float, epoch: int = 0) -> PhaseProgress:
    metrics = {"val_loss": torch.tensor(value, dtype=torch.float64)}
    return PhaseProgress(SimpleNamespace(callback_metrics=metrics, current_epoch=epoch), 0, 1, 0, -1)


def answers(values: list[float], **options: object) -> list[bool]:
    criterion = PlateauCriterion(**options)
    criterion.begin_phase(progress(0.0))
    return [criterion.after_validation(progress(value)) for value in values]


@pytest.mark.parametrize(
    ("values", "options", "over"),
    [
        # Falls by a tenth of its mean each time: 5.5, 5.0, 4.5 has the slope -0.5 and the mean 5.
        ([5.5, 5.0, 4.5], {"min_relative_slope": 0.09}, False),
        ([5.5, 5.0, 4.5], {"min_relative_slope": 0.1}, True),
        ([4.5, 5.0, 5.5], {"mode": "max", "min_relative_slope": 0.09}, False),
        ([4.5, 5.0, 5.5], {"mode": "max", "min_relative_slope": 0.1}, True),
        # It gets worse.
        ([4.5, 5.0, 5.5], {"min_relative_slope": 0.0}, True),
        ([5.5, 5.0, 4.5], {"mode": "max", "min_relative_slope": 0.0}, True),
        # It stays the same.
        ([5.0, 5.0, 5.0], {"min_relative_slope": 0.0}, True),
        ([0.1, 0.1, 0.1], {"min_relative_slope": 0.0}, True),
        ([0.0, 0.0, 0.0], {"min_relative_slope": 0.0}, True),
        # One value out of line is not what decides: the ends do.
        ([5.5, 9.0, 4.5], {"min_relative_slope": 0.05}, False),
        # Negative values that become smaller are better with "min", and better by a part of their absolute mean.
        ([-4.5, -5.0, -5.5], {"min_relative_slope": 0.09}, False),
        ([-4.5, -5.0, -5.5], {"min_relative_slope": 0.1}, True),
        ([-5.5, -5.0, -4.5], {"min_relative_slope": 0.0}, True),
        # With a mean of 0, any improvement is enough, and anything else is none.
        ([1.0, 0.0, -1.0], {"min_relative_slope": 1000.0}, False),
        ([-1.0, 0.0, 1.0], {"min_relative_slope": 0.0}, True),
        # Values at the ends of what a float can hold.
        ([1.6e308, 1.2e308, 0.8e308], {"min_relative_slope": 0.1}, False),
        ([1.6e308, 1.6e308, 1.6e308], {"min_relative_slope": 0.0}, True),
    ],
)
def test_a_full_window_is_judged_by_its_relative_slope(values: list[float], options: dict, over: bool) -> None:
    assert answers(values, window=3, **options) == [False, False, over]


@given(
    values=st.lists(st.floats(-100, 100), min_size=2, max_size=8),
    threshold=st.floats(0, 1),
    mode=st.sampled_from(["min", "max"]),
)
def test_the_line_is_that_of_least_squares(values: list[float], threshold: float, mode: str) -> None:
    slope = float(np.polyfit(range(len(values)), values, 1)[0]) * (1 if mode == "max" else -1)
    bound = threshold * abs(float(np.mean(values)))
    if math.isclose(slope, bound, rel_tol=1e-6, abs_tol=1e-6):
        return  # too near to call in floating point

    assert answers(values, window=len(values), min_relative_slope=threshold, mode=mode)[-1] is (slope < bound)


def test_only_the_newest_values_count() -> None:
    assert answers([9.0, 1.0, 1.0, 1.0], window=3) == [False, False, False, True]


def test_a_phase_begins_with_an_empty_window() -> None:
    criterion = PlateauCriterion(window=2)
    assert [criterion.after_validation(progress(1.0)) for _ in range(2)] == [False, True]
    criterion.begin_phase(progress(1.0))
    assert [criterion.after_validation(progress(1.0)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_said_and_puts_the_judgement_off(odd: float) -> None:
    with pytest.warns(
        UserWarning, match=r"monitors 'val_loss', which is -?(nan|inf) in epoch 0: phase 0 is not judged"
    ):
        assert answers([1.0, odd, 1.0, 1.0, 1.0], window=3) == [False, False, False, False, True]


def test_a_metric_that_stays_not_finite_ends_the_phase_and_is_said_once() -> None:
    with pytest.warns(UserWarning, match="is nan in epoch 0") as warned:
        assert answers([1.0, math.nan, math.inf, math.nan], window=3) == [False, False, False, True]
    assert len(warned) == 1


def test_the_state_of_a_resumed_criterion_is_its_window() -> None:
    first, second = PlateauCriterion(window=3), PlateauCriterion(window=3)
    for value in (1.0, math.pi):
        assert not first.after_validation(progress(value))
    second.load_state_dict(first.state_dict())

    assert second.state_dict() == {"values": [1.0, math.pi]}
    assert second.after_validation(progress(5.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 1}, "window of plateau is 1"),
        ({"mode": "up"}, "mode of plateau is 'up'"),
        ({"monitor": ""}, "monitor of plateau is empty"),
        ({"min_relative_slope": -0.1}, r"min_relative_slope of plateau is -0\.1"),
        ({"min_relative_slope": math.nan}, "min_relative_slope of plateau is nan"),
        ({"min_relative_slope": math.inf}, "min_relative_slope of plateau is inf"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlateauCriterion(**options)
