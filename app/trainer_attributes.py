"""Attributes of a Trainer that are public, and set by its connectors where type checkers do not look."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = ["callbacks_of", "is_dry_run", "replace_callbacks"]


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """Give a Trainer's callbacks, with their type: its connector sets the attribute where type checkers do not look.

    Args:
        trainer: The Trainer.

    Returns:
        The Trainer's own list.
    """
    callbacks: list[pl.Callback] = vars(trainer)["callbacks"]
    return callbacks


def is_dry_run(trainer: pl.Trainer) -> bool:
    """Tell whether a Trainer only tries every line (``fast_dev_run``); its connector sets the attribute untyped.

    Args:
        trainer: The Trainer.

    Returns:
        Whether nothing should be written.
    """
    return bool(vars(trainer)["fast_dev_run"])


def replace_callbacks(trainer: pl.Trainer, callbacks: list[pl.Callback]) -> None:
    """Give a Trainer another list of callbacks.

    Args:
        trainer: The Trainer.
        callbacks: The new list; Lightning may be iterating over the old one, which stays as it is.
    """
    vars(trainer)["callbacks"] = callbacks
