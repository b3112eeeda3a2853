"""The adapter for ``ModelParallelStrategy`` (FSDP2 and tensor parallelism)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.errors import AdapterError

if TYPE_CHECKING:
    from phasewire.adapters.scheduler_handle import SchedulerHandle

__all__ = ["ModelParallelStrategyAdapter"]


class ModelParallelStrategyAdapter(StrategyAdapter):
    """Drives ``ModelParallelStrategy``. In release 0.1.0 it takes its options and refuses to train.

    Args:
        fsdp_plan: Names of modules, or regular expressions for them, each with the keyword arguments of
            ``torch.distributed.fsdp.fully_shard`` for it.
        fsdp_default_kwargs: Keyword arguments of ``fully_shard`` for every entry of the plan that does not set them.
        unknown: No further options exist.

    Raises:
        AdapterError: An option was given that does not exist.
    """

    # Any: the arguments of fully_shard have many types.
    def __init__(
        self,
        fsdp_plan: Mapping[str, Mapping[str, Any]] | None = None,
        fsdp_default_kwargs: Mapping[str, Any] | None = None,
        **unknown: object,
    ) -> None:
        super().__init__(**unknown)
        self.fsdp_plan = dict(fsdp_plan or {})
        self.fsdp_default_kwargs = dict(fsdp_default_kwargs or {})

    def connect(self, fts_parent: SchedulerHandle) -> None:
        """Refuse to run.

        Args:
            fts_parent: The scheduler that would drive this adapter.

        Raises:
            AdapterError: Always.
        """
        raise AdapterError(
            "Training with ModelParallelStrategy is not in this release of Phasewire (0.1.0).",
            where="Trainer(strategy=...)",
            remedy="Use strategy='auto' on one device, or 'ddp': they keep parameters whole.",
        )
