"""What an adapter sees of the scheduler it is connected to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.adapters.name_rules import NameRules
    from phasewire.adapters.views import ModelView

__all__ = ["CheckpointIO", "SchedulerHandle"]


class CheckpointIO(Protocol):
    """The strategy's own way with state dicts, as it was before Phasewire put the translator in its path."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Collect the module's state as the strategy itself would save it."""

    def load_model_state_dict(self, checkpoint: dict[str, Any], strict: bool = True) -> None:
        """Load ``checkpoint["state_dict"]`` as the strategy itself would."""


class SchedulerHandle(Protocol):
    """What an adapter may use of the :class:`~phasewire.app.FinetuningScheduler` it is connected to.

    The public part (ADAPTER_API: "what an adapter may use of ``fts_handle``") is promised to plug-ins. The members
    under "for the defaults" are what :class:`StrategyAdapter` itself needs of the callback.
    """

    @property
    def restore_best(self) -> bool:
        """Whether the best checkpoint is restored between phases."""

    @property
    def epoch_transitions_only(self) -> bool:
        """Whether phases end by ``max_transition_epoch`` alone."""

    @property
    def pl_module(self) -> LightningModule:
        """The module being tuned."""

    @property
    def trainer(self) -> Trainer:
        """The Trainer that runs."""

    @property
    def ft_schedule(self) -> dict[int, dict[str, Any]]:
        """The schedule as a plain dict: depth to the keys of the schedule file."""

    @property
    def curr_depth(self) -> int:
        """The phase being trained, from 0."""

    @property
    def depth_remaining(self) -> int:
        """How many phases are still to come."""

    @property
    def max_depth(self) -> int:
        """The last phase that will be trained."""

    @property
    def log_dir(self) -> str | None:
        """The folder in which schedules and reports are written."""

    @property
    def strategy_adapter(self) -> StrategyAdapter:
        """The connected adapter."""

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Freeze every parameter of the module."""

    def step(self) -> None:
        """Move on to the phase at ``curr_depth``."""

    def thaw_to_depth(self, depth: int | None = None) -> None:
        """Thaw all phases up to and including ``depth``."""

    def should_transition(self, trainer: Trainer) -> bool:
        """Tell whether the current phase is over, at the start of an epoch.

        Args:
            trainer: The running Trainer.

        Returns:
            Whether to move on; the same on all processes.
        """

    def save_schedule(
        self, name: str, schedule: dict[int, dict[str, Any]], folder: str | os.PathLike[str]
    ) -> Path | None:
        """Write a schedule as YAML, on rank 0, over no file with another content.

        Args:
            name: The name of the file.
            schedule: Depth to the keys of the schedule file.
            folder: The folder to write to.

        Returns:
            The path of the file; ``None`` on other ranks.

        Raises:
            ScheduleError: The file cannot be written.
        """

    def load_yaml_schedule(self, path: str | os.PathLike[str]) -> dict[int, dict[str, Any]]:
        """Read a schedule file.

        Args:
            path: The file.

        Returns:
            Depth to the keys of the schedule file.

        Raises:
            ScheduleError: The file cannot be read, or is no schedule.
        """

    # -- for the defaults of StrategyAdapter ---------------------------------------------------------------------

    @property
    def strategy_checkpoint_io(self) -> CheckpointIO:
        """The strategy's own state-dict methods."""

    def default_schedule(self, names: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Give the default schedule: two parameters a phase, last layers first.

        Args:
            names: The names in registration order.

        Returns:
            Depth to the keys of the schedule file.
        """

    def find_model_view(self, reference: str, *, where: str) -> type[ModelView]:
        """Look a model view up, under the user's rules of trust.

        Args:
            reference: A name, ``name@distribution``, ``module:Class`` or ``module.Class``.
            where: The setting that gave it, for messages.

        Returns:
            The class of the view.

        Raises:
            AdapterError: No view is called so, it may not be used, cannot be imported, or is none.
        """

    def validate_schedule(self, rules: NameRules | None = None) -> tuple[int, int]:
        """Resolve the schedule against the names the adapter gives.

        Args:
            rules: What else holds for these names; without, that tied parameters have the second names that the module
                gives them.

        Returns:
            The deepest phase, and the highest ``max_transition_epoch`` (-1 when no phase has one).

        Raises:
            ScheduleError: The schedule does not fit the module.
        """

    def begin_phase_zero(self) -> None:
        """Thaw the parameters of phase 0."""

    def rebuild_phase0_groups(self) -> None:
        """Make the optimizer hold the parameters of phase 0, and only those."""

    def is_metric_unsynchronised(self, monitor: str) -> bool:
        """Tell whether processes may hold different values of a metric.

        Args:
            monitor: The name of the metric.

        Returns:
            Whether it is logged without ``sync_dist`` while there are several processes.
        """
