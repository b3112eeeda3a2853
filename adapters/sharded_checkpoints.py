"""What an adapter does itself where a strategy's own way with checkpoints cannot follow a schedule.

Sharded strategies load weights and the optimizer's state while they read the file. A schedule needs them apart: the
file tells which groups the optimizer had, and its state can be loaded only when it has them again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["ShardedCheckpoints"]


class ShardedCheckpoints(ABC):
    """Reads a checkpoint without loading it, and saves and loads the optimizer's state by the names of parameters.

    An adapter that is one of these is asked instead of the strategy; the module's weights pass through the hooks that
    every adapter has.
    """

    @property
    def saves_shards(self) -> bool:
        """Whether checkpoints are written as folders of shards."""
        return False

    # Any, here and below: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
    @abstractmethod
    def read_checkpoint(self, path: Path, *, weights_only: bool | None) -> dict[str, Any]:
        """Read a checkpoint, and load nothing from it.

        Args:
            path: A file, or a folder of shards.
            weights_only: What the Trainer was told of ``torch.load``.

        Returns:
            All of it but what is in shards.
        """

    @abstractmethod
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Collect the state of an optimizer for a checkpoint.

        Args:
            optimizer: The optimizer.

        Returns:
            What ``torch.optim.Optimizer.state_dict`` gives, with the names of parameters for their numbers.
        """

    @abstractmethod
    def load_optimizer_states(self, checkpoint: dict[str, Any], names_of_groups: Sequence[Sequence[str]]) -> None:
        """Load the state of the optimizer, which has the groups that the checkpoint was written with.

        Args:
            checkpoint: The checkpoint that was read last.
            names_of_groups: What :meth:`recorded_names` gave for the groups when it was written.
        """

    @abstractmethod
    def recorded_names(self, param_names: Sequence[str]) -> list[str]:
        """Give the names that a checkpoint records, which hold in whatever way the module is wrapped.

        Args:
            param_names: Names of ``pl_module.named_parameters()``.

        Returns:
            The names of the parameters before the module was wrapped.
        """

    @abstractmethod
    def recorded_module_name(self, name: str) -> str:
        """Give the name of a part before the module was wrapped.

        Args:
            name: A name of ``pl_module.named_modules()``.

        Returns:
            The name without what wrappers put in.
        """

    @abstractmethod
    def names_of_recorded(self, recorded: Sequence[str]) -> list[str]:
        """Give the names of now for those in a checkpoint; the inverse of :meth:`recorded_names`.

        Args:
            recorded: Names of parameters before the module is wrapped.

        Returns:
            Names of ``pl_module.named_parameters()``.
        """
