"""Finds the ``TransformerBridge`` on a module, without importing the library that it is of."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Protocol, cast

import torch
from torch import nn

from phasewire.adapters.errors import AdapterError
from phasewire.adapters.lightning_seams import uncompiled

__all__ = ["Bridge", "bridge_on", "find_bridge"]


class Bridge(Protocol):
    """What is used of a ``TransformerBridge``; every one of them is a ``torch.nn.Module`` too."""

    original_model: nn.Module
    """The Hugging Face model, with components of the bridge put in place of its modules."""

    def tl_named_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Give TransformerLens names and tensors, computed anew."""

    def modules(self) -> Iterator[nn.Module]:
        """Give the bridge and all it consists of."""


def find_bridge(module: nn.Module, attribute: str | None = None) -> Bridge:
    """Find the bridge on a module.

    Args:
        module: The module.
        attribute: The attribute that holds it, with dots for one deeper down; ``None`` looks at ``model``, and then at
            the module itself.

    Returns:
        The bridge, without what ``torch.compile`` put around it.

    Raises:
        AdapterError: There is none.
    """
    bridge = bridge_on(module, attribute)
    if bridge is not None:
        return bridge
    places = [name for name, child in module.named_modules() if name and _is_bridge(child)]
    looked = "in its attribute 'model', and is none itself" if attribute is None else f"in its attribute {attribute!r}"
    found = f" There is one in {places[0]!r}." if places else ""
    raise AdapterError(
        f"{type(module).__name__} has no TransformerBridge {looked}.{found}",
        where="strategy_adapter_cfg, bridge_attribute",
        remedy=f"Give bridge_attribute={places[0]!r}."
        if places
        else "Make one of the model in the module's constructor, or use the names of named_parameters().",
    )


def bridge_on(module: nn.Module, attribute: str | None = None) -> Bridge | None:
    """Find the bridge on a module that may have none.

    Args:
        module: The module.
        attribute: As for :func:`find_bridge`.

    Returns:
        The bridge, or ``None``.
    """
    for path in ("model", "") if attribute is None else (attribute,):
        try:
            held: object = attrgetter(path)(module) if path else module
        except AttributeError:
            continue
        held = uncompiled(held) if isinstance(held, nn.Module) else held
        if _is_bridge(held):
            return cast("Bridge", held)
    return None


def _is_bridge(held: object) -> bool:
    """Tell a bridge by what is used of it, since importing ``transformer_lens`` takes seconds."""
    return isinstance(held, nn.Module) and callable(getattr(type(held), "tl_named_parameters", None))
