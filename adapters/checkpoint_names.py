"""The names in checkpoints: what a state dict is stored under, and how one in any known naming is read again.

:class:`~phasewire.adapters.StrategyAdapter` calls these from its checkpoint hooks; an adapter only says which namings
there are.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.strategies import Strategy

from phasewire.adapters.errors import AdapterError, CheckpointError, did_you_mean
from phasewire.adapters.loading import misfit_of
from phasewire.adapters.renaming import OWN_NAMES, MappedNaming, Naming
from phasewire.adapters.sharded_checkpoints import ShardedCheckpoints
from phasewire.adapters.tensor_layout import Layout, tied_names
from phasewire.adapters.tensor_pieces import CHANGED

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from phasewire.adapters.base import StrategyAdapter

__all__ = [
    "RECORD_KEY",
    "NamesRead",
    "check_names_on_disk",
    "naming_of_keys",
    "own_checkpoint",
    "recorded_namings",
    "recorded_ties",
    "refuse_misfit",
    "stored_state",
    "written_namings",
]

#: The key under which a checkpoint records how it was written.
RECORD_KEY: Final = "phasewire"

_STATE: Final = "state_dict"


@dataclass(frozen=True, slots=True)
class NamesRead:
    """Which names the checkpoint has that was read last."""

    word: str
    """What they are called."""
    layout: Layout
    """Where the module's tensors stand in it."""


# Any, here and below: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def stored_state(adapter: StrategyAdapter, state: dict[str, Any]) -> dict[str, Any]:
    """Give a state dict the names that the adapter stores.

    Args:
        adapter: The connected adapter.
        state: The module's state, under its own names; empty on ranks that write nothing.

    Returns:
        The state dict to store.

    Raises:
        CheckpointError: The naming does not work for the module.
    """
    naming = _renamings_of(adapter).get(adapter.names_on_disk)
    if naming is None:
        return state
    return naming.layout(state, word=adapter.names_on_disk).stored_state(state)


def own_checkpoint(adapter: StrategyAdapter, checkpoint: dict[str, Any]) -> tuple[dict[str, Any], NamesRead | None]:
    """Give the state dict of a checkpoint the module's own names.

    The names are those that the file records, or, in a file without a record, of the naming that knows most of them.
    Where the adapter and the file call names alike and mean others, it is the same.

    Args:
        adapter: The connected adapter.
        checkpoint: The whole checkpoint.

    Returns:
        The checkpoint, a new one where names differ; and which names it had, if they are not the module's.

    Raises:
        CheckpointError: The file tells of names that nobody knows, or they do not fit the module.
    """
    state = checkpoint.get(_STATE)
    record = checkpoint.get(RECORD_KEY)
    in_file = recorded_namings(record)
    namings = {**in_file, **_renamings_of(adapter)}
    if not isinstance(state, dict) or not (namings or isinstance(record, Mapping)):
        return checkpoint, None
    own = own_names(adapter)
    recorded = record.get("parameter_names") if isinstance(record, Mapping) else None
    if isinstance(recorded, str) and _knows_more(in_file.get(recorded), namings.get(recorded), state, own):
        namings[recorded] = in_file[recorded]  # the adapter called names otherwise when it wrote the file
    layouts = {word: naming.layout(own, word=word) for word, naming in namings.items()}
    word = recorded if isinstance(recorded, str) else naming_of_keys(state, layouts, own)
    if word == OWN_NAMES:
        return checkpoint, None
    if word not in layouts:
        _refuse_unknown(adapter, word, layouts)
        return checkpoint, None
    translated, unknown = layouts[word].own_state(state, tied=_ties(adapter, record))
    for stored in unknown:
        name = namings[word].own_name(stored)
        translated.setdefault(name if name not in layouts[word].pieces else stored, state[stored])
    return {**checkpoint, _STATE: translated}, NamesRead(word, layouts[word])


