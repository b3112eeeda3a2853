"""What ``torch.load(weights_only=True)`` refuses to read, in one sentence."""

from __future__ import annotations

import pickle
from typing import Final

__all__ = ["refused_by_torch"]

_MARK: Final = "WeightsUnpickler error:"
_ADVICE: Final = "Please use"
_DAMAGED: Final = "Unsupported operand"


def refused_by_torch(error: Exception) -> str | None:
    """Take the reason out of torch's long advice, whose remedies we give in our own words.

    Args:
        error: What ``torch.load`` raised.

    Returns:
        The object that it does not read, as a sentence; ``None`` where the bytes are no checkpoint at all.
    """
    reason = str(error).partition(_MARK)[2].partition(_ADVICE)[0].strip()
    if not isinstance(error, pickle.UnpicklingError) or not reason or reason.startswith(_DAMAGED):
        return None
    return f"{reason.splitlines()[0].rstrip('. ')}."
