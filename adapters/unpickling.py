"""What ``torch.load(weights_only=True)`` refuses to read, in one sentence."""

from __future__ import annotations

import os
import pickle
import zipfile
from typing import Final

__all__ = ["is_of_torch", "refused_by_torch"]

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


def is_of_torch(path: str | os.PathLike[str], error: pickle.UnpicklingError) -> bool:
    """Tell whether ``torch.load`` refused what a file holds, rather than a file that is no checkpoint at all.

    It says of a page of text, too, that it cannot be loaded safely; to allow more would be the wrong advice.

    Args:
        path: The file.
        error: What ``torch.load`` raised.

    Returns:
        Whether the file can be one that ``torch.save`` has written.
    """
    return "Unsupported operand" not in str(error) or zipfile.is_zipfile(path)
