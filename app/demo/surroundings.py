"""What the demo changes around itself while it trains, and puts back."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning

__all__ = ["lightning_errors_only", "single_thread"]

_CHATTY_LOGGERS = ("lightning.pytorch", "lightning.fabric")


@contextmanager
def lightning_errors_only() -> Iterator[None]:
    """Hide Lightning's progress messages, and two remarks that nobody who runs the demo can act on.

    Warnings of the logs and every other Python warning still show.

    Yields:
        Nothing.
    """
    levels = {name: logging.getLogger(name).level for name in _CHATTY_LOGGERS}
    try:
        for name in _CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        with warnings.catch_warnings():
            # The data is in memory: there is nothing for more workers to do.
            warnings.filterwarnings("ignore", ".*does not have many workers", PossibleUserWarning)
            # Lightning 2.6 asks torch's pytree in a way that torch 2.13 deprecates.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute with one thread: the tensors are too small to share, and threads that wait for each other cost time.

    Yields:
        Nothing.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
