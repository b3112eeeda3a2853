"""A tensor of a module in a file: as a whole, or as a part of one that is stored joined with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from phasewire.adapters.errors import CheckpointError

__all__ = [
    "CHANGED",
    "TORN",
    "Piece",
    "Zeros",
    "check_parts",
    "check_shapes",
    "copy_into",
    "turned",
    "zeros_from_plain",
]

#: What to do where parts do not fill a joint tensor.
TORN: Final = (
    "Mend the naming (checkpoint_renamings of the adapter): each tensor of a file is filled by one of the module, or "
    "by parts that lie side by side."
)
#: What to do where the part of a checkpoint that Phasewire writes itself says nothing that can be read.
CHANGED: Final = (
    "Phasewire wrote this part of the file, so another program has changed it since, or it is damaged. Nothing was "
    "loaded: what it says of the rest could be as wrong. Use another checkpoint of the run, or a copy of this one."
)

_MATRIX: Final = 2
_STRIPE: Final = 16

#: Shape, and dtype as text, such as ``((8,), "float32")``.
Zeros = tuple[tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class Piece:
    """Where one tensor of the module stands in a file."""

    stored: str
    """The name of the stored tensor."""
    dim: int = 0
    """The dimension of the stored tensor along which it is cut."""
    ranges: tuple[tuple[int, int], ...] | None = None
    """First index and length of each stretch that belongs to the tensor; ``None`` for all of it."""
    transposed: bool = False
    """Whether the module has it transposed."""
    derived: bool = False
    """Whether it is only read: what is stored comes from other tensors of the module, as for a copy of a joint one."""

    @property
    def size(self) -> int:
        """How long it is along ``dim``."""
        return sum(length for _, length in self.ranges or ())

    # Any: plain values, as a checkpoint and JSON can hold them.
    def to_plain(self) -> Any:  # noqa: ANN401  # as the comment says
        """Write it as plain values.

        Returns:
            Only the name where the tensor is stored as it is.
        """
        if self == Piece(self.stored):
            return self.stored
        ranges = None if self.ranges is None else [list(each) for each in self.ranges]
        return {
            "stored": self.stored,
            "dim": self.dim,
            "ranges": ranges,
            "transposed": self.transposed,
            "derived": self.derived,
        }

    @classmethod
    def from_plain(cls, plain: object) -> Piece:
        """Read what :meth:`to_plain` wrote.

        Args:
            plain: Plain values, of a file that anyone may have written.

        Returns:
            The piece.

        Raises:
            CheckpointError: They say nothing of that kind.
        """
        if isinstance(plain, str):
            return cls(plain)
        try:
            fields: Mapping[str, Any] = dict(plain)  # type: ignore[call-overload]  # anything else raises TypeError
            ranges = fields["ranges"]
            return cls(
                str(fields["stored"]),
                int(fields["dim"]),
                None if ranges is None else tuple((int(start), int(length)) for start, length in ranges),
                bool(fields["transposed"]),
                bool(fields["derived"]),
            )
        except Exception as error:  # a file that was changed may hold tensors, which raise anything
            raise CheckpointError(
                f"{plain!r} does not tell where a tensor stands.",
                remedy=CHANGED,
            ) from error


def zeros_from_plain(plain: Sequence[Any]) -> Zeros:
    """Read what a file records of a tensor that is not stored.

    Args:
        plain: Its shape, and its dtype as text.

    Returns:
        The same, checked.

    Raises:
        TypeError: That is no dtype.
        ValueError: These are not two values, or the shape is none.
    """
    shape, dtype = plain
    if not isinstance(getattr(torch, str(dtype), None), torch.dtype):
        raise TypeError(f"{dtype!r} is no dtype")
    return tuple(int(size) for size in shape), str(dtype)


def copy_into(target: Tensor, source: Tensor) -> None:
    """Copy a tensor, in a third of torch's time where it is transposed: in stripes that fit a line of the cache.

    Args:
        target: What to copy into.
        source: A tensor of that shape.
    """
    if source.dim() != _MATRIX or source.stride(0) != 1 or source.is_meta:
        target.copy_(source)
        return
    for start in range(0, source.shape[1], _STRIPE):
        width = min(_STRIPE, source.shape[1] - start)
        target.narrow(1, start, width).copy_(source.narrow(1, start, width))


def turned(value: Any, piece: Piece) -> Any:  # noqa: ANN401  # extra state of a module passes as it is
    """Turn a tensor from one side to the other.

    Args:
        value: The tensor; anything else where the piece is a whole.
        piece: Where it stands.

    Returns:
        Its transpose if the module has it transposed, else itself.
    """
    return value.t() if piece.transposed else value


def check_parts(stored: str, parts: Mapping[str, Piece], word: str) -> None:
    """Make sure that parts fill a stored tensor, each place once.

    Args:
        stored: Its name.
        parts: The tensors of the module that it is made of.
        word: What the naming is called, for messages.

    Raises:
        CheckpointError: They do not.
    """
    if len(parts) == 1 and next(iter(parts.values())).ranges is None:
        return
    titled = f"The naming {word!r}" if word else "The naming"
    whole = [own for own, piece in parts.items() if piece.ranges is None]
    if whole:
        both = [whole[0], next(own for own in parts if own != whole[0])]
        raise CheckpointError(
            f"{titled} calls both {both[0]!r} and {both[1]!r} {stored!r}, so one would overwrite the other in a file.",
            remedy=TORN,
        )
    end = 0
    for start, length, own in sorted(_stretches(parts)):
        if start != end or length < 1:
            raise CheckpointError(
                f"{titled} puts {own!r} at {start} of {stored!r}, which is filled up to {end}: its parts "
                "overlap, or leave a gap.",
                remedy=TORN,
            )
        end = start + length
    if len({piece.dim for piece in parts.values()}) > 1:
        raise CheckpointError(f"{titled} cuts {stored!r} along several dimensions, and one is possible.", remedy=TORN)


def _stretches(parts: Mapping[str, Piece]) -> Iterator[tuple[int, int, str]]:
    for own, piece in parts.items():
        for start, length in piece.ranges or ():
            yield start, length, own


def check_shapes(stored: str, tensors: Mapping[str, Tensor], parts: Mapping[str, Piece]) -> None:
    """Make sure that the values of parts can be put together.

    Args:
        stored: The name of the joint tensor.
        tensors: The values, turned as they are stored.
        parts: Where they stand.

    Raises:
        CheckpointError: A shape or a dtype differs.
    """
    (first, model), *_ = tensors.items()
    for own, tensor in tensors.items():
        piece = parts[own]
        fits = tensor.dim() > piece.dim and tensor.shape[piece.dim] == piece.size
        rest = [size for dim, size in enumerate(tensor.shape) if dim != piece.dim]
        if not fits or rest != [size for dim, size in enumerate(model.shape) if dim != piece.dim]:
            raise CheckpointError(
                f"{own!r} has the shape {tuple(tensor.shape)}{' (transposed)' if piece.transposed else ''}, and takes "
                f"{piece.size} of dimension {piece.dim} of {stored!r}, beside {first!r} of shape {tuple(model.shape)}.",
                remedy="Use a file of this very architecture and size.",
            )
        if tensor.dtype != model.dtype:
            raise CheckpointError(
                f"{own!r} is {tensor.dtype} and {first!r} is {model.dtype}; both are parts of {stored!r}.",
                remedy="Give all parts of a joint tensor one dtype.",
            )
