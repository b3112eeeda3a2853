"""Puts the translator into the running strategy's path, so that no checkpoint goes round it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import ModelParallelStrategy

from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.errors import CheckpointError, PhasewireError
from phasewire.adapters.lightning_seams import saves_model_parallel_shards
from phasewire.adapters.sharded_checkpoints import ShardedCheckpoints
from phasewire.app.atomic_save import saving_atomically
from phasewire.app.checkpoint import SCHEDULER_STATE_KEY
from phasewire.app.phases.mapped_checkpoint import can_be_mapped, loading_into_memory, read_mapped
from phasewire.app.phases.pending_saves import finish_saves, load_when_written
from phasewire.app.strategy_seam import StrategySeam

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning.pytorch as pl
    from lightning.pytorch.strategies import Strategy

    from phasewire.app.checkpoint import CheckpointTranslator
    from phasewire.app.phases.kept_files import KeptFiles
    from phasewire.app.phases.parallel_checkpoints import ParallelCheckpoints
    from phasewire.app.phases.saved_state import SavedState

__all__ = ["checkpoint_adapter", "translate_checkpoints_of"]


# Any, here and below: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def translate_checkpoints_of(
    strategy: Strategy,
    adapter: StrategyAdapter,
    translator: CheckpointTranslator,
    *,
    set_up_fit: Callable[[pl.Trainer, Callable[[pl.Trainer], None]], None] | None,
    kept_files: KeptFiles,
    saved_state: SavedState,
) -> StrategySeam:
    """Shadow the strategy's checkpoint methods, and its ``setup``, until it is torn down.

    Args:
        strategy: The strategy of the running Trainer.
        adapter: The connected adapter.
        translator: What passes checkpoints through the adapter.
        set_up_fit: For a fit, called when the module is complete, with the Trainer and the strategy's own ``setup``,
            which it must call; ``None`` at other stages, where a checkpoint is only read for its weights.
        kept_files: Decides when a file is removed.
        saved_state: Is told what is saved.

    Returns:
        The seam, with the strategy's own methods.

    Raises:
        AdapterError: The adapter has no names of the kind that it is to store.
    """
    translator.check(adapter)
    parallel = _parallel_checkpoints(strategy)
    read_from: list[str] = []  # the path of the checkpoint that is being restored, for messages
    saved_at_step: dict[str, int | None] = {}

    def setup(trainer: pl.Trainer) -> None:
        if set_up_fit is None:
            seam.setup(trainer)
        else:
            translator.namings(adapter)  # which fails now, and not when the first checkpoint is written
            set_up_fit(trainer, seam.setup)

    def load_checkpoint(checkpoint_path: str | os.PathLike[str], **options: object) -> dict[str, Any]:
        path = os.fspath(checkpoint_path)
        read_from[:] = [path]
        finish_saves(strategy.checkpoint_io)
        with _readable(checkpoint_path):
            checkpoint = load_when_written(
                lambda: _read(adapter, seam, checkpoint_path, **options),
                strategy.checkpoint_io,
                saved_at_step=saved_at_step.get(path),
            )
        return translator.translate(checkpoint, reading_adapter(), checkpoint_path, resuming=set_up_fit is not None)

    def load_model_state_dict(checkpoint: dict[str, Any], strict: bool = True) -> None:
        translator.load(checkpoint, reading_adapter(), read_from[0] if read_from else None, strict=strict)

    def reading_adapter() -> StrategyAdapter:
        return checkpoint_adapter(adapter, shards=parallel is not None and parallel.has_read_shards)

    def writing_adapter() -> StrategyAdapter:
        return checkpoint_adapter(adapter, shards=saves_model_parallel_shards(strategy))

    def save_checkpoint(
        checkpoint: dict[str, Any], filepath: str | os.PathLike[str], *arguments: object, **options: object
    ) -> None:
        translator.sign(checkpoint, writing_adapter())
        saved_at_step[os.fspath(filepath)] = checkpoint.get("global_step")
        with saving_atomically(strategy):
            seam.save_checkpoint(checkpoint, filepath, *arguments, **options)
        saved_state.note_saved(filepath, checkpoint)
        kept_files.note_saved(filepath, seam.remove_checkpoint)

    def remove_checkpoint(filepath: str | os.PathLike[str]) -> None:
        kept_files.remove(filepath, seam.remove_checkpoint)

    seam = _seam_with(
        strategy,
        {
            "setup": setup,
            "load_checkpoint": load_checkpoint,
            "load_model_state_dict": load_model_state_dict,
            "save_checkpoint": save_checkpoint,
            "remove_checkpoint": remove_checkpoint,
            "lightning_module_state_dict": lambda: translator.collect(writing_adapter()),
            **_optimizer_methods(adapter, strategy),
        },
        parallel,
    )
    return seam


def _seam_with(
    strategy: Strategy, replacements: dict[str, Callable[..., Any]], parallel: ParallelCheckpoints | None
) -> StrategySeam:
    if parallel is None:
        return StrategySeam(strategy, replacements)
    for_optimizers = ("optimizer_state", "load_optimizer_state_dict")
    seam = StrategySeam(strategy, replacements | {name: getattr(parallel, name) for name in for_optimizers})
    # What the adapter's hooks come down to: the strategy's own would load the optimizer too soon.
    seam.load_checkpoint, seam.load_model_state_dict = parallel.load_checkpoint, parallel.load_model_state_dict
    return seam


def checkpoint_adapter(adapter: StrategyAdapter, *, shards: bool) -> StrategyAdapter:
    """Choose the adapter that a checkpoint passes through.

    Args:
        adapter: The connected adapter.
        shards: The checkpoint is a folder of shards. Those are stored under the names by which the module finds its own
            shards again, so an adapter that stores other names has no part in it.

    Returns:
        The adapter, or one that leaves names as they are.
    """
    if not shards or adapter.names_on_disk == StrategyAdapter.checkpoint_names:
        return adapter
    plain = StrategyAdapter()
    plain.connect(adapter.fts_handle)
    return plain


def _parallel_checkpoints(strategy: Strategy) -> ParallelCheckpoints | None:
    if not isinstance(strategy, ModelParallelStrategy):
        return None
    # Imported where it is needed: torch's distributed checkpoints take long to import.
    from phasewire.app.phases.parallel_checkpoints import ParallelCheckpoints

    return ParallelCheckpoints(strategy)


def _read(
    adapter: StrategyAdapter, seam: StrategySeam, path: str | os.PathLike[str], **options: object
) -> dict[str, Any]:
    given = options.get("weights_only")
    weights_only = None if given is None else bool(given)
    if isinstance(adapter, ShardedCheckpoints):
        return adapter.read_checkpoint(Path(path), weights_only=weights_only)
    if can_be_mapped(seam.strategy, seam.load_checkpoint, path):
        return read_mapped(path, weights_only=weights_only)
    read: dict[str, Any] = seam.load_checkpoint(path, **options)
    return read


def _optimizer_methods(adapter: StrategyAdapter, strategy: Strategy) -> dict[str, Callable[..., Any]]:
    if not isinstance(adapter, ShardedCheckpoints):
        load = strategy.load_optimizer_state_dict
        return {
            "load_optimizer_state_dict": lambda checkpoint: loading_into_memory(strategy.optimizers, load, checkpoint)
        }

    def load_optimizer_state_dict(checkpoint: dict[str, Any]) -> None:
        adapter.load_optimizer_states(checkpoint, checkpoint["callbacks"][SCHEDULER_STATE_KEY]["groups"])

    return {"optimizer_state": adapter.optimizer_state, "load_optimizer_state_dict": load_optimizer_state_dict}


@contextmanager
def _readable(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except PhasewireError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"The checkpoint cannot be read ({type(error).__name__}: {error}).",
            where=os.fspath(path),
            remedy="Give a checkpoint that is there and whole. Between phases it is the best one; it must stay until "
            "the run is over.",
        ) from error
