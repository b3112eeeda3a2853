"""Model views: ways to name the parameters of one model.

A schedule is written in the names of a view, while the optimizer and the checkpoints use those of the module. What
has to know both asks the view.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from phasewire.adapters.sharding import class_name

if TYPE_CHECKING:
    from torch.nn import Parameter

    from phasewire.adapters.base import StrategyAdapter

__all__ = ["CanonicalModelView", "ModelView"]


class ModelView(ABC):
    """Gives names to the parameters of the module that an adapter tunes.

    "Canonical" names are those of ``pl_module.named_parameters()``. The two transforms are inverses of each other, up
    to order, on the names that :meth:`get_named_params` gives.

    Args:
        adapter: The adapter that asks; its ``pl_module`` and ``fts_handle`` work once it is connected.
    """

    def __init__(self, adapter: StrategyAdapter) -> None:
        self.adapter = adapter

    @abstractmethod
    def build_param_mapping(self) -> None:
        """Build the maps between the two kinds of names.

        Called once per run, when the module is complete and before any other method.
        """

    @abstractmethod
    def get_named_params(self) -> dict[str, Parameter]:
        """Give the names that a schedule may use, in registration order.

        Returns:
            Name to parameter.
        """

    @abstractmethod
    def transform_to_canonical(self, names: list[str], inspect_only: bool = False) -> list[str]:
        """Translate names of the view to the module's.

        Args:
            names: Names as they stand in the schedule.
            inspect_only: Change no state of the view.

        Returns:
            Names of ``pl_module.named_parameters()``.
        """

    @abstractmethod
    def transform_from_canonical(self, names: list[str]) -> list[str]:
        """Translate the module's names to those of the view.

        Args:
            names: Names of ``pl_module.named_parameters()``.

        Returns:
            Names as they would stand in a schedule.
        """

    def gen_schedule(self, dump_loc: str | os.PathLike[str]) -> os.PathLike[str] | None:
        """Write the default schedule in the names of the view: two parameters a phase, last layers first.

        Args:
            dump_loc: The folder to write to.

        Returns:
            The path of the file, named ``<ModuleClass>_ft_schedule.yaml``; ``None`` on ranks other than 0.

        Raises:
            ScheduleError: The file cannot be written.
        """
        handle = self.adapter.fts_handle
        name = f"{class_name(self.adapter.pl_module)}_ft_schedule.yaml"
        return handle.save_schedule(name, handle.default_schedule(list(self.get_named_params())), dump_loc)

    def validate_schedule(self) -> tuple[int, int]:
        """Validate the schedule against the names of the view.

        Returns:
            The deepest phase, and the highest ``max_transition_epoch`` (-1 when no phase has one).

        Raises:
            ScheduleError: The schedule does not fit the module.
        """
        return self.adapter.fts_handle.validate_schedule()


class CanonicalModelView(ModelView):
    """The module's own names: the identity."""

    def build_param_mapping(self) -> None:
        """Build nothing: the identity needs no map."""

    def get_named_params(self) -> dict[str, Parameter]:
        """Give the module's named parameters.

        Returns:
            Name to parameter, in registration order.
        """
        return dict(self.adapter.pl_module.named_parameters())

    def transform_to_canonical(self, names: list[str], inspect_only: bool = False) -> list[str]:
        """Give the names back.

        Args:
            names: Names of the module.
            inspect_only: Without effect; there is no state.

        Returns:
            The same names in the same order.
        """
        return names

    def transform_from_canonical(self, names: list[str]) -> list[str]:
        """Give the names back.

        Args:
            names: Names of the module.

        Returns:
            The same names in the same order.
        """
        return names
