"""The learning rates of all parameter groups, phase by phase, before an lr scheduler changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phasewire.app.schedule.model import LRSchedulerReinit

__all__ = ["GroupRates"]


@dataclass(slots=True)
class _Group:
    rate: float
    initial: float


class GroupRates:
    """Follows the rates of an optimizer's groups as phases add groups and start things anew.

    Args:
        rates: Those of the groups of phase 0; none where the optimizer is not known.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        self._groups = [_Group(rate, rate) for rate in rates]
        self._of_phase_zero = len(rates)
        self._given = 0

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates of all groups now."""
        return tuple(group.rate for group in self._groups)

    def add(self, count: int, rate: float | None) -> tuple[float, ...]:
        """Add the groups of a phase.

        Args:
            count: How many.
            rate: Their rate; ``None`` takes the initial one of the first group.

        Returns:
            The rates of the new groups; none where they are not known.
        """
        if rate is None and not self._groups:
            return ()
        each = self._groups[0].initial if rate is None else rate
        self._groups += [_Group(each, each) for _ in range(count)]
        return (each,) * count

    def start_optimizer(self, rate: float) -> None:
        """Start a new optimizer: the groups keep their rates, and those of phase 0 take its own as their initial one.

        Args:
            rate: The new optimizer's own rate.
        """
        for group in self._groups[self._given : self._of_phase_zero]:
            group.initial = rate

    def start_lr_scheduler(self, reinit: LRSchedulerReinit) -> bool:
        """Set the rates that the groups start with under a new lr scheduler.

        Args:
            reinit: The lr scheduler.

        Returns:
            Whether a group has another rate than before.
        """
        changed = False
        if reinit.init_pg_lrs is not None:
            for group, rate in zip(self._groups, reinit.init_pg_lrs, strict=False):
                changed |= group.rate != rate
                group.rate = group.initial = rate
            self._given = max(self._given, len(reinit.init_pg_lrs))
        elif not reinit.use_current_optimizer_pg_lrs:
            for group in self._groups:
                changed |= group.rate != group.initial
                group.rate = group.initial
        return changed
