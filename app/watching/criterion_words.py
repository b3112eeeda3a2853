"""What people call criteria. Reports say it too, and need nothing that trains."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

__all__ = ["ended_by_words"]

#: What people call the two criteria of every schedule.
_NATIVE_WORDS: Final = MappingProxyType({"early_stopping": "early stopping", "epochs": "max_transition_epoch"})


def ended_by_words(criteria: Sequence[str]) -> str:
    """Name what has ended a phase.

    Args:
        criteria: The labels of the criteria.

    Returns:
        A few words.
    """
    return " and ".join(_NATIVE_WORDS.get(criterion, criterion) for criterion in criteria)
