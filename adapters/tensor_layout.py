"""Where the tensors of a module stand in a file: each as a whole, or as a part of one that is stored joined."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from phasewire.adapters.errors import CheckpointError

__all__ = ["Layout", "Piece", "Zeros", "copy_into", "like_state", "tied_names"]

_TORN: Final = "The parts of a joint tensor must lie side by side and fill it."
_CHANGED: Final = "The file was changed after it was written; use another checkpoint."

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
                remedy=_CHANGED,
            ) from error


class Layout:
    """Translates the tensors of one module to those of a file, and back.

    Args:
        pieces: The module's name to where its tensor stands.
        aliases: Further stored names to the stored name of the same tensor.
        zeros: Names of the module that are not stored, because they always hold zeros: shape, and dtype as text.
        word: What the naming is called, for messages.

    Raises:
        CheckpointError: Two tensors would stand in one place, or a place would be filled by none.
    """

    def __init__(
        self,
        pieces: Mapping[str, Piece],
        *,
        aliases: Mapping[str, str] | None = None,
        zeros: Mapping[str, Zeros] | None = None,
        word: str = "",
    ) -> None:
        self.pieces = dict(pieces)
        self.aliases = dict(aliases or {})
        self.zeros = dict(zeros or {})
        self.parts: dict[str, dict[str, Piece]] = {}
        """The stored name to the tensors of the module that it is made of."""
        for own, piece in self.pieces.items():
            if not piece.derived:
                self.parts.setdefault(piece.stored, {})[own] = piece
        for stored, parts in self.parts.items():
            _check_parts(stored, parts, word)
        for own, piece in self.pieces.items():
            if piece.stored not in self.parts:
                raise CheckpointError(f"Nothing fills {piece.stored!r}, of which {own!r} is read.", remedy=_TORN)
        for alias, stored in self.aliases.items():
            if alias in self.parts or stored not in self.parts:
                raise CheckpointError(f"{alias!r} cannot be another name of {stored!r}.", remedy=_TORN)

    @property
    def known(self) -> frozenset[str]:
        """All names that a file may have."""
        return frozenset((*self.parts, *self.aliases))

    def main_name(self, name: str) -> str:
        """Give the first name of a stored tensor.

        Args:
            name: Any of its names.

        Returns:
            The first one.
        """
        return self.aliases.get(name, name)

    # Any, here and below: a state dict holds tensors, and whatever modules keep as their extra state.
    def stored_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Translate a state dict of the module to what is stored.

        Args:
            state: The module's state; names that the layout does not have are passed over.

        Returns:
            A dict of the same kind, of what is stored of it.

        Raises:
            CheckpointError: A part of a joint tensor is missing or has another shape or type.
        """
        stored = {
            name: self.stored_value(name, state.__getitem__)
            for name, parts in self.parts.items()
            if self._is_at_hand(name, parts, state)
        }
        return like_state(state, {**stored, **self.further_names(stored)})

    def further_names(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Give tensors under their further names.

        Args:
            stored: The tensors under their first names.

        Returns:
            The very same tensors.
        """
        return {alias: stored[name] for alias, name in self.aliases.items() if name in stored}

    def _is_at_hand(self, stored: str, parts: Iterable[str], state: Mapping[str, Any]) -> bool:
        missing = [own for own in parts if own not in state]
        present = [own for own in parts if own in state]
        if missing and present:
            raise CheckpointError(
                f"{stored!r} is made of {', '.join(map(repr, parts))}, and {', '.join(map(repr, missing))} is missing.",
                remedy=_TORN,
            )
        return not missing

    def own_state(
        self, state: Mapping[str, Any], *, tied: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], list[str]]:
        """Translate what is stored to a state dict of the module.

        Args:
            state: What is stored.
            tied: Names of the module to the name of the same tensor that is stored for both.

        Returns:
            A dict of the same kind, of all that the layout finds; and the stored names that it does not know.

        Raises:
            CheckpointError: A joint tensor has another shape.
        """
        first = {self.main_name(name): state[name] for name in reversed(list(state))}
        own = self.sources(first, tied or {})
        values = {name: self.own_value(own[name], first.__getitem__) for name in self.pieces if name in own}
        return like_state(state, {**values, **self.made_zeros()}), [name for name in first if name not in self.parts]

    def sources(self, stored: Container[str], tied: Mapping[str, str]) -> dict[str, str]:
        """Tell which tensors of the module can be read.

        Args:
            stored: The first names of what is stored.
            tied: Names of the module to the name of the same tensor that is stored for both.

        Returns:
            Names of the module to that by which the tensor is found: for tied ones another.
        """
        found = {name: name for name, piece in self.pieces.items() if piece.stored in stored}
        for alias, name in tied.items():
            if alias in self.pieces and alias not in found and name in found:
                found[alias] = name
        return found

    def made_zeros(self) -> dict[str, Tensor]:
        """Make the tensors that are not stored.

        Returns:
            Name of the module to zeros.
        """
        return {name: torch.zeros(shape, dtype=getattr(torch, dtype)) for name, (shape, dtype) in self.zeros.items()}

    def stored_value(
        self, stored: str, get: Callable[[str], Any], empty: Callable[[Tensor, list[int]], Tensor] = Tensor.new_empty
    ) -> Any:  # noqa: ANN401  # as the comment above
        """Put a stored tensor together.

        Args:
            stored: Its name.
            get: Gives a tensor of the module.
            empty: Makes room for one that is made of several, of the dtype of a tensor and of a shape.

        Returns:
            The very tensor of the module, or one that is made of several.

        Raises:
            CheckpointError: A part has another shape or type.
        """
        parts = self.parts[stored]
        ((own, piece), *others) = parts.items()
        if piece.ranges is None and not others:
            return _turned(get(own), piece)
        tensors = {own: _turned(get(own), piece) for own, piece in parts.items()}
        _check_shapes(stored, tensors, parts)
        first: Tensor = next(iter(tensors.values()))
        shape = list(first.shape)
        shape[piece.dim] = sum(each.size for each in parts.values())
        joint = empty(first, shape)
        for own, tensor in tensors.items():
            taken = 0
            for start, length in parts[own].ranges or ():
                copy_into(joint.narrow(piece.dim, start, length), tensor.narrow(piece.dim, taken, length))
                taken += length
        return joint

    def own_value(self, own: str, get: Callable[[str], Any]) -> Any:  # noqa: ANN401  # as the comment above
        """Take a tensor of the module out of what is stored.

        Args:
            own: Its name.
            get: Gives a stored tensor.

        Returns:
            The stored tensor, a view of it, or a copy where what belongs to it does not lie together.

        Raises:
            CheckpointError: What is stored has another shape.
        """
        piece = self.pieces[own]
        tensor = get(piece.stored)
        if piece.ranges is not None:
            wanted = sum(part.size for part in self.parts[piece.stored].values())
            if tensor.dim() <= piece.dim or tensor.shape[piece.dim] != wanted:
                raise CheckpointError(
                    f"{piece.stored!r} has the shape {tuple(tensor.shape)}. Dimension {piece.dim} should be {wanted} "
                    f"long, to be cut into {', '.join(self.parts[piece.stored])}.",
                    remedy="Use a file of this very architecture and size.",
                )
            stretches = [tensor.narrow(piece.dim, *stretch) for stretch in piece.ranges]
            tensor = stretches[0] if len(stretches) == 1 else torch.cat(stretches, piece.dim)
        return _turned(tensor, piece)

    # Any: plain values, as a checkpoint and JSON can hold them.
    def to_plain(self) -> dict[str, Any]:
        """Write it as plain values.

        Returns:
            Its parts, each as plain values.
        """
        return {
            "tensors": {own: piece.to_plain() for own, piece in self.pieces.items()},
            "aliases": self.aliases,
            "zeros": {own: [list(shape), dtype] for own, (shape, dtype) in self.zeros.items()},
        }

    @classmethod
    def from_plain(cls, plain: object, *, word: str = "") -> Layout:
        """Read what :meth:`to_plain` wrote.

        Args:
            plain: Plain values, of a file that anyone may have written.
            word: What the naming is called, for messages.

        Returns:
            The layout.

        Raises:
            CheckpointError: They say nothing of that kind.
        """
        try:
            fields: Mapping[str, Any] = dict(plain)  # type: ignore[call-overload]  # anything else raises TypeError
            return cls(
                {str(own): Piece.from_plain(each) for own, each in fields["tensors"].items()},
                aliases={str(alias): str(stored) for alias, stored in fields["aliases"].items()},
                zeros={str(own): _zeros_from(each) for own, each in fields["zeros"].items()},
                word=word,
            )
        except CheckpointError:
            raise
        except Exception as error:  # as above
            raise CheckpointError(f"{plain!r} does not tell where tensors stand.", remedy=_CHANGED) from error


def _zeros_from(plain: Sequence[Any]) -> Zeros:
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


def tied_names(state: Mapping[str, object]) -> dict[str, str]:
    """Find the names of one and the same tensor.

    Args:
        state: A state dict.

    Returns:
        Every further name to the first one.
    """
    first: dict[tuple[object, ...], str] = {}
    tied: dict[str, str] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            continue
        is_nowhere = value.is_meta or not value.numel()
        place = id(value) if is_nowhere else value.data_ptr()
        key = (place, value.device, value.dtype, tuple(value.shape), value.stride())
        if first.setdefault(key, name) != name:
            tied[name] = first[key]
    return tied


# Any: a state dict holds tensors, and whatever modules keep as their extra state.
def like_state(state: Mapping[str, Any], items: Mapping[str, Any]) -> dict[str, Any]:
    """Make a state dict that keeps what torch has put on another one: the versions of its modules.

    Args:
        state: The other one.
        items: What the new one holds.

    Returns:
        The new one.
    """
    made: dict[str, Any] = copy.copy(state) if isinstance(state, dict) else {}
    made.clear()
    made.update(items)
    return made


def _turned(value: Any, piece: Piece) -> Any:  # noqa: ANN401  # extra state of a module passes as it is
    return value.t() if piece.transposed else value


def _check_parts(stored: str, parts: Mapping[str, Piece], word: str) -> None:
    if len(parts) == 1 and next(iter(parts.values())).ranges is None:
        return
    titled = f"The naming {word!r}" if word else "The naming"
    whole = [own for own, piece in parts.items() if piece.ranges is None]
    if whole:
        both = [whole[0], next(own for own in parts if own != whole[0])]
        raise CheckpointError(f"{titled} calls both {both[0]!r} and {both[1]!r} {stored!r}.", remedy=_TORN)
    end = 0
    for start, length, own in sorted(_stretches(parts)):
        if start != end or length < 1:
            raise CheckpointError(
                f"{titled} puts {own!r} at {start} of {stored!r}, which is filled up to {end}.", remedy=_TORN
            )
        end = start + length
    if len({piece.dim for piece in parts.values()}) > 1:
        raise CheckpointError(f"{titled} cuts {stored!r} along several dimensions.", remedy=_TORN)


def _stretches(parts: Mapping[str, Piece]) -> Iterator[tuple[int, int, str]]:
    for own, piece in parts.items():
        for start, length in piece.ranges or ():
            yield start, length, own


def _check_shapes(stored: str, tensors: Mapping[str, Tensor], parts: Mapping[str, Piece]) -> None:
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
