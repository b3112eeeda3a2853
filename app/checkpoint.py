"""The checkpoint translator: every state dict that is written or read passes here, through the adapter's hooks."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.checkpoint_names import RECORD_KEY, check_names_on_disk, written_namings
from phasewire.adapters.errors import CheckpointError, PhasewireError
from phasewire.adapters.tensor_pieces import CHANGED

__all__ = ["CHECKPOINT_KEY", "FORMAT_VERSION", "SCHEDULER_STATE_KEY", "CheckpointTranslator", "refuse_newer_format"]

#: The key under which a checkpoint records how it was written.
CHECKPOINT_KEY: Final = RECORD_KEY
#: The key of the callback's own state among a checkpoint's callbacks.
SCHEDULER_STATE_KEY: Final = "phasewire.FinetuningScheduler"
#: The version of what Phasewire writes into checkpoints.
FORMAT_VERSION: Final = 1

_PEER_STATE_FIELD: Final = "fts_metadata"

# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
Checkpoint = dict[str, Any]


class CheckpointTranslator:
    """Passes checkpoints through the adapter on their way out and in, and stops a restore that goes wrong.

    It keeps no state: the adapter is an argument of every call, so one translator serves any number of Trainers.
    """

    def collect(self, adapter: StrategyAdapter) -> dict[str, Any]:
        """Collect the module's state for a checkpoint that is being written.

        Args:
            adapter: The connected adapter.

        Returns:
            The state dict to store.

        Raises:
            CheckpointError: The adapter failed.
        """
        with _stopping_at_failure(adapter, "lightning_module_state_dict", None, remedy="No checkpoint was written."):
            # An adapter may break the promise of its annotation.
            state: object = adapter.lightning_module_state_dict()
        if not isinstance(state, dict):
            raise CheckpointError(
                f"{type(adapter).__name__}.lightning_module_state_dict returned {type(state).__name__}, not a dict.",
                remedy="The hook must return the state dict to store.",
            )
        return state

    def sign(self, checkpoint: Checkpoint, adapter: StrategyAdapter) -> None:
        """Record in a checkpoint which names its state dict uses, which others there are, and which adapter wrote it.

        Args:
            checkpoint: The checkpoint about to be written; the record is added to it.
            adapter: The connected adapter.

        Raises:
            CheckpointError: A naming of the adapter does not work for the module.
        """
        checkpoint[CHECKPOINT_KEY] = {
            "format": FORMAT_VERSION,
            "parameter_names": adapter.names_on_disk,
            "adapter": f"{type(adapter).__module__}:{type(adapter).__qualname__}",
            **self.namings(adapter),
        }

    def check(self, adapter: StrategyAdapter) -> None:
        """Make sure, before anything is trained or read, that the adapter has the names that it is to store.

        Args:
            adapter: The connected adapter.

        Raises:
            AdapterError: It has not.
            CheckpointError: The adapter failed.
        """
        with _stopping_at_failure(adapter, "checkpoint_renamings", None, remedy="Nothing was trained or restored."):
            check_names_on_disk(adapter)

    def namings(self, adapter: StrategyAdapter) -> dict[str, Any]:
        """Give what a checkpoint records of the adapter's namings, for the module as it is.

        Args:
            adapter: The connected adapter.

        Returns:
            Plain values; empty if it has none.

        Raises:
            CheckpointError: A naming does not work for the module, or the adapter failed.
        """
        with _stopping_at_failure(adapter, "checkpoint_renamings", None, remedy="No checkpoint was written."):
            return written_namings(adapter)

    def translate(
        self, checkpoint: Checkpoint, adapter: StrategyAdapter, path: str | os.PathLike[str], *, resuming: bool
    ) -> Checkpoint:
        """Translate a checkpoint that was just read, before anything is restored from it.

        Args:
            checkpoint: The whole checkpoint.
            adapter: The connected adapter.
            path: Where it was read, for messages.
            resuming: Training goes on from it; otherwise only weights are wanted.

        Returns:
            The checkpoint to restore from.

        Raises:
            CheckpointError: It was written by another package or a newer Phasewire, or the adapter failed.
        """
        refuse_newer_format(checkpoint, path)
        if resuming:
            _require_scheduler_state(checkpoint, path)
        with _stopping_at_failure(adapter, "before_restore_model", path):
            translated: object = adapter.before_restore_model(checkpoint)
        if not isinstance(translated, dict):
            raise CheckpointError(
                f"{type(adapter).__name__}.before_restore_model returned {type(translated).__name__}, not a "
                "checkpoint.",
                where=str(path),
                remedy="The hook must return the checkpoint, changed or not.",
            )
        return translated

    def load(
        self,
        checkpoint: Checkpoint,
        adapter: StrategyAdapter,
        path: str | os.PathLike[str] | None,
        *,
        strict: bool = True,
    ) -> None:
        """Load the module's state from a translated checkpoint.

        Args:
            checkpoint: What :meth:`translate` returned.
            adapter: The connected adapter.
            path: Where it was read, for messages; ``None`` when unknown.
            strict: Refuse missing and unexpected keys.

        Raises:
            CheckpointError: The state does not fit the module, or the adapter failed.
        """
        with _stopping_at_failure(adapter, "load_model_state_dict", path):
            adapter.load_model_state_dict(checkpoint, strict=strict)


@contextmanager
def _stopping_at_failure(
    adapter: StrategyAdapter,
    hook: str,
    path: str | os.PathLike[str] | None,
    *,
    remedy: str = "Nothing was restored past this point; training on would use the wrong weights.",
) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        if error.where is not None or path is None:
            raise
        raise CheckpointError(error.problem, where=str(path), remedy=error.remedy) from error.__cause__ or error
    except PhasewireError:
        raise
    except Exception as error:
        overridden = getattr(type(adapter), hook) is not getattr(StrategyAdapter, hook)
        culprit = f"{type(adapter).__name__}.{hook}" if overridden else "The strategy"
        raise CheckpointError(
            f"{culprit} failed with {type(error).__name__}: {error}",
            where=None if path is None else str(path),
            remedy=remedy,
        ) from error


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def refuse_newer_format(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuse a checkpoint whose record this release cannot read.

    Args:
        checkpoint: The whole checkpoint.
        path: Where it was read, for messages.

    Raises:
        CheckpointError: A newer release wrote it, or the record is none.
    """
    record = checkpoint.get(CHECKPOINT_KEY)
    if record is None:
        return
    version = record.get("format") if isinstance(record, Mapping) else None
    if not isinstance(version, int):
        raise CheckpointError(
            f"The record under {CHECKPOINT_KEY!r} is not one that Phasewire writes: {reprlib.repr(record)}.",
            where=str(path),
            remedy=CHANGED,
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"The checkpoint has format {version}, and this release of Phasewire reads up to {FORMAT_VERSION}.",
            where=str(path),
            remedy="Upgrade Phasewire to the release that wrote it, or a later one.",
        )


def _require_scheduler_state(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    callbacks = checkpoint.get("callbacks") or {}
    if SCHEDULER_STATE_KEY in callbacks:
        return
    weights_remedy = (
        "To start a new schedule from its weights, load them into the module before fit: "
        f"module.load_state_dict(torch.load({str(path)!r})['state_dict'])."
    )
    # The key is the name of the class, which may be a subclass.
    if any(isinstance(state, Mapping) and _PEER_STATE_FIELD in state for state in callbacks.values()):
        raise CheckpointError(
            "The checkpoint was written by the finetuning-scheduler package, whose training state Phasewire cannot "
            "continue.",
            where=str(path),
            remedy=weights_remedy,
        )
    raise CheckpointError(
        "The checkpoint holds no state of phasewire.app.FinetuningScheduler, so the phase to continue in is unknown. "
        "It was written without the callback, or with save_weights_only=True.",
        where=str(path),
        remedy=weights_remedy,
    )
