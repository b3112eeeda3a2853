"""Puts the translator into the running strategy's path, so that no checkpoint goes round it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import ModelParallelStrategy

from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.lightning_seams import saves_model_parallel_shards
from phasewire.adapters.sharded_checkpoints import ShardedCheckpoints
from phasewire.app.atomic_save import saving_atomically
from phasewire.app.checkpoint import SCHEDULER_STATE_KEY
from phasewire.app.own_classes import OwnClasses
from phasewire.app.phases.checkpoint_access import (
    fitting_optimizer,
    readable,
    require_dict,
    require_optimizer_states,
    require_version,
    writable,
)
from phasewire.app.phases.load_hooks import may_change_checkpoints
from phasewire.app.phases.mapped_checkpoint import can_be_mapped, loaded_into_memory, loading_into_memory, read_mapped
from phasewire.app.phases.pending_saves import finish_saves, load_when_written
from phasewire.app.phases.reading_back import ReadingBack
from phasewire.app.phases.undamaged import SavedFiles
from phasewire.app.strategy_seam import StrategySeam

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    translated = _TranslatedCheckpoints(
        strategy,
        adapter,
        translator,
        kept_files,
        saved_state,
        _parallel_checkpoints(strategy),
        for_a_fit=set_up_fit is not None,
    )

    def setup(trainer: pl.Trainer) -> None:
        if set_up_fit is None:
            translated.seam.setup(trainer)
        else:
            translator.namings(adapter)  # which fails now, and not when the first checkpoint is written
            set_up_fit(trainer, translated.seam.setup)

    return translated.shadow(setup)


class _TranslatedCheckpoints:
    """Reads and writes checkpoints in the strategy's place, and with its own methods."""

    seam: StrategySeam
    _is_known: bool

    def __init__(
        self,
        strategy: Strategy,
        adapter: StrategyAdapter,
        translator: CheckpointTranslator,
        kept_files: KeptFiles,
        saved_state: SavedState,
        parallel: ParallelCheckpoints | None,
        *,
        for_a_fit: bool,
    ) -> None:
        self._strategy = strategy
        self._adapter = adapter
        self._translator = translator
        self._kept_files = kept_files
        self._saved_state = saved_state
        self._parallel = parallel
        self._for_a_fit = for_a_fit
        self._read_from: str | None = None  # the checkpoint that is being restored, for messages
        self._is_mapped = False  # whether that is in its file still
        self._saved_at_step: dict[str, int | None] = {}
        self._saved_files = SavedFiles()
        self._own_classes, self._told = OwnClasses(), _WeightsOnly()
        self._reading_back = ReadingBack(self._own_classes.allowed)

    def shadow(self, setup: Callable[[pl.Trainer], None]) -> StrategySeam:
        """Put these methods in the place of the strategy's, and one of the strategy's own beside them."""
        replacements: dict[str, Callable[..., Any]] = {
            "setup": setup,
            "load_checkpoint": self.load_checkpoint,
            "load_model_state_dict": self.load_model_state_dict,
            "save_checkpoint": self.save_checkpoint,
            "remove_checkpoint": self.remove_checkpoint,
            "load_optimizer_state_dict": self.load_optimizer_state_dict,
            "lightning_module_state_dict": self.lightning_module_state_dict,
        }
        parallel, adapter = self._parallel, self._adapter
        if parallel is not None:
            replacements["optimizer_state"] = parallel.optimizer_state
        elif isinstance(adapter, ShardedCheckpoints):
            replacements["optimizer_state"] = adapter.optimizer_state
        self.seam = seam = StrategySeam(self._strategy, replacements)
        self._is_known = not may_change_checkpoints(self._translator, seam)
        if parallel is not None:
            # What the adapter's hooks come down to: the strategy's own would load the optimizer too soon.
            seam.load_checkpoint, seam.load_model_state_dict = parallel.load_checkpoint, parallel.load_model_state_dict
            seam.load_optimizer_state_dict = parallel.load_optimizer_state_dict
        elif isinstance(adapter, ShardedCheckpoints):
            seam.load_optimizer_state_dict = lambda checkpoint: adapter.load_optimizer_states(
                checkpoint, checkpoint["callbacks"][SCHEDULER_STATE_KEY]["groups"]
            )
        else:
            own = seam.load_optimizer_state_dict
            seam.load_optimizer_state_dict = lambda checkpoint: loading_into_memory(
                self._strategy.optimizers, own, checkpoint
            )
        return seam

    def load_checkpoint(self, checkpoint_path: str | os.PathLike[str], **options: object) -> dict[str, Any]:
        path = self._read_from = os.fspath(checkpoint_path)
        finish_saves(self._strategy.checkpoint_io)
        weights_only = self._told.what_to_read(path, options.get("weights_only"))
        if weights_only is not None:
            options["weights_only"] = weights_only

        def load() -> dict[str, Any]:
            self._saved_files.require_undamaged(path)
            self._is_mapped = not isinstance(self._adapter, ShardedCheckpoints) and can_be_mapped(
                self._strategy, self.seam.load_checkpoint, checkpoint_path
            )
            return _read(self._adapter, self.seam, checkpoint_path, mapped=self._is_mapped, **options)

        with self._own_classes.allowed(), readable(path):
            checkpoint = load_when_written(
                load, self._strategy.checkpoint_io, saved_at_step=self._saved_at_step.get(path)
            )
        require_dict(checkpoint, path)
        checkpoint = self._translator.translate(
            checkpoint, self._reading_adapter(), checkpoint_path, resuming=self._for_a_fit
        )
        require_version(checkpoint, path)
        return checkpoint

    def load_model_state_dict(self, checkpoint: dict[str, Any], strict: bool = True) -> None:
        self._translator.load(checkpoint, self._reading_adapter(), self._read_from, strict=strict)
        if self._is_mapped:
            loaded_into_memory(self._adapter.pl_module, checkpoint.get("state_dict"))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        in_shards = isinstance(self._adapter, ShardedCheckpoints)
        with fitting_optimizer(self._read_from):
            if self._strategy.lightning_restore_optimizer and not in_shards:
                require_optimizer_states(checkpoint, len(self._strategy.optimizers), self._read_from)
            self.seam.load_optimizer_state_dict(checkpoint)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | os.PathLike[str], *arguments: object, **options: object
    ) -> None:
        path = os.fspath(filepath)
        self._translator.sign(checkpoint, self._writing_adapter())
        holds_objects = self._own_classes.note(checkpoint)
        self._saved_at_step[path] = checkpoint.get("global_step")
        with writable(path), saving_atomically(self._strategy):
            self.seam.save_checkpoint(checkpoint, filepath, *arguments, **options)
        # Lightning waits only after this; before, processes that do not write would note that there is no file.
        self._strategy.barrier("phasewire.save_checkpoint")
        if holds_objects and self._told.what_to_read(path, None) is not False:
            self._reading_back.try_once(path, self._strategy, self.seam.load_checkpoint)
        self._saved_files.note(path)
        if self._is_known:
            self._saved_state.note_saved(filepath, checkpoint)
        self._kept_files.note_saved(filepath, self.seam.remove_checkpoint)

    def remove_checkpoint(self, filepath: str | os.PathLike[str]) -> None:
        self._kept_files.remove(filepath, self.seam.remove_checkpoint)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return self._translator.collect(self._writing_adapter())

    def _reading_adapter(self) -> StrategyAdapter:
        reads_shards = self._parallel is not None and self._parallel.has_read_shards
        return checkpoint_adapter(self._adapter, shards=reads_shards)

    def _writing_adapter(self) -> StrategyAdapter:
        return checkpoint_adapter(self._adapter, shards=saves_model_parallel_shards(self._strategy))


class _WeightsOnly:
    """What may be in the checkpoints of a run: tensors and plain values, unless the user has said that all may."""

    def __init__(self) -> None:
        self._told: bool | None = None

    def what_to_read(self, path: str, weights_only: object) -> bool | None:
        """Tell what to give ``torch.load``, and remember what the user said: it holds for the whole run.

        Args:
            path: The checkpoint.
            weights_only: What the Trainer was told.

        Returns:
            Its ``weights_only``; ``None`` for torch's default, which is true.
        """
        if weights_only is not None:
            self._told = bool(weights_only)
        # Lightning restricts nothing in what it reads from the web, where it is not told to.
        return True if self._told is None and path.startswith("http") else self._told


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
    adapter: StrategyAdapter, seam: StrategySeam, path: str | os.PathLike[str], *, mapped: bool, **options: object
) -> dict[str, Any]:
    given = options.get("weights_only")
    weights_only = None if given is None else bool(given)
    if isinstance(adapter, ShardedCheckpoints):
        return adapter.read_checkpoint(Path(path), weights_only=weights_only)
    if mapped:
        return read_mapped(path, weights_only=weights_only)
    read: dict[str, Any] = seam.load_checkpoint(path, **options)
    return read
