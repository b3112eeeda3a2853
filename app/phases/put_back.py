"""What a fit changes for its time on objects of the user and of the process, and how that is put back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.adapters.rank_zero import LOGGER_NAME
from phasewire.app.phases.thaw import named_layers_with_running_stats

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = ["logging_at", "remembered"]

PutBack = Callable[[], None]


def logging_at(level: int | str) -> PutBack:
    """Give Phasewire's logger a level.

    Args:
        level: The level.

    Returns:
        Gives it the one it had, unless somebody has given it a third.
    """
    logger = logging.getLogger(LOGGER_NAME)
    before = logger.level
    logger.setLevel(level)
    now = logger.level

    def put_back() -> None:
        if logger.level == now:
            logger.setLevel(before)

    return put_back


def remembered(trainer: pl.Trainer, module: pl.LightningModule) -> PutBack:
    """Remember what a schedule changes on a Trainer and a module, besides what it trains.

    Args:
        trainer: The Trainer, whose last epoch a schedule may put off.
        module: The complete module, whose frozen batch norm layers may stop tracking their statistics.

    Returns:
        Puts it back, on the layers that then go by the names: strategies may have put others in their place.
    """
    max_epochs = trainer.fit_loop.max_epochs
    tracking = {
        unwrapped_name(name): layer.track_running_stats for name, layer in named_layers_with_running_stats(module)
    }

    def put_back() -> None:
        trainer.fit_loop.max_epochs = max_epochs
        for name, layer in named_layers_with_running_stats(module):
            layer.track_running_stats = tracking.get(unwrapped_name(name), layer.track_running_stats)

    return put_back
