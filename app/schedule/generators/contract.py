"""What a schedule generator is given and gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn

    from phasewire.app.schedule.model import Schedule

__all__ = ["NamedParameters", "ScheduleGenerator"]


class NamedParameters(Protocol):
    """Knows the names that a schedule may use; a connected ``StrategyAdapter`` does."""

    def get_named_params_for_schedule_validation(self) -> Mapping[str, nn.Parameter]:
        """Give the names that a schedule may use, in registration order.

        Returns:
            Name to parameter.
        """


class ScheduleGenerator(Protocol):
    """Makes a schedule for a module.

    It may take options as keyword-only arguments; :func:`~phasewire.app.schedule.generators.with_options` gives them
    values.
    """

    def __call__(self, module: nn.Module, names: NamedParameters, /) -> Schedule:
        """Make a schedule.

        Args:
            module: The module to be tuned; it is not changed.
            names: Gives the names that the schedule is written in.

        Returns:
            The schedule; every parameter that ``names`` gives stands in one phase.
        """
