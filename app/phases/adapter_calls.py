"""Tells in whose hook an error was raised, so that the person who trains knows whose it is to mend."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from phasewire.adapters.errors import AdapterError, PhasewireError

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter

__all__ = ["calling", "require_names"]


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


def require_names(adapter: StrategyAdapter, hook: str, given: object, *, where: str) -> list[str]:
    """Make sure that a hook gave names.

    Args:
        adapter: The adapter.
        hook: The name of its hook.
        given: What the hook gave.
        where: The place that the names are for, for the message.

    Returns:
        The same list.

    Raises:
        AdapterError: It is no list of texts.
    """
    called = f"{type(adapter).__name__}.{hook}"
    if not isinstance(given, list):
        raise AdapterError(
            f"{called} returned {type(given).__name__}, not a list.",
            where=where,
            remedy="The hook must return a list of names.",
        )
    for name in given:
        if not isinstance(name, str):
            raise AdapterError(
                f"{called} gave {reprlib.repr(name)}, which is no name.",
                where=where,
                remedy="The hook must return a list of names.",
            )
    return given
