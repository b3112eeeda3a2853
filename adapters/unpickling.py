"""What ``torch.load(weights_only=True)`` refuses to read, in one sentence."""

from __future__ import annotations

import pickle
from typing import Final

__all__ = ["refused_by_torch"]

_MARK: Final = "WeightsUnpickler error:"
_ADVICE: Final = "Please use"


def refused_by_torch(error: pickle.UnpicklingError) -> str:
    """Take the reason out of torch's long advice, whose remedies we give in our own words.

    Args:
        error: What ``torch.load`` raised.

    Returns:
        The reason, as a sentence.
    """
    text = str(error)
    reason = text.partition(_MARK)[2].partition(_ADVICE)[0].strip() or text.strip()
    line = reason.splitlines()[0] if reason else type(error).__name__
    return f"{line.rstrip('. ')}."
