"""Each case of the table is trained as the peer trains it."""

from __future__ import annotations

from pathlib import Path

import pytest

from case_table import TABLE
from parity_case import Case
from side_by_side import differences, train_both

CASES = [case for cases in TABLE.values() for case in cases]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_case_is_trained_as_the_peer_trains_it(case: Case, tmp_path: Path) -> None:
    found = differences(*train_both(case, tmp_path))

    assert not found
