"""The two transition criteria of every schedule: early stopping, and the epochs that the schedule names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewire.adapters.transitions import TransitionCriterion
from phasewire.app.phases.callbacks import FTSEarlyStopping
from phasewire.app.trainer_attributes import callbacks_of

if TYPE_CHECKING:
    from phasewire.adapters.transitions import PhaseProgress

__all__ = ["EarlyStoppingCriterion", "EpochCriterion"]


class EarlyStoppingCriterion(TransitionCriterion):
    """A phase is over when the patience of the Trainer's :class:`~phasewire.app.FTSEarlyStopping` is used up.

    The callback checks its metric and keeps its state itself, and in the last phase it ends the training itself.
    """

    def begin_phase(self, phase: PhaseProgress) -> None:
        """Let the callback count anew.

        Args:
            phase: Where the run stands.
        """
        for callback in _early_stopping_of(phase):
            callback.begin_phase()

    def before_epoch(self, phase: PhaseProgress) -> bool:
        """Ask the callback.

        Args:
            phase: Where the run stands.

        Returns:
            Whether its patience is used up.
        """
        return any(callback.es_phase_complete for callback in _early_stopping_of(phase))


class EpochCriterion(TransitionCriterion):
    """A phase is over when the epoch begins that the schedule gives it as ``max_transition_epoch``."""

    def before_epoch(self, phase: PhaseProgress) -> bool:
        """Compare the epoch that begins with that of the schedule.

        Args:
            phase: Where the run stands.

        Returns:
            Whether it is reached; never for a phase without one.
        """
        return 0 <= phase.max_transition_epoch <= phase.epoch


def _early_stopping_of(phase: PhaseProgress) -> list[FTSEarlyStopping]:
    return [callback for callback in callbacks_of(phase.trainer) if isinstance(callback, FTSEarlyStopping)]