def _knows_more(one: Naming | None, other: Naming | None, keys: Iterable[str], own: Iterable[str]) -> bool:
    if one is None or other is None:
        return False
    return len(one.layout(own).known.intersection(keys)) > len(other.layout(own).known.intersection(keys))


def _refuse_unknown(adapter: StrategyAdapter, word: str, known: Iterable[str]) -> None:
    from phasewire.adapters.base import StrategyAdapter

    # An adapter with a hook of its own reads names that only the hook knows.
    if word == adapter.names_on_disk or type(adapter).before_restore_model is not StrategyAdapter.before_restore_model:
        return
    raise CheckpointError(
        f"The checkpoint has the names {word!r}, which {type(adapter).__name__} does not know. "
        f"{did_you_mean(word, known)}".rstrip(),
        remedy=f"Known are {', '.join([OWN_NAMES, *known])}. Use the adapter that the file was written with; it is "
        f"recorded there under {RECORD_KEY!r}.",
    )


def _ties(adapter: StrategyAdapter, record: object) -> dict[str, str]:
    return {**recorded_ties(record), **_tied_in(adapter.pl_module)}


def recorded_namings(record: object) -> dict[str, Naming]:
    """Read the namings that a checkpoint records.

    Args:
        record: What stands under ``phasewire`` in a checkpoint, or ``None``.

    Returns:
        What they are called, each with the naming.

    Raises:
        CheckpointError: The record is none that Phasewire writes.
    """
    namings = record.get("namings", {}) if isinstance(record, Mapping) else {}
    if not isinstance(namings, Mapping):
        shown = reprlib.repr(namings)
        raise CheckpointError(
            f"The checkpoint should record how its tensors are called, as a dict of namings, and holds {shown} there.",
            remedy=CHANGED,
        )
    return {str(word): MappedNaming(Layout.from_plain(plain, word=str(word))) for word, plain in namings.items()}


def recorded_ties(record: object) -> dict[str, str]:
    """Read which names of the module a checkpoint records as further names of a tensor.

    Args:
        record: What stands under ``phasewire`` in a checkpoint, or ``None``.

    Returns:
        Every further name to the first one.
    """
    tied = record.get("tied", {}) if isinstance(record, Mapping) else {}
    return {str(alias): str(name) for alias, name in tied.items()} if isinstance(tied, Mapping) else {}


def written_namings(adapter: StrategyAdapter) -> dict[str, Any]:
    """Give what a checkpoint records of the namings: names only, so that any program can translate the file.

    Args:
        adapter: The connected adapter.

    Returns:
        Plain values; empty if the adapter has no namings.

    Raises:
        CheckpointError: A naming does not work for the module.
    """
    renamings = _renamings_of(adapter)
    if not renamings:
        return {}
    own = own_names(adapter)
    namings = {word: naming.layout(own, word=word).to_plain() for word, naming in renamings.items()}
    return {"namings": namings, "tied": _tied_in(adapter.pl_module)}


def check_names_on_disk(adapter: StrategyAdapter) -> None:
    """Make sure, before anything is trained, that checkpoints can have the names that the adapter is to store.

    Args:
        adapter: The connected adapter.

    Raises:
        AdapterError: It knows no such naming or gives what is none, or the strategy stores shards, which have the
            module's names.
    """
    word, renamings = adapter.names_on_disk, _renamings_of(adapter)
    if word not in {OWN_NAMES, adapter.checkpoint_names, *renamings}:
        choices = list(dict.fromkeys([OWN_NAMES, *renamings]))
        raise AdapterError(
            f"{type(adapter).__name__} has no names called {word!r} for checkpoints. {did_you_mean(word, choices)}"
            f" It has {', '.join(choices)}.",
            where="strategy_adapter_cfg, checkpoint_names",
            remedy="Give one of them.",
        )
    if OWN_NAMES in renamings:
        raise AdapterError(
            f"{type(adapter).__name__}.checkpoint_renamings gives a naming called {OWN_NAMES!r}, the word for the "
            "module's own names.",
            remedy="Call it otherwise.",
        )
    if word in renamings and isinstance(adapter, ShardedCheckpoints) and adapter.saves_shards:
        raise AdapterError(
            f"Shards have the module's own names, and {type(adapter).__name__} is to store {word!r}.",
            where="strategy_adapter_cfg, checkpoint_names",
            remedy=f"Set strategy_adapter_cfg={{'checkpoint_names': {OWN_NAMES!r}}}, or let the strategy save whole "
            "files (state_dict_type='full').",
        )


