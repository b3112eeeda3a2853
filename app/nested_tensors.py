"""The tensors in nested plain collections, as states of optimizers and checkpoints are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

__all__ = ["tensors_in"]


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    """Find the tensors in mappings, lists and tuples.

    Args:
        value: A tensor, a collection, or anything else, which holds none.

    Yields:
        The tensors, one that stands in several places as often.
    """
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
