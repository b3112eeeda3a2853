"""Checksums of tensors, over all of their bits, made on the device where they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch

__all__ = ["Checksum", "can_be_summed", "checksum_of"]

#: How many numbers are summed at once: on a processor as many as stay in its cache, and as torch gives to one thread,
#: so that none waits for another; elsewhere so many that there are few calls.
_CPU_BLOCK: Final = 2**15
_BLOCK: Final = 2**20
_SEED: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class Checksum:
    """A checksum of a tensor: equal to that of another one if both have the same type, place, shape and bits.

    One number that is changed always shows. Where several are, the chance that they cancel out is about one in 2**32.
    """

    kind: tuple[torch.Size, torch.dtype, torch.device]
    sums: torch.Tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checksum) and self.kind == other.kind and torch.equal(self.sums, other.sums)

    def __hash__(self) -> int:
        return hash(self.kind)


def can_be_summed(tensor: torch.Tensor) -> bool:
    """Tell whether :func:`checksum_of` can be asked for a tensor.

    Args:
        tensor: The tensor.

    Returns:
        Whether it is a plain one, whose bits are in memory.
    """
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout is torch.strided
    return plain and not (tensor.is_meta or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())


def checksum_of(tensor: torch.Tensor) -> Checksum:
    """Make the checksum of a tensor.

    Args:
        tensor: One for which :func:`can_be_summed` holds.

    Returns:
        The checksum.
    """
    plain = tensor.detach()
    numbers = _as_numbers((plain if plain.is_contiguous() else plain.flatten()).view(-1))
    weights = _weights(numbers.device)
    products = weights.new_empty(min(weights.numel(), numbers.numel()))
    sums = [_weighted(block, weights, products) for block in torch.split(numbers, weights.numel())]
    return Checksum((plain.shape, plain.dtype, plain.device), torch.stack(sums))


def _weighted(block: torch.Tensor, weights: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    count = block.numel()
    return products[:count].copy_(block).mul_(weights[:count]).sum()


def _as_numbers(values: torch.Tensor) -> torch.Tensor:
    # At most 32 bits each: the highest bit of a factor of 64 bits shows in the highest bit of the product alone.
    offset, size = values.storage_offset() * values.element_size(), values.numel() * values.element_size()
    fitting = (kind for kind in (torch.int32, torch.int16) if offset % kind.itemsize == size % kind.itemsize == 0)
    return values.view(next(fitting, torch.uint8))


@lru_cache(maxsize=8)
def _weights(device: torch.device) -> torch.Tensor:
    """Give a random odd factor for each place in a block: what is moved, or changed twice, does not cancel out."""
    generator = torch.Generator("cpu").manual_seed(_SEED)
    limits = torch.iinfo(torch.int64)
    count = _CPU_BLOCK if device.type == "cpu" else _BLOCK
    return (torch.randint(limits.min, limits.max, (count,), generator=generator, device="cpu") | 1).to(device)
