"""Messages for the person who trains, from rank 0 only.

The logger is a child of Lightning's, so that messages appear where Lightning's own do, while ``logging_level`` sets
the level of ours alone.
"""

from __future__ import annotations

import logging
from typing import Final

from lightning.pytorch.utilities import rank_zero_only

__all__ = ["LOGGER_NAME", "debug", "info"]

#: The name of Phasewire's logger.
LOGGER_NAME: Final = "lightning.pytorch.phasewire"

#: How far up the caller is that a log record names: above the function here, and Lightning's wrapper of it.
_CALLER: Final = 3


@rank_zero_only
def info(message: str) -> None:
    """Tell what happened.

    Args:
        message: One or more whole sentences.
    """
    logging.getLogger(LOGGER_NAME).info(message, stacklevel=_CALLER)


@rank_zero_only
def debug(message: str) -> None:
    """Tell what is only of use when something is looked into.

    Args:
        message: One or more whole sentences.
    """
    logging.getLogger(LOGGER_NAME).debug(message, stacklevel=_CALLER)
