"""Tells at the first save, and not when a phase is over, that a run cannot go back to its own checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn

from phasewire.adapters.unpickling import refused_by_torch
from phasewire.app.phases.mapped_checkpoint import can_be_mapped, read_mapped

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

__all__ = ["ReadingBack"]


class ReadingBack:
    """Reads the first checkpoint that holds objects as a restore would, and warns if that fails.

    Only the description of the file is read, and not its tensors, and only once in a run: later checkpoints hold the
    same kinds of objects.

    Args:
        allowed: Gives the context in which a restore reads.
    """

    def __init__(self, allowed: Callable[[], AbstractContextManager[None]]) -> None:
        self._allowed = allowed
        self._is_done = False

    # Any: whatever the strategy loads checkpoints with.
    def try_once(self, path: str | os.PathLike[str], strategy: Strategy, load: Callable[..., Any]) -> None:
        """Try it with a file that was just saved, if it is one that can be mapped.

        Args:
            path: The checkpoint.
            strategy: The running strategy.
            load: What the strategy loads checkpoints with.
        """
        if self._is_done or not strategy.is_global_zero or not can_be_mapped(strategy, load, path):
            return
        self._is_done = True
        try:
            with self._allowed():
                read_mapped(path, weights_only=True)
        except Exception as error:  # noqa: BLE001  # an object may raise anything; it is told, and the file is saved
            reason = refused_by_torch(error) or f"{type(error).__name__}: {error}"
            rank_zero_warn(
                f"{os.fspath(path)}: this checkpoint holds an object that cannot be read back, as files are not "
                f"trusted ({reason.rstrip('.')}). What restores it will fail for the same reason: the next phase, "
                "where it is the best one, and a run that goes on from it. Take the object out of what is saved, as "
                "save_hyperparameters(ignore=[...]) does, keep a plain value in its place, or name it by "
                "torch.serialization.add_safe_globals([...]) before training, if it does no harm whatever it is called "
                "with."
            )
