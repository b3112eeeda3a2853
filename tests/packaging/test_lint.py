"""The repository keeps its own rules: what ``make lint`` checks is clean."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from commands import run


@pytest.mark.parametrize("target", ["style", "types"])
def test_make_lint_finds_nothing(target: str, repository: Path) -> None:
    tools = Path(sys.executable).parent
    run(["make", target, f"BIN={tools}"], cwd=repository, timeout=280)
