"""Checksums of tensors, over all of their bits, made on the device where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

__all__ = ["Checksum", "can_be_summed", "checksum_of"]

#: How many numbers stand in a row; torch sums rows and columns of that length as fast as it reads them.
_COLUMNS: Final = 1024
#: How many rows are summed both ways before the next ones are: half a MiB, which a processor's cache holds.
_ROWS_IN_CACHE: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Checksum:
    """A checksum of a tensor: equal to that of another one if both have the same type, place, shape and bits.

    The bits are whole numbers of up to 64 bits, in rows and columns, of which there are the sums. One to three numbers
    that are changed always show, and more of them unless they cancel out in every row and every column.
    """

    kind: tuple[torch.Size, torch.dtype, torch.device]
    sums: tuple[torch.Tensor, ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Checksum) or self.kind != other.kind:
            return False
        return all(map(torch.equal, self.sums, other.sums))

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
    # Not flatten(): it gives every other number, or one that is expanded, as they lie, which are no longer numbers.
    numbers = _as_numbers(plain.contiguous().view(-1))
    in_rows = numbers.numel() // _COLUMNS * _COLUMNS
    table, rest = numbers[:in_rows].view(-1, _COLUMNS), numbers[in_rows:].clone()
    # An accelerator takes long to begin a sum, and needs no cache for two of them.
    parts = torch.split(table, _ROWS_IN_CACHE) if plain.device.type == "cpu" else (table,)
    # What is too large for 64 bits is cut off: the same for both of two sums.
    both = [(part.sum(dim=0, dtype=torch.int64), part.sum(dim=1, dtype=torch.int64)) for part in parts]
    columns, rows = zip(*both, strict=True)
    sums = (torch.stack(columns).sum(dim=0), torch.cat(rows), rest)
    return Checksum((plain.shape, plain.dtype, plain.device), sums)


def _as_numbers(values: torch.Tensor) -> torch.Tensor:
    offset, size = values.storage_offset() * values.element_size(), values.numel() * values.element_size()
    kinds = (torch.int64, torch.int32, torch.int16)
    fitting = (kind for kind in kinds if offset % kind.itemsize == size % kind.itemsize == 0)
    return values.view(next(fitting, torch.uint8))
