"""Functions that stand over methods of one object for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

__all__ = ["at_teardown", "shadow"]

TakeOff = Callable[[], None]


def shadow(owner: object, name: str, replacement: Callable[..., object]) -> TakeOff:
    """Put a function over a method of one object.

    Args:
        owner: The object.
        name: The name of its method.
        replacement: What is called instead.

    Returns:
        Takes it off again, unless another tool has put something over it since, which is that tool's to take off.
    """
    attributes = vars(owner)
    before = {name: attributes[name]} if name in attributes else {}
    attributes[name] = replacement

    def take_off() -> None:
        if attributes.get(name) is replacement:
            del attributes[name]
            attributes.update(before)

    return take_off


def at_teardown(strategy: Strategy, act: Callable[[], None]) -> None:
    """Do something before a strategy is torn down, which Lightning also does after an exception.

    Args:
        strategy: The running strategy.
        act: What to do, once.
    """
    tear_down = strategy.teardown

    def torn_down() -> None:
        take_off()
        act()
        tear_down()

    take_off = shadow(strategy, "teardown", torn_down)
