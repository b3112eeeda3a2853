"""Random trainings are those of the peer; the numbers make them the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from compare import MOST_LEFT_OUT, compare, summary
from peer_faults import met_by
from random_cases import random_case

CASES = 240
PER_TEST = 20


@pytest.mark.parametrize("first", range(0, CASES, PER_TEST))
def test_a_random_case_is_trained_as_the_peer_trains_it(first: int, tmp_path: Path) -> None:
    comparisons = [compare(number, tmp_path) for number in range(first, first + PER_TEST)]

    assert not any(comparison.differences for comparison in comparisons), summary(comparisons)


def test_at_least_two_hundred_cases_are_compared_and_at_most_one_in_ten_is_left_out() -> None:
    left_out = [number for number in range(CASES) if met_by(random_case(number))]

    assert len(left_out) <= MOST_LEFT_OUT * CASES
    assert CASES - len(left_out) >= 200