def naming_of_keys(keys: Iterable[str], layouts: Mapping[str, Layout], own: Iterable[str]) -> str:
    """Tell which naming a state dict without a record has.

    Args:
        keys: Its keys.
        layouts: The namings that are known, for the module.
        own: The module's own names.

    Returns:
        The naming that knows most of the keys; the module's own names if none knows more than they do.
    """
    wanted = set(keys)
    known = {OWN_NAMES: frozenset(own), **{word: layout.known for word, layout in layouts.items()}}
    return max(known, key=lambda word: len(wanted & known[word]))


def own_names(adapter: StrategyAdapter) -> list[str]:
    """List the keys of the module's state dict, in whatever way the module is wrapped.

    Args:
        adapter: The connected adapter.

    Returns:
        The names.
    """
    module = adapter.pl_module
    if not isinstance(adapter, ShardedCheckpoints):
        return list(module.state_dict())
    # A state dict is gathered from all processes, which is more than its names are worth.
    parameters = adapter.recorded_names([name for name, _ in module.named_parameters()])
    return [*parameters, *(adapter.recorded_module_name(name) for name, _ in module.named_buffers())]


def refuse_misfit(
    adapter: StrategyAdapter, checkpoint: Mapping[str, Any], names: NamesRead | None, *, strict: bool
) -> None:
    """Refuse a state dict that the module would refuse, before any of it is loaded.

    A strategy that does not simply let the module load it is left to check it in its own way.

    Args:
        adapter: The connected adapter.
        checkpoint: The whole checkpoint, with the module's own names.
        names: Which names the file has, if they are others.
        strict: Whether missing and unexpected keys are refused.

    Raises:
        CheckpointError: It would; the error lists what does not fit, in both namings, and has the module's as cause.
    """
    module, strategy = adapter.pl_module, type(adapter.pls_handle)
    if strategy.load_model_state_dict is not Strategy.load_model_state_dict:
        return
    misfit = misfit_of(module, checkpoint.get(_STATE), strict=strict)
    if misfit is None:
        return

    def shown(name: str) -> str:
        piece = None if names is None else names.layout.pieces.get(name)
        return name if piece is None or piece.stored == name else f"{name} ({piece.stored} in the file)"

    called = "" if names is None else f" The file has the names {names.word!r}."
    raise CheckpointError(
        f"The checkpoint does not fit {type(module).__name__}: {misfit.described(shown)}.{called}",
        remedy="Nothing was loaded. Use a checkpoint of this very model, or set strict_loading=False on the module to "
        "pass over names.",
    ) from misfit.error


def _renamings_of(adapter: StrategyAdapter) -> Mapping[str, Naming]:
    given: object = adapter.checkpoint_renamings()
    if isinstance(given, Mapping):
        wrong = [
            f"{reprlib.repr(word)}: {reprlib.repr(naming)}"
            for word, naming in given.items()
            if not isinstance(word, str) or not word or not isinstance(naming, Naming)
        ]
        if not wrong:
            return given
    else:
        wrong = [reprlib.repr(given)]
    raise AdapterError(
        f"{type(adapter).__name__}.checkpoint_renamings gives {wrong[0]}, and a word for a naming with the naming is "
        "expected.",
        remedy="Return a dict as {'acme': Renaming({'layers': 'blocks'})}; without other names, an empty one.",
    )


def _tied_in(module: LightningModule) -> dict[str, str]:
    parameters = dict(module.named_parameters(remove_duplicate=False))
    return tied_names({**parameters, **dict(module.named_buffers(remove_duplicate=False))})
