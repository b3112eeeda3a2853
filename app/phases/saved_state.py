"""Tells that a run is still where its best checkpoint was saved, so that restoring it would change nothing.

That is so whenever the last epoch of a phase is its best one: it is saved when it is validated, and the next phase
begins before another batch is trained.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import SingleDeviceStrategy

from phasewire.app.checkpoint import SCHEDULER_STATE_KEY
from phasewire.app.phases.checksums import can_be_summed, checksum_of

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = ["SavedState"]

#: The options of groups that restoring a checkpoint leaves at their newest values.
_KEPT_OPTIONS: Final = frozenset({"lr", "initial_lr"})


@dataclass(frozen=True, slots=True)
class _Moment:
    """What a checkpoint holds of module, optimizers and precision, and when it was saved."""

    file: tuple[int, int, int]
    batches: int
    state: object
    optimizers: object
    precision: object
    parameters: tuple[int, ...]
    written: tuple[int, int]


class SavedState:
    """Remembers what the best checkpoint holds, until something changes.

    Only for one process: others may hold other buffers than the one that saves. Before a fit begins, it knows nothing.
    """

    def __init__(self) -> None:
        self._trainer: pl.Trainer | None = None
        self._best: ModelCheckpoint | None = None
        self._may_be_asked: Callable[[], bool] = lambda: False
        self._saved: dict[str, _Moment] = {}

    def begin(self, trainer: pl.Trainer, best: ModelCheckpoint | None, *, may_be_asked: Callable[[], bool]) -> None:
        """Act when a fit begins.

        Args:
            trainer: The Trainer that fits.
            best: The callback whose best checkpoint is restored; ``None`` if none is.
            may_be_asked: Tells, when a checkpoint was saved, whether a phase may begin from it without reading it; the
                checksums of all tensors are made only then.
        """
        plain = type(trainer.strategy) is SingleDeviceStrategy and trainer.world_size == 1
        self._trainer, self._best, self._may_be_asked = trainer, best if plain else None, may_be_asked

    # Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
    def note_saved(self, path: str | os.PathLike[str], checkpoint: Mapping[str, Any]) -> None:
        """Note a checkpoint that was saved just now.

        Args:
            path: Where it is.
            checkpoint: What it holds. Hooks may have put other tensors there than those of the module.
        """
        trainer, best = self._trainer, self._best
        if trainer is None or best is None or os.fspath(path) != best.best_model_path:
            return
        self._saved.clear()
        scheduler = checkpoint.get("callbacks", {}).get(SCHEDULER_STATE_KEY)
        is_plain = type(trainer.strategy.checkpoint_io) is TorchCheckpointIO and Path(path).is_file()
        if scheduler is None or not is_plain or not self._may_be_asked():
            return  # weights alone, or a file of which it is not known how it is read, or that is read anyway
        precision = type(trainer.precision_plugin).__qualname__  # the key under which Lightning keeps its state
        self._saved[os.fspath(path)] = _Moment(
            file=_version_of_file(path),
            batches=_batches(trainer),
            state=_marked(checkpoint.get("state_dict")),
            optimizers=_marked_optimizers(checkpoint.get("optimizer_states")),
            precision=_marked(checkpoint.get(precision, {})),
            parameters=_parameters(trainer),
            written=(int(checkpoint["epoch"]), int(scheduler["depth"])),
        )

    def current(self, path: str) -> tuple[int, int] | None:
        """Tell whether module, optimizers and precision are what a checkpoint holds, without reading it.

        Args:
            path: The checkpoint.

        Returns:
            The epoch and the phase in which it was written, if the checksums of all that it holds of them are equal.
        """
        trainer, saved = self._trainer, self._saved.get(path)
        if trainer is None or saved is None or _batches(trainer) != saved.batches or not Path(path).is_file():
            return None
        if _version_of_file(path) != saved.file or _parameters(trainer) != saved.parameters:
            return None
        strategy = trainer.strategy
        optimizers = [strategy.optimizer_state(optimizer) for optimizer in strategy.optimizers]
        if _marked(trainer.precision_plugin.state_dict()) != saved.precision:
            return None
        if _marked(strategy.lightning_module_state_dict()) != saved.state:
            return None
        return saved.written if _marked_optimizers(optimizers) == saved.optimizers else None


def _batches(trainer: pl.Trainer) -> int:
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def _parameters(trainer: pl.Trainer) -> tuple[int, ...]:
    return tuple(id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"])


def _version_of_file(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    status = Path(path).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _marked_optimizers(states: object) -> object:
    """Mark the states of optimizers, but for the options that a restore leaves alone."""
    if not isinstance(states, list):
        return _unknown()
    return [_marked_optimizer(state) for state in states]


def _marked_optimizer(state: object) -> object:
    if not isinstance(state, Mapping) or state.keys() != {"state", "param_groups"}:
        return _unknown()
    return _marked(state["state"]), [_marked(_without_kept(group)) for group in state["param_groups"]]


# Any: the options of a group are of every type.
def _without_kept(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in _KEPT_OPTIONS}


def _marked(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return _marked_tensor(value)
    if isinstance(value, Mapping):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else _unknown()


def _marked_tensor(tensor: torch.Tensor) -> object:
    return checksum_of(tensor) if can_be_summed(tensor) else _unknown()


def _unknown() -> object:
    """Give what is equal to nothing else, for what cannot be compared."""
    return object()
