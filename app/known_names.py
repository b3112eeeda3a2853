"""The names that an adapter knows for the tensors of a module that is not being trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import LightningModule, Trainer

from phasewire.adapters.checkpoint_names import recorded_namings, recorded_ties
from phasewire.adapters.errors import AdapterError, CheckpointError
from phasewire.app.convert import KnownNames

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter
    from phasewire.adapters.scheduler_handle import SchedulerHandle
    from phasewire.adapters.views import ModelView
    from phasewire.app.checkpoint import CheckpointTranslator
    from phasewire.app.model_views import ModelViews

__all__ = ["names_known_by"]


def names_known_by(
    adapter: StrategyAdapter, module: object, translator: CheckpointTranslator, views: ModelViews
) -> KnownNames:
    """Ask an adapter for its names.

    Args:
        adapter: The adapter; it is connected here.
        module: The module.
        translator: What would record the names in a checkpoint.
        views: Finds the model view that the adapter names.

    Returns:
        The names.

    Raises:
        CheckpointError: The adapter has no names but the module's, or they do not work for it.
        AdapterError: The module is none of Lightning's, or the adapter needs more than that.
    """
    if not isinstance(module, LightningModule):
        raise AdapterError(
            f"{type(module).__name__} is no LightningModule.",
            where="--model",
            remedy="Name the LightningModule that is trained: checkpoints have its names.",
        )
    adapter.connect(cast("SchedulerHandle", _NoRun(module, views)))
    recorded = translator.namings(adapter)
    if not recorded:
        raise CheckpointError(
            f"{type(adapter).__name__} has no names for checkpoints but the module's own.",
            where="--adapter",
            remedy="Name an adapter that gives some in checkpoint_renamings().",
        )
    layouts = {word: naming.layout((), word=word) for word, naming in recorded_namings(recorded).items()}
    return KnownNames(layouts, recorded_ties(recorded), f"{type(adapter).__module__}:{type(adapter).__qualname__}")


class _NoRun:
    """What an adapter sees instead of a scheduler: a module, and a Trainer that does not run."""

    def __init__(self, module: LightningModule, views: ModelViews) -> None:
        self.pl_module = module
        self._views = views
        self._trainer: Trainer | None = None

    @property
    def trainer(self) -> Trainer:
        """A Trainer that does nothing; it is made when an adapter looks at it."""
        if self._trainer is None:
            options: Mapping[str, Any] = dict.fromkeys(  # Any: booleans and names, by the option
                ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
            )
            self._trainer = Trainer(accelerator="cpu", devices=1, **options)
        return self._trainer

    def find_model_view(self, reference: str, *, where: str) -> type[ModelView]:
        """Look a model view up."""
        return self._views.record_of(reference, where=where).load(where=where)

    def __getattr__(self, name: str) -> object:
        raise AdapterError(
            f"The adapter asks for fts_handle.{name}, and nothing is trained here.",
            where="--adapter",
            remedy="Use a file that was written with the adapter: it records the names.",
        )
