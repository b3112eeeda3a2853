"""A transition criterion that tells from the slope of a metric that a phase brings no more improvement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn

from phasewire.adapters.errors import ConfigError
from phasewire.adapters.transitions import TransitionCriterion

if TYPE_CHECKING:
    from phasewire.adapters.transitions import PhaseProgress

__all__ = ["PlateauCriterion"]


class PlateauCriterion(TransitionCriterion):
    """A phase is over when a metric improves no more, by a straight line through its newest values.

    The line is fitted by least squares to the values of the last ``window`` validations of the phase. Its slope,
    divided by the absolute mean of these values, says which part of itself the metric gains with each validation. The
    phase is over when it gains ``min_relative_slope`` or less in the direction of ``mode``; so also when it gets worse.

    * Before the phase has had ``window`` validations it goes on.
    * Where the mean is 0, it goes on as long as there is any improvement.
    * A window with a value that is not finite decides nothing, unless all of its values are not finite: then the phase
      is over.

    Args:
        monitor: The metric.
        mode: Which values are better: ``"min"`` or ``"max"``.
        window: How many validations the line is fitted to; at least 2.
        min_relative_slope: The gain for each validation, as a part of the mean, that must be exceeded; at least 0.

    Raises:
        ConfigError: An option has a value that it cannot have.
    """

    def __init__(
        self,
        *,
        monitor: str = "val_loss",
        mode: str = "min",
        window: int = 5,
        min_relative_slope: float = 0.001,
    ) -> None:
        if not monitor:
            raise ConfigError("The monitor of plateau is empty.", remedy="Name a metric that is logged.")
        if mode not in ("min", "max"):
            raise ConfigError(f"The mode of plateau is {mode!r}.", remedy="Write 'min' or 'max'.")
        if window < 2:  # noqa: PLR2004  # a line takes two points
            raise ConfigError(
                f"The window of plateau is {window}, and no line can be fitted to that.", remedy="Give at least 2."
            )
        if not (0 <= min_relative_slope < math.inf):
            raise ConfigError(
                f"The min_relative_slope of plateau is {min_relative_slope}.", remedy="Give a number of at least 0."
            )
        self.monitor = monitor
        self.mode = mode
        self._window = window
        self._min_relative_slope = min_relative_slope
        self._values: list[float] = []

    def begin_phase(self, phase: PhaseProgress) -> None:
        """Forget the values of the phase before.

        Args:
            phase: Where the run stands.
        """
        self._values = []

    def after_validation(self, phase: PhaseProgress) -> bool:
        """Take the newest value of the metric, and look at the line.

        Args:
            phase: Where the run stands.

        Returns:
            Whether the metric improves no more.
        """
        value = phase.metric(self.monitor or "")
        if not math.isfinite(value) and all(map(math.isfinite, self._values)):
            rank_zero_warn(
                f"The transition criterion plateau monitors {self.monitor!r}, which is {value} in epoch {phase.epoch}: "
                f"phase {phase.depth} is not judged until {self._window} finite values follow one another; "
                f"{self._window} that are not finite end it."
            )
        self._values = [*self._values, value][-self._window :]
        return len(self._values) == self._window and _improves_no_more(
            self._values, 1.0 if self.mode == "max" else -1.0, self._min_relative_slope
        )

    # Any: the type that the contract gives a state.
    def state_dict(self) -> dict[str, Any]:
        """Give the values in the window.

        Returns:
            The state.
        """
        return {"values": self._values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the values in the window.

        Args:
            state_dict: What :meth:`state_dict` gave.
        """
        self._values = [float(value) for value in state_dict["values"]]


def _improves_no_more(values: Sequence[float], direction: float, min_relative_slope: float) -> bool:
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < len(values):
        return not finite
    # The relative slope is the same for all multiples, and these cannot overflow.
    largest = max(map(abs, values)) or 1.0
    scaled = [value / largest for value in values]
    middle, mean = (len(scaled) - 1) / 2, math.fsum(scaled) / len(scaled)
    slope = math.fsum((index - middle) * value for index, value in enumerate(scaled)) / math.fsum(
        (index - middle) ** 2 for index in range(len(scaled))
    )
    # Multiplied instead of divided: the mean may be 0.
    return direction * slope <= min_relative_slope * abs(mean)
