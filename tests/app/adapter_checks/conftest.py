"""What the tests of the contract kit share."""

from __future__ import annotations

import pytest

from phasewire.adapters.testing import shared_prober
from phasewire.app.adapter_checks import ImportProber


@pytest.fixture(scope="session")
def prober(pytestconfig: pytest.Config) -> ImportProber:
    """The process in whose forks adapters are imported: the one that the contract tests of a session share."""
    shared = shared_prober(pytestconfig)
    assert isinstance(shared, ImportProber)
    return shared
