"""The seeds of the fuzzer and what it has found: every file is read, or refused by an error of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz_targets import TARGETS, run

SEEDS = sorted(Path(__file__).with_name("seeds").glob("*/*"))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_seed_is_read_or_refused(seed: Path) -> None:
    run(seed.parent.name, seed.read_bytes())


def test_every_target_has_seeds() -> None:
    assert {seed.parent.name for seed in SEEDS} == set(TARGETS)
