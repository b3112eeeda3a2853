"""The contract of transition criteria: what decides, while a schedule is trained, that a phase is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from phasewire.adapters.errors import ConfigError
from phasewire.adapters.logged_metrics import not_logged

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch import Tensor

__all__ = ["CRITERION_API_VERSION", "PhaseProgress", "TransitionCriterion"]

#: The version of this contract.
CRITERION_API_VERSION: Final = "1.0"


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """Where a run stands, as a criterion sees it."""

    trainer: Trainer
    """The running Trainer."""
    depth: int
    """The phase being trained, from 0."""
    final_depth: int
    """The last phase that will be trained."""
    began_at_epoch: int
    """The epoch in which the phase began."""
    max_transition_epoch: int
    """That of the phase in the schedule; -1 where there is none."""

    @property
    def epoch(self) -> int:
        """The epoch, from 0: the one being trained, or in ``before_epoch`` the one that begins."""
        return self.trainer.current_epoch

    @property
    def is_final(self) -> bool:
        """Whether the phase is the last one."""
        return self.depth >= self.final_depth

    @property
    def metrics(self) -> Mapping[str, Tensor]:
        """The newest value of every metric that was logged."""
        return self.trainer.callback_metrics

    def metric(self, name: str) -> float:
        """Give the newest value of a metric.

        Args:
            name: Its name.

        Returns:
            The value, which may be infinite or not a number.

        Raises:
            ConfigError: It is not logged, or is not a single number.
        """
        value = self.metrics.get(name)
        if value is None:
            raise not_logged("It", name, self.trainer)
        if value.numel() != 1:
            raise ConfigError(
                f"It monitors {name!r}, which has {value.numel()} values, of shape {tuple(value.shape)}.",
                remedy="Log a single number.",
            )
        return float(value)


class TransitionCriterion:
    """Decides that a phase is over. Subclass it, and override ``after_validation``, ``before_epoch``, or both.

    Options are keyword arguments of ``__init__``. One object serves one fit. A phase is over as soon as one criterion
    says so, on one process; the next phase then begins with the next epoch. In the last phase,
    ``after_validation`` ends the training.

    Attributes:
        api_version: The version of this contract that the criterion is written for.
        monitor: The metric it watches, if any: a best checkpoint that is added watches it too, and it is checked that
            all processes see the same value.
        mode: Which values of it are better: ``"min"`` or ``"max"``.
    """

    api_version: ClassVar[str] = CRITERION_API_VERSION
    monitor: str | None = None
    mode: str = "min"

    def begin_phase(self, phase: PhaseProgress) -> None:
        """Begin anew: a phase begins, the first one included. Not called for a phase that a checkpoint resumes.

        Args:
            phase: Where the run stands.
        """

    def after_validation(self, phase: PhaseProgress) -> bool:
        """Look at the metrics, and decide whether the phase is over.

        Called on all processes: at the end of each epoch where one validation an epoch is made, or none at all; after
        each validation where they are more or fewer. Not called again in a phase that it has ended.

        Args:
            phase: Where the run stands.

        Returns:
            Whether the phase is over; by default never.
        """
        return False

    def before_epoch(self, phase: PhaseProgress) -> bool:
        """Decide whether the epoch that begins belongs to the next phase.

        Called on all processes while a further phase follows, but not in the epoch, other than 0, in which the phase
        began. It may be called more than once for an epoch, and changes nothing.

        Args:
            phase: Where the run stands.

        Returns:
            Whether the phase is over; by default never.
        """
        return False

    # Any: the state of a criterion is its own.
    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint must hold for a run to resume as if it had not been cut off.

        Returns:
            Plain values and tensors, in dicts with text as keys, lists and tuples; by default nothing.
        """
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` gave, in the middle of a phase.

        Args:
            state_dict: What was given by a criterion of the same name and options.
        """
