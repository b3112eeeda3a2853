"""The mapping of known adapters, as the entry-point specification has it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from phasewire.adapters import FSDPStrategyAdapter
from phasewire.app import AdapterLoadError
from phasewire.containers import Container


def test_a_class_is_imported_when_it_is_looked_up_and_no_other_with_it(plugins: Path) -> None:
    known = Container().known_adapters()

    assert known["FSDP"] is FSDPStrategyAdapter
    assert {"fsdp", "transformerbridge", "acmenames", "raises"} <= set(known)
    assert len(known) == len(list(known))
    assert "acmenames" in known
    assert "nothing" not in known
    assert "acme_adapters" not in sys.modules
    assert known["acmenames"].__name__ == "PrefixedNamesAdapter"


def test_what_cannot_be_looked_up_says_why(plugins: Path) -> None:
    known = Container().known_adapters()

    with pytest.raises(KeyError, match="nothing"):
        known["nothing"]
    with pytest.raises(AdapterLoadError, match="licence server"):
        known["raises"]


def test_it_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        Container().known_adapters()["mine"] = FSDPStrategyAdapter
