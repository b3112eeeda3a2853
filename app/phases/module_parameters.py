"""The parameters of a module, and those that an optimizer holds, known from one phase to the next.

Listing all of them anew in every phase would make a run of many phases quadratic.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

__all__ = ["HeldParameters", "ModuleParameters"]


class ModuleParameters:
    """Finds parameters by their names, and lists the module anew only where it is no longer what it was.

    Args:
        module: The module being tuned.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._listed: dict[str, nn.Parameter] = {}
        self._order: dict[str, int] = {}

    def named(self, names: Iterable[str]) -> dict[str, nn.Parameter]:
        """Find parameters.

        Args:
            names: Names of ``module.named_parameters()``; names it does not have are passed over.

        Returns:
            Name to parameter, in the order of registration.
        """
        wanted = set(names)
        if not all(map(self._is_current, wanted)):
            self._listed = dict(self._module.named_parameters())
            self._order = {name: at for at, name in enumerate(self._listed)}
        in_order = sorted(wanted & self._listed.keys(), key=self._order.__getitem__)
        return {name: self._listed[name] for name in in_order}

    def _is_current(self, name: str) -> bool:
        parameter = self._listed.get(name)
        if parameter is None:
            return False
        try:
            return self._module.get_parameter(name) is parameter
        except AttributeError:
            return False


class HeldParameters:
    """Tells which parameters an optimizer holds, and looks only at the groups that were added since it was asked."""

    def __init__(self) -> None:
        self._groups: list[dict[str, Any]] = []  # Any: torch's groups hold options of every type
        self._ids: set[int] = set()

    def ids(self, optimizer: Optimizer) -> set[int]:
        """Identify the parameters in the groups of an optimizer.

        Args:
            optimizer: The optimizer.

        Returns:
            The ``id`` of each; not to be changed.
        """
        groups, known = optimizer.param_groups, len(self._groups)
        # Whatever replaces groups, such as loading a state, replaces all; what removes one, moves the last.
        if not (0 < known <= len(groups) and all(groups[at] is self._groups[at] for at in (0, known - 1))):
            self._groups, self._ids, known = [], set(), 0
        for group in groups[known:]:
            self._groups.append(group)
            self._ids.update(map(id, group["params"]))
        return self._ids
