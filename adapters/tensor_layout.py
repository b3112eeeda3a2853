"""Where the tensors of a module stand in a file: each as a whole, or as a part of one that is stored joined."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.tensor_pieces import (
    CHANGED,
    TORN,
    Piece,
    Zeros,
    check_parts,
    check_shapes,
    copy_into,
    turned,
    zeros_from_plain,
)

__all__ = ["Layout", "like_state", "tied_names"]


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
            check_parts(stored, parts, word)
        for own, piece in self.pieces.items():
            if piece.stored not in self.parts:
                raise CheckpointError(
                    f"{own!r} is to be read from {piece.stored!r}, and no tensor of the module is stored there.",
                    remedy=TORN,
                )
        for alias, stored in self.aliases.items():
            if alias in self.parts:
                raise CheckpointError(
                    f"{alias!r} is given as a second name of {stored!r}, and another tensor has that name.",
                    remedy="Give each tensor of a file a name of its own.",
                )
            if stored not in self.parts:
                raise CheckpointError(
                    f"{alias!r} is given as a second name of {stored!r}, and no tensor is stored under that.",
                    remedy="Give the name that the tensor is stored under.",
                )

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
                remedy="Let the state dict have all parts of a joint tensor, or none.",
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
            return turned(get(own), piece)
        tensors = {own: turned(get(own), piece) for own, piece in parts.items()}
        check_shapes(stored, tensors, parts)
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
        return turned(tensor, piece)

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
                zeros={str(own): zeros_from_plain(each) for own, each in fields["zeros"].items()},
                word=word,
            )
        except CheckpointError:
            raise
        except Exception as error:  # a file that was changed may hold tensors, which raise anything
            raise CheckpointError(
                f"The record of how tensors are called does not tell where they stand: {reprlib.repr(plain)}.",
                remedy=CHANGED,
            ) from error


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
        signs = (value.is_conj(), value.is_neg())  # views that change the sign as they are read
        key = (place, value.device, value.dtype, tuple(value.shape), value.stride(), signs)
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
