"""Names of parametrized cases that are the same in every process, as pytest-xdist needs them."""

from __future__ import annotations

import re


def stable_id(value: object) -> str:
    """Show a value without the addresses of objects in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
