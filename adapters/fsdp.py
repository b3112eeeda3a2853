"""The adapter for ``FSDPStrategy`` (FSDP1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.errors import AdapterError

if TYPE_CHECKING:
    from phasewire.adapters.scheduler_handle import SchedulerHandle

__all__ = ["FSDPStrategyAdapter"]


class FSDPStrategyAdapter(StrategyAdapter):
    """Drives ``FSDPStrategy``. In release 0.1.0 it takes its options and refuses to train.

    Args:
        awp_overrides: Names of modules, or regular expressions for them, to wrap apart from what the auto-wrap policy
            would do, so that no wrapped unit mixes frozen and thawed parameters.
        unknown: No further options exist.

    Raises:
        AdapterError: An option was given that does not exist.
    """

    def __init__(self, awp_overrides: Sequence[str] | None = None, **unknown: object) -> None:
        super().__init__(**unknown)
        self.awp_overrides = tuple(awp_overrides or ())

    def connect(self, fts_parent: SchedulerHandle) -> None:
        """Refuse to run.

        Args:
            fts_parent: The scheduler that would drive this adapter.

        Raises:
            AdapterError: Always.
        """
        raise AdapterError(
            "Training with FSDPStrategy is not in this release of Phasewire (0.1.0).",
            where="Trainer(strategy=...)",
            remedy="Use strategy='auto' on one device, or 'ddp': they keep parameters whole.",
        )
