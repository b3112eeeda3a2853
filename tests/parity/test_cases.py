"""Each case written by hand is trained as the peer trains it."""

from __future__ import annotations

from pathlib import Path

import pytest

import cases_of_modules
import cases_of_reinit
import cases_of_settings
from parity_case import Case
from side_by_side import differences, train_both

CASES = [*cases_of_settings.CASES, *cases_of_modules.CASES, *cases_of_reinit.CASES]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_case_is_trained_as_the_peer_trains_it(case: Case, tmp_path: Path) -> None:
    found = differences(*train_both(case, tmp_path))

    assert not found


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
