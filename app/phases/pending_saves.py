"""Waiting for checkpoints that are still being written, by a ``CheckpointIO`` that saves in the background."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO, XLACheckpointIO

from phasewire.adapters import rank_zero
from phasewire.adapters.errors import CheckpointError, PhasewireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning.fabric.plugins import CheckpointIO

__all__ = ["finish_saves", "load_when_written", "saves_files_later"]

#: How long a file may take from the moment it is wanted, in seconds.
_LONGEST_WAIT = 300.0
#: The first pause between two attempts, in seconds; each is twice the one before, up to one second.
_FIRST_PAUSE = 0.02


def finish_saves(checkpoint_io: CheckpointIO) -> None:
    """Wait until Lightning's ``AsyncCheckpointIO`` has written everything.

    Args:
        checkpoint_io: The strategy's; it may wrap others.

    Raises:
        Exception: What a save failed with; the plugin raises it again when the Trainer is torn down.
    """
    for layer in _layers(checkpoint_io):
        if isinstance(layer, AsyncCheckpointIO):
            # It waits for its thread, and begins a new one with the next save.
            layer.teardown()


def saves_files_later(checkpoint_io: CheckpointIO) -> bool:
    """Tell whether a file may not be there yet when it was saved, and will be.

    Args:
        checkpoint_io: The strategy's; it may wrap others.

    Returns:
        Whether Lightning's ``AsyncCheckpointIO`` lets Lightning's own plugin, or a subclass of it, write.
    """
    layers = list(_layers(checkpoint_io))
    return isinstance(layers[-1], TorchCheckpointIO) and any(isinstance(each, AsyncCheckpointIO) for each in layers)


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def load_when_written(
    load: Callable[[], dict[str, Any]],
    checkpoint_io: CheckpointIO,
    *,
    saved_at_step: int | None,
    longest_wait: float = _LONGEST_WAIT,
) -> dict[str, Any]:
    """Load a checkpoint; if a custom ``CheckpointIO`` may still be writing it, wait until it is whole.

    Args:
        load: Reads the file.
        checkpoint_io: The strategy's, whose pending saves are finished as far as they can be.
        saved_at_step: The global step of the newest checkpoint that this run saved at that place; ``None`` when it
            saved none there, so that there is nothing to wait for.
        longest_wait: How long to try, in seconds.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: The file is not whole in time.
        Exception: What ``load`` raises, where there is nothing to wait for.
    """
    if saved_at_step is None or all(map(_writes_at_once, _layers(checkpoint_io))):
        return load()
    deadline = time.monotonic() + longest_wait
    pause = _FIRST_PAUSE
    while True:
        problem: Exception
        try:
            checkpoint = load()
        except PhasewireError:
            raise
        except Exception as error:  # noqa: BLE001 - a torn file fails in any way; the last one is chained below
            problem = error
        else:
            step = checkpoint.get("global_step")
            if step == saved_at_step:
                return checkpoint
            problem = ValueError(f"it holds step {step}, and step {saved_at_step} was saved there")
        if pause == _FIRST_PAUSE:
            rank_zero.info(
                f"The checkpoint to restore is not whole yet ({problem}). Waiting up to {longest_wait:g} seconds for "
                f"{type(checkpoint_io).__name__} to finish it."
            )
        if time.monotonic() >= deadline:
            raise CheckpointError(
                f"The checkpoint is not there or not whole {longest_wait:g} seconds after it was wanted "
                f"({type(problem).__name__}: {problem}).",
                where=type(checkpoint_io).__name__,
                remedy="Let its save_checkpoint write the file before it returns, or wrap a CheckpointIO that does in "
                "Lightning's AsyncCheckpointIO, whose saves can be waited for.",
            ) from problem
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _layers(checkpoint_io: CheckpointIO) -> Iterator[CheckpointIO]:
    layer: CheckpointIO | None = checkpoint_io
    while layer is not None:
        yield layer
        layer = getattr(layer, "checkpoint_io", None)  # Lightning's wrappers have what they wrap under that name


def _writes_at_once(layer: CheckpointIO) -> bool:
    """Whether a file is whole when its ``save_checkpoint`` and :func:`finish_saves` have returned."""
    return type(layer) in (TorchCheckpointIO, XLACheckpointIO, AsyncCheckpointIO)
