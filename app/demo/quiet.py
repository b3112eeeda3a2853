"""Keeps Lightning's remarks out of the demo's output, for as long as it runs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.warnings import PossibleUserWarning

__all__ = ["lightning_errors_only"]

_CHATTY_LOGGERS = ("lightning.pytorch", "lightning.fabric")


@contextmanager
def lightning_errors_only() -> Iterator[None]:
    """Hide Lightning's progress messages, and the one remark that does not apply to a data set held in memory.

    Warnings of the logs and every other Python warning still show. What was there before is put back.

    Yields:
        Nothing.
    """
    levels = {name: logging.getLogger(name).level for name in _CHATTY_LOGGERS}
    try:
        for name in _CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*does not have many workers", category=PossibleUserWarning)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
