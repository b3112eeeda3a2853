"""The parameters of a module, and those that an optimizer holds, known from one phase to the next.

Listing all of them anew in every phase would make a run of many phases quadratic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import is_
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
    """Tells which parameters an optimizer holds, and does not look anew into the groups that phases added.

    Groups of others may change at any time, so they are compared with what they were.
    """

    def __init__(self) -> None:
        self._known = 0
        self._last: dict[str, Any] = {}  # Any: torch's groups hold options of every type
        self._of_others: list[tuple[int, list[nn.Parameter]]] = []
        self._ids: set[int] = set()

    def ids(self, optimizer: Optimizer) -> set[int]:
        """Identify the parameters in the groups of an optimizer.

        Args:
            optimizer: The optimizer.

        Returns:
            The ``id`` of each; not to be changed.
        """
        groups = optimizer.param_groups
        if not self._are_known(groups):
            self._known, self._of_others, self._ids = 0, [], set()
        for at in range(self._known, len(groups)):
            self._of_others.append((at, list(groups[at]["params"])))
        self.note_added(optimizer)
        return self._ids

    def note_added(self, optimizer: Optimizer) -> None:
        """Note the groups that a phase has added since :meth:`ids` was asked.

        Args:
            optimizer: The optimizer.
        """
        groups = optimizer.param_groups
        for group in groups[self._known :]:
            self._ids.update(map(id, group["params"]))
        self._known, self._last = len(groups), groups[-1] if groups else {}

    def _are_known(self, groups: list[dict[str, Any]]) -> bool:
        # Whatever replaces groups, such as loading a state, replaces all; what removes one, moves the last.
        if not 0 < self._known <= len(groups) or groups[self._known - 1] is not self._last:
            return False
        return all(_are_same(groups[at]["params"], params) for at, params in self._of_others)


def _are_same(now: Sequence[nn.Parameter], before: Sequence[nn.Parameter]) -> bool:
    return len(now) == len(before) and all(map(is_, now, before))
