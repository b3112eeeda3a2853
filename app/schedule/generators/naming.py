"""The names by which the parameters of a part stand in a schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.app.schedule.validate import shared_parameter_names

if TYPE_CHECKING:
    from torch import nn

    from phasewire.app.schedule.generators.structure import Part

__all__ = ["params_of_phases"]

#: The phase of a name that must stand in no pattern.
_NONE = -1


def params_of_phases(
    phases: Sequence[Sequence[Part]], module: nn.Module, named: Mapping[str, nn.Parameter]
) -> list[tuple[str, ...]]:
    r"""Write down what each phase thaws. Linear in the number of names.

    Where the parameters at or below ``model.layer.11`` are all in one phase, they become the pattern
    ``model\.layer\.11\..*``, so that a person moves a block by moving a line. All others stand with their full names.

    Args:
        phases: The parts of each phase; together, all parts of the module.
        module: The module.
        named: The parameters by the names that the schedule may use, which need not be those of the module. A parameter
            that the module does not have goes where the one named before it goes.

    Returns:
        For each phase its names and patterns, last ones first; empty for a phase with no parameter that has a name.
    """
    phase_of = {
        id(parameter): depth for depth, parts in enumerate(phases) for part in parts for parameter in part.parameters
    }
    second_names = _second_names(module, named)
    root = _Branch()
    # The first names are commonly those of the embeddings, which come last.
    depth = len(phases) - 1
    for name, parameter in named.items():
        if name not in second_names:
            depth = phase_of.get(id(parameter), depth)
            root.add(unwrapped_name(name), _Name(depth))
    for name, registered in second_names.items():
        # Warned of when a pattern takes it without the name that it is registered under.
        allowed = phase_of[id(named[registered])] if registered in named else _NONE
        root.add(unwrapped_name(name), _Name(allowed, counts=False))
    params: list[list[str]] = [[] for _ in phases]
    for in_phase, entry in root.entries(""):
        params[in_phase].append(entry)
    return [tuple(reversed(entries)) for entries in params]


def _second_names(module: nn.Module, named: Mapping[str, nn.Parameter]) -> dict[str, str]:
    """Give the second names of tied parameters, and the first ones, as the validator takes them."""
    shared = shared_parameter_names(module)
    return {second: first for second, first in shared.items() if second not in named or first in named}


@dataclass(frozen=True, slots=True)
class _Name:
    phase: int
    counts: bool = True
    """Whether the name must stand in the schedule."""


@dataclass(slots=True)
class _Branch:
    """The names that share a beginning, up to a dot."""

    name: _Name | None = None
    branches: dict[str, _Branch] = field(default_factory=dict)
    phases: set[int] = field(default_factory=set)
    """The phases of all names below."""
    count: int = 0
    """How many names below must stand in the schedule."""

    def add(self, name: str, value: _Name) -> None:
        branch = self
        for component in name.split("."):
            branch.phases.add(value.phase)
            branch.count += value.counts
            branch = branch.branches.setdefault(component, _Branch())
        branch.name = value

    def entries(self, prefix: str) -> Iterator[tuple[int, str]]:
        """Give phase and pattern or name for everything below, in the order in which names were added."""
        for component, branch in self.branches.items():
            path = prefix + component
            if branch.name is not None and branch.name.counts:
                yield branch.name.phase, path
            if branch.count > 1 and len(branch.phases) == 1:
                yield next(iter(branch.phases)), rf"{re.escape(path)}\..*"
            else:
                yield from branch.entries(f"{path}.")
