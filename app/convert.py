"""Converts checkpoints: from one kind of names to another, and between Lightning's and the safetensors format."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from phasewire.adapters.checkpoint_names import RECORD_KEY, naming_of_keys, recorded_namings, recorded_ties
from phasewire.adapters.errors import CheckpointError, did_you_mean
from phasewire.adapters.renaming import OWN_NAMES
from phasewire.adapters.tensor_layout import Layout, like_state, tied_names
from phasewire.adapters.tensor_pieces import Piece
from phasewire.app.atomic_save import draft_of
from phasewire.app.checkpoint import FORMAT_VERSION, refuse_newer_format
from phasewire.app.phases.checkpoint_access import readable
from phasewire.app.phases.undamaged import require_undamaged
from phasewire.app.tensor_files import ALIASES_KEY, STATE_KEY, TensorFile, open_tensors, safetensors_module
from phasewire.app.tensor_writers import Pending, Watch, write_checkpoint, write_safetensors

__all__ = ["CANONICAL", "Conversion", "KnownNames", "convert"]

#: What people call the module's own names.
CANONICAL: Final = "canonical"

_SAFETENSORS: Final = ".safetensors"
_CHECKPOINT: Final = ".ckpt"
_MOST_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The namings of one module."""

    layouts: Mapping[str, Layout]
    """A word to where the module's tensors stand in a file with these names."""
    tied: Mapping[str, str]
    """Further names of the module to the first one of the same tensor."""
    adapter: str = ""
    """The class of the adapter that knows them."""

    # Any: plain values, as a checkpoint and JSON can hold them.
    def record(self) -> dict[str, Any]:
        """Give what a checkpoint records of it.

        Returns:
            Plain values.
        """
        return {
            "format": FORMAT_VERSION,
            "adapter": self.adapter,
            "namings": {word: layout.to_plain() for word, layout in self.layouts.items()},
            "tied": dict(self.tied),
        }


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was converted."""

    given: str
    """The names that the file had."""
    written: str
    """The names that the new file has."""
    tensors: int
    """How many tensors it holds."""
    left_out: tuple[str, ...]
    """What of a Lightning checkpoint is not in it."""


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: str,
    *,
    known: KnownNames | None = None,
    otherwise: Callable[[], KnownNames] | None = None,
    force: bool = False,
    unsafe: bool = False,
    watch: Watch | None = None,
) -> Conversion:
    """Convert a file. Tensors are read, translated and written one at a time, and never change their values.

    Args:
        source: A Lightning checkpoint, a state dict saved by ``torch.save``, or a file in the safetensors format.
        target: The file to write: ``.ckpt`` or ``.safetensors``. It is there whole or not at all.
        to: The names it gets: ``"canonical"`` for the module's own, or the word of a naming.
        known: The namings; by default those that the file records.
        otherwise: Gives the namings if the file records none.
        force: Replace a file that is there.
        unsafe: Let a checkpoint hold any object, which may run code while it is read.
        watch: Is told, after each tensor, how many bytes of how many are written.

    Returns:
        What was done.

    Raises:
        CheckpointError: Something is wrong with a file, a checksum in it, a name or a shape. No file was written.
    """
    target = Path(target)
    _check_target(target, force=force)
    file = open_tensors(source, unsafe=unsafe)
    where = str(file.path)
    try:
        if file.record is not None:
            refuse_newer_format({RECORD_KEY: file.record}, where)
        names = known or _recorded(file, otherwise)
        word = OWN_NAMES if to == CANONICAL else to
        given = _given_names(file, names)
        record = {**(file.record or names.record()), "parameter_names": word}
        tensors = _translated(file, names, given, word)
    except CheckpointError as error:
        if error.where is not None:
            raise
        raise CheckpointError(error.problem, where=where, remedy=error.remedy) from error
    left_out = tuple(file.rest) if target.suffix == _SAFETENSORS else ()
    try:
        if target.suffix == _SAFETENSORS:
            _write_safetensors(target, tensors, file, record, watch)
        else:
            _write_checkpoint(target, tensors, file, record, unsafe=unsafe, watch=watch)
    except OSError as error:
        raise CheckpointError(
            f"The file cannot be written: {error.strerror or error}.", where=str(target), remedy="Choose another place."
        ) from error
    return Conversion(given, word, len(tensors), left_out)


def _check_target(target: Path, *, force: bool) -> None:
    if target.suffix not in {_SAFETENSORS, _CHECKPOINT}:
        raise CheckpointError(
            f"The name of the file to write ends in {target.suffix or 'nothing'}.",
            where=str(target),
            remedy=f"Give it the ending {_CHECKPOINT}, for Lightning, or {_SAFETENSORS}.",
        )
    if target.is_dir():
        raise CheckpointError("This is a folder.", where=str(target), remedy="Name a file in it.")
    if target.exists() and not force:
        raise CheckpointError(
            "There is a file already.", where=str(target), remedy="Give another name, or --force to replace it."
        )
    if target.suffix == _SAFETENSORS:
        safetensors_module(target)


def _recorded(file: TensorFile, otherwise: Callable[[], KnownNames] | None) -> KnownNames:
    namings = recorded_namings(file.record)
    if not namings:
        if otherwise is not None:
            return otherwise()
        raise CheckpointError(
            "The file does not tell what names there are for its tensors.",
            where=str(file.path),
            remedy="Name the module and the adapter that knows them: --model package.Class --adapter NAME. Files that "
            "were written with such an adapter record it.",
        )
    layouts = {word: naming.layout((), word=word) for word, naming in namings.items()}
    return KnownNames(layouts, recorded_ties(file.record), str((file.record or {}).get("adapter", "")))


def _given_names(file: TensorFile, names: KnownNames) -> str:
    recorded = (file.record or {}).get("parameter_names")
    if isinstance(recorded, str) and recorded in {OWN_NAMES, *names.layouts}:
        return recorded
    return naming_of_keys(file.state, names.layouts, _own_names(names))


def _layout_of(word: str, names: KnownNames) -> Layout:
    if word in names.layouts:
        return names.layouts[word]
    choices = [CANONICAL, *names.layouts]
    if word != OWN_NAMES:
        raise CheckpointError(
            f"No naming is called {word!r}. {did_you_mean(word, choices)}".rstrip(),
            where="--to",
            remedy=f"Known for this file are {', '.join(choices)}.",
        )
    return Layout({own: Piece(own) for own in _own_names(names)})


def _own_names(names: KnownNames) -> list[str]:
    found = (own for layout in names.layouts.values() for own in (*layout.pieces, *layout.zeros))
    return list(dict.fromkeys(found))


# Any: modules may keep extra state of every type in a state dict.
def _translated(file: TensorFile, names: KnownNames, given: str, to: str) -> dict[str, Any]:
    """Name every tensor anew; what has to be made is pending, and known to fit."""
    layout, wanted = _layout_of(given, names), _layout_of(to, names)
    _refuse_unknown(file, layout, given)
    if given == to:
        return dict(file.state)
    first = {layout.main_name(name): file.state[name] for name in reversed(list(file.state))}
    zeros = layout.made_zeros()
    own = {**layout.sources(first, names.tied), **{name: name for name in zeros}}
    made: dict[str, Any] = {}
    room = _Room()
    for stored, parts in wanted.parts.items():
        missing = [part for part in parts if part not in own]
        if len(missing) == len(parts):
            continue
        if missing:
            raise CheckpointError(
                f"{stored!r} is made of {_listed(parts)}, and {_listed(missing)} is not there.",
                remedy="Use a file that holds the whole module.",
            )
        made[stored] = _value(stored, layout, wanted, own, first, zeros, room)
    return {**made, **wanted.further_names(made)}


def _value(
    stored: str,
    layout: Layout,
    wanted: Layout,
    own: Mapping[str, str],
    state: Mapping[str, Any],
    zeros: Mapping[str, Tensor],
    room: _Room,
) -> Any:  # noqa: ANN401  # as the comment above
    names = [own[part] for part in wanted.parts[stored]]
    if len(names) == 1 and names[0] in zeros:
        return zeros[names[0]]

    def through(get: Callable[[str], Any]) -> Any:  # noqa: ANN401  # as the comment above
        return wanted.stored_value(stored, lambda name: layout.own_value(own[name], get))

    parts = [layout.pieces[name].stored for name in names]
    if not all(isinstance(state[name], Tensor) for name in parts):
        return through(state.__getitem__)
    if len(parts) == 1 and through(state.__getitem__) is state[parts[0]]:
        return state[parts[0]]
    like = through(lambda name: state[name].to("meta"))
    return Pending(
        torch.empty(like.shape, dtype=like.dtype, device="meta"),
        lambda: wanted.stored_value(stored, lambda name: layout.own_value(own[name], state.__getitem__), room.empty),
    )


class _Room:
    """Memory for one tensor at a time, which is asked for once: the system fills new memory page by page."""

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def empty(self, like: Tensor, shape: list[int]) -> Tensor:
        """Give the memory in the form of a tensor; what was given before is no longer used."""
        size = math.prod(shape) * like.dtype.itemsize
        if len(self._bytes) < size:
            self._bytes = torch.empty(0, dtype=torch.uint8)  # before there is more, so that both are never held
            self._bytes = torch.empty(size, dtype=torch.uint8)
        return self._bytes[:size].view(like.dtype).reshape(shape)


def _refuse_unknown(file: TensorFile, layout: Layout, given: str) -> None:
    unknown = [name for name in file.state if name not in layout.known]
    if not unknown:
        return
    called = "the module" if given == OWN_NAMES else f"the naming {given!r}"
    near = did_you_mean(unknown[0], layout.known)
    raise CheckpointError(
        f"The file holds {_listed(unknown)}, which {called} does not have. {near}".rstrip(),
        where=str(file.path),
        remedy="Use a file of this very module, or name the module and adapter that it is of.",
    )


# Any, here and below: modules may keep extra state of every type in a state dict.
def _write_safetensors(
    target: Path, tensors: Mapping[str, Any], file: TensorFile, record: Mapping[str, Any], watch: Watch | None
) -> None:
    others = [name for name, value in tensors.items() if not isinstance(value, Tensor | Pending)]
    if others:
        raise CheckpointError(
            f"{_listed(others)} is no tensor, and the safetensors format holds nothing else.",
            where=str(target),
            remedy=f"Write a {_CHECKPOINT} file.",
        )
    aliases = {**tied_names({n: v for n, v in tensors.items() if isinstance(v, Tensor)}), **_made_once(tensors)}
    stored = {name: value for name, value in tensors.items() if name not in aliases}
    # transformers refuses a file that does not say "pt".
    metadata = {"format": "pt", RECORD_KEY: json.dumps({**record, ALIASES_KEY: aliases})}
    with _draft_of_undamaged(target, file) as draft:
        write_safetensors(draft, stored, metadata, watch)


def _write_checkpoint(
    target: Path,
    tensors: Mapping[str, Any],
    file: TensorFile,
    record: Mapping[str, Any],
    *,
    unsafe: bool,
    watch: Watch | None,
) -> None:
    import lightning

    beginning = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": lightning.__version__}
    content = {
        **(file.rest if file.is_checkpoint else beginning),
        STATE_KEY: like_state(file.state, tensors),
        RECORD_KEY: {key: value for key, value in record.items() if key != ALIASES_KEY},
    }
    with _draft_of_undamaged(target, file) as draft:
        write_checkpoint(draft, Path(draft.name), content, STATE_KEY, weights_only=not unsafe, watch=watch)


@contextmanager
def _draft_of_undamaged(target: Path, file: TensorFile) -> Iterator[BufferedWriter]:
    """Give the draft of a file, which gets its name unless what it is made of turns out to be damaged.

    Else the new file would have right checksums of wrong values. The checksums are compared while it is written, and
    what they read is read once from the disk.
    """
    with ThreadPoolExecutor(1) as other_core, draft_of(target) as draft:
        compared = other_core.submit(require_undamaged, file.path)
        yield draft
        with readable(str(file.path)):
            compared.result()


def _made_once(tensors: Mapping[str, Any]) -> dict[str, str]:
    first: dict[int, str] = {}
    pending = {name: id(value) for name, value in tensors.items() if isinstance(value, Pending)}
    return {name: first[key] for name, key in pending.items() if first.setdefault(key, name) != name}


def _listed(names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    more = f" and {len(listed) - _MOST_SHOWN} more" if len(listed) > _MOST_SHOWN else ""
    return ", ".join(listed[:_MOST_SHOWN]) + more
