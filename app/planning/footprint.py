"""What gradients and optimizer states take in memory, phase by phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phasewire.app.planning.optimizers import ParameterKind, PlannedOptimizer

__all__ = ["FootprintCounter"]


class FootprintCounter:
    """Adds up the memory of what is thawed.

    Parameters of one kind are counted together, so that a phase costs as much as there are kinds in it.

    Args:
        optimizer: The optimizer of phase 0; ``None`` where it is not known.
    """

    def __init__(self, optimizer: PlannedOptimizer | None) -> None:
        self._optimizer = optimizer
        self._thawed: Counter[ParameterKind] = Counter()
        #: Bytes of the gradients of all that is thawed.
        self.gradient_bytes = 0
        #: Bytes of the optimizer's state after a step; ``None`` where they are not known.
        self.optimizer_bytes: int | None = 0 if optimizer is not None else None

    def replace_optimizer(self, optimizer: PlannedOptimizer) -> None:
        """Start another optimizer, which holds what is thawed and knows nothing of it.

        Args:
            optimizer: The optimizer.
        """
        self._optimizer = optimizer
        held: Counter[ParameterKind] = Counter()
        for kind, count in self._thawed.items():
            held[replace(kind, options=0)] += count
        self._thawed = held
        self.optimizer_bytes = 0
        self._add(held)

    def thaw(self, kinds: Iterable[ParameterKind]) -> None:
        """Thaw the parameters of a phase.

        Args:
            kinds: What they are.
        """
        new = Counter(kinds)
        self._thawed += new
        self.gradient_bytes += sum(kind.gradient_bytes * count for kind, count in new.items())
        self._add(new)

    def _add(self, kinds: Counter[ParameterKind]) -> None:
        for kind, count in kinds.items():
            size = None if self._optimizer is None else self._optimizer.state_bytes(kind)
            if size is None or self.optimizer_bytes is None:
                self.optimizer_bytes = None
                return
            self.optimizer_bytes += size * count
