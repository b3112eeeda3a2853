"""Tells in whose hook an error was raised, so that the person who trains knows whose it is to mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from phasewire.adapters.errors import PhasewireError

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter

__all__ = ["calling"]


@contextmanager
def calling(adapter: StrategyAdapter, hook: str) -> Iterator[None]:
    """Note on an error that a hook of an adapter raised it; the error stays what it is, for code that expects it.

    Args:
        adapter: The adapter.
        hook: The name of the hook that the block calls.
    """
    try:
        yield
    except PhasewireError:
        raise  # says itself what is wrong
    except Exception as error:
        kind = type(adapter)
        error.add_note(
            f"It was raised in {kind.__qualname__}.{hook}, a hook of the strategy adapter from {kind.__module__}. Mend "
            "the adapter, or name another one in custom_strategy_adapters."
        )
        raise
