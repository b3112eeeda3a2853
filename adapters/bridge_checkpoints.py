"""The names that a checkpoint of a ``TransformerBridge`` can have: those of TransformerLens and of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from lightning.pytorch.utilities import rank_zero_warn

from phasewire.adapters.bridge_names import bridge_names
from phasewire.adapters.bridge_search import find_bridge
from phasewire.adapters.errors import AdapterError, CheckpointError
from phasewire.adapters.renaming import OWN_NAMES, MappedNaming
from phasewire.adapters.tensor_layout import Layout
from phasewire.adapters.tensor_pieces import Piece, Zeros

if TYPE_CHECKING:
    from torch import Tensor, nn

    from phasewire.adapters.bridge_names import BridgeNames
    from phasewire.adapters.bridge_search import Bridge
    from phasewire.adapters.bridge_sources import HFSource

__all__ = ["HF_NAMES", "TL_NAMES", "BridgeNamings", "hf_layout", "tl_layout"]

#: The word for the names of the Hugging Face model behind the bridge.
HF_NAMES: Final = "hf"
#: The word for the names of TransformerLens.
TL_NAMES: Final = "tl"


class BridgeNamings:
    """Finds the namings of a module with a bridge, once for each bridge."""

    def __init__(self) -> None:
        self._bridge: Bridge | None = None
        self._found: dict[str, MappedNaming] = {}

    def of(self, module: nn.Module, attribute: str | None, *, wanted: str) -> dict[str, MappedNaming]:
        """Give the namings.

        Args:
            module: The module, which may not be complete yet.
            attribute: Where the bridge is, as for :func:`~phasewire.adapters.bridge_search.find_bridge`.
            wanted: The names that checkpoints are to have. What is wrong with these is an error; others are left out
                where they cannot be found.

        Returns:
            ``"tl"`` and ``"hf"``, each with the naming; none if there is no bridge.
        """
        try:
            bridge = find_bridge(module, attribute)
        except AdapterError:
            found = _found_later(module, attribute)
            return {wanted: found[wanted]} if wanted in found else {}
        if bridge is not self._bridge:
            self._bridge, self._found = bridge, dict(_usable(module, bridge, wanted))
        return self._found


def hf_layout(module: nn.Module, names: BridgeNames) -> Layout:
    """Tell where the tensors of a module stand in a state dict of the Hugging Face model behind its bridge.

    A joint projection is made of the split ones, with which the bridge computes; the joint one itself, which is never
    trained, is only read. What is not of that model keeps its name.

    Args:
        module: The module.
        names: The names of its bridge.

    Returns:
        The layout.

    Raises:
        CheckpointError: How the bridge splits a joint projection is not known.
    """
    for joint, parts in names.joint.items():
        unknown = [part for part in parts if part not in names.hf]
        if joint in names.hf and unknown:
            raise CheckpointError(
                f"The bridge computes with parts of {joint!r}, and where {', '.join(map(repr, unknown))} stand in it "
                f"cannot be found. So it cannot be put together for a file with the names {HF_NAMES!r}.",
                remedy=f"Store the module's own names (checkpoint_names={OWN_NAMES!r}), or {TL_NAMES!r}.",
            )
    state = module.state_dict(keep_vars=True)
    pieces: dict[str, Piece] = {}
    filling: set[int] = set()  # the tensors that fill what is stored: a tied one has two names
    for own, source in names.hf.items():
        if own in state:
            derived = _is_copy(own, names) or id(state[own]) in filling
            pieces[own] = _piece(source, derived=derived)
            if not derived:
                filling.add(id(state[own]))
    stored = {piece.stored for piece in pieces.values()}
    aliases = {name: main for name, main in names.hf_names.items() if name != main and main in stored}
    zeros = dict(_added(module, state, names))
    return Layout(pieces, aliases=aliases, zeros=zeros, word=HF_NAMES)


def tl_layout(module: nn.Module, names: BridgeNames) -> Layout:
    """Give tensors the names of TransformerLens. Their shapes stay those of the module.

    Args:
        module: The module.
        names: The names of its bridge.

    Returns:
        The layout, without the tensors that have no such name.
    """
    pieces: dict[str, Piece] = {}
    filled: set[str] = set()
    # A module that is a bridge itself stores its parameters under names that are shorter than theirs.
    name_of = {id(parameter): name for name, parameter in module.named_parameters()}
    for own, tensor in module.state_dict(keep_vars=True).items():
        known = own in names.own_to_tl or own in names.second_own
        named = own if known else name_of.get(id(tensor), own)
        first = names.second_own.get(named, named)
        if first in names.own_to_tl:
            stored = names.own_to_tl[first]
            pieces[own] = Piece(stored, derived=named != first or stored in filled)
            if named == first:
                filled.add(stored)
    return Layout(pieces, aliases=names.second_tl, word=TL_NAMES)


_LAYOUTS: Final[Mapping[str, Callable[[nn.Module, BridgeNames], Layout]]] = MappingProxyType(
    {TL_NAMES: tl_layout, HF_NAMES: hf_layout}
)


def _found_later(module: nn.Module, attribute: str | None) -> dict[str, MappedNaming]:
    def finder(make: Callable[[nn.Module, BridgeNames], Layout]) -> Callable[[], Layout]:
        return lambda: make(module, bridge_names(module, find_bridge(module, attribute)))

    return {word: MappedNaming(finder(make)) for word, make in _LAYOUTS.items()}


def _usable(module: nn.Module, bridge: Bridge, wanted: str) -> Iterator[tuple[str, MappedNaming]]:
    names: BridgeNames | None = None
    for word, make in _LAYOUTS.items():
        try:
            names = names or bridge_names(module, bridge)
            naming = MappedNaming(make(module, names))
        # Of every class: it is the model's and the library's own code that splits joint projections.
        except Exception as error:
            if word == wanted:
                raise
            rank_zero_warn(
                f"The names {word!r} of the model behind the bridge cannot be found ({type(error).__name__}: {error}). "
                f"Checkpoints do not record them, so `phasewire checkpoint convert --to {word}` will not know them. "
                "Training and resuming are not affected."
            )
        else:
            yield word, naming


def _is_copy(own: str, names: BridgeNames) -> bool:
    return own in names.second_own or own in names.joint


def _piece(source: HFSource, *, derived: bool) -> Piece:
    ranges = None if source.dim is None else tuple(_stretches(source.indices))
    return Piece(source.name, source.dim or 0, ranges, source.transposed, derived)


def _stretches(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    if isinstance(indices, range):
        yield indices.start, len(indices)
        return
    start = end = indices[0]
    for index in indices:
        if index != end:
            yield start, end - start
            start = end = index
        end += 1
    yield start, end - start


def _added(module: nn.Module, state: Mapping[str, Tensor], names: BridgeNames) -> Iterator[tuple[str, Zeros]]:
    """Find the zeros that the bridge has put where the model has nothing; no such tensor is in the model's files."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    kinds = {name.rpartition(".")[2] for name in names.hf_added}
    for own, tensor in state.items():
        if own in names.hf or own in parameters or own.rpartition(".")[2] not in kinds or tensor.any():
            continue
        yield own, (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
