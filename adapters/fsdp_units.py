"""Which parameters FSDP puts into one flat parameter, whether a schedule can train those, and what would mend it.

A *unit* is a part of a module that is wrapped by itself: it holds the parameters below it that no smaller unit holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch.nn import Module, ModuleDict, ModuleList, MultiheadAttention, Parameter

from phasewire.adapters.errors import AdapterError

__all__ = ["FlatParametersError", "Unit", "has_no_forward", "mended", "planned_units", "report"]

_NEVER = None
_SHOWN_NAMES = 3
_ATTEMPTS = 8  # how many phases are tried as the one that stays

#: The phase that trains a parameter; ``None`` for one that stays frozen.
Phase = int | None


class FlatParametersError(AdapterError):
    """Phases of the schedule share flat parameters, each of which must be frozen or trained as a whole.

    Args:
        problem: What is shared.
        awp_overrides: The modules to wrap apart, as far as that helps.
        where: The place.
        remedy: What to do.
    """

    def __init__(self, problem: str, *, awp_overrides: Sequence[str], where: str, remedy: str) -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.awp_overrides = tuple(awp_overrides)


@dataclass
class Unit:
    """A part that is wrapped by itself."""

    name: str
    """The part's name in the module; empty for the module itself."""
    parameters: list[str] = field(default_factory=list)
    """The names of the parameters it holds."""

    def by_phase(self, phase_of: Mapping[str, Phase]) -> dict[Phase, list[str]]:
        """Sort its parameters by the phase that trains them.

        Args:
            phase_of: Name of a parameter to its phase; those that are missing stay frozen.

        Returns:
            Phase to names, the first phase first.
        """
        found: dict[Phase, list[str]] = {}
        for name in self.parameters:
            found.setdefault(phase_of.get(name, _NEVER), []).append(name)
        return {phase: found[phase] for phase in sorted(found, key=lambda phase: (phase is None, phase or 0))}


def planned_units(module: Module, apart: Collection[str], ignored: Collection[Parameter] = ()) -> list[Unit]:
    """Tell which units there would be.

    Args:
        module: The module, in which nothing is wrapped yet.
        apart: The names of the parts to wrap by themselves; the module itself always is.
        ignored: Parameters that FSDP leaves alone.

    Returns:
        The units that hold parameters.

    Raises:
        AdapterError: A parameter that two parts share would stand in two units.
    """
    units = {"": Unit("")}
    ignored_ids = {id(parameter) for parameter in ignored}
    holders: dict[int, tuple[str, str]] = {}
    visited: set[int] = set()

    def visit(part: Module, name: str, unit: Unit) -> None:
        visited.add(id(part))
        if name in apart:
            unit = units.setdefault(name, Unit(name))
        for own_name, parameter in part.named_parameters(recurse=False):
            full_name = _joined(name, own_name)
            if id(parameter) in ignored_ids:
                continue
            if id(parameter) not in holders:
                holders[id(parameter)] = unit.name, full_name
                unit.parameters.append(full_name)
            elif holders[id(parameter)][0] != unit.name:
                raise _tied(holders[id(parameter)], (unit.name, full_name))
        for child_name, child in part.named_children():
            if id(child) not in visited:
                visit(child, _joined(name, child_name), unit)

    visit(module, "", units[""])
    return [unit for unit in units.values() if unit.parameters]


def mended(
    module: Module, apart: Collection[str], ignored: Collection[Parameter], phase_of: Mapping[str, Phase]
) -> tuple[list[str], list[Unit]]:
    """Find further parts to wrap by themselves, so that every unit belongs to one phase.

    Args:
        module: The module, in which nothing is wrapped yet.
        apart: The parts that are wrapped by themselves anyway.
        ignored: Parameters that FSDP leaves alone.
        phase_of: Name of a parameter to the phase that trains it.

    Returns:
        The names of the parts, and the units that no wrapping can mend.
    """
    search = _Search(module, frozenset(apart), ignored, phase_of)
    found: list[str] = []
    for unit in planned_units(module, apart, ignored):
        phases = unit.by_phase(phase_of)
        if len(phases) > 1:
            by_size = sorted(phases, key=lambda phase: -len(phases[phase]))
            attempts = [search.split(unit.name, keep) for keep in by_size[:_ATTEMPTS]]
            found += min(attempts, key=search.cost)
    found = list(dict.fromkeys(found))
    left = [unit for unit in planned_units(module, {*apart, *found}, ignored) if len(unit.by_phase(phase_of)) > 1]
    return found, left


def has_no_forward(part: Module) -> bool:
    """Tell whether a part only holds others and is never called, so that FSDP cannot gather its parameters.

    Args:
        part: A part of a module.

    Returns:
        Whether it is such a container.
    """
    return isinstance(part, ModuleList | ModuleDict)


def report(units: Iterable[Unit], phase_of: Mapping[str, Phase]) -> str:
    """Tell which phases share a unit, and by which parameters.

    Args:
        units: The units.
        phase_of: Name of a parameter to the phase that trains it.

    Returns:
        One clause for each.
    """
    return "; ".join(
        f"{_shown(unit)} holds "
        + ", ".join(f"{_listed(names)} ({_named(phase)})" for phase, names in unit.by_phase(phase_of).items())
        for unit in units
    )


class _Search:
    """Goes through the parts of a module and takes out those whose phase is another than that of the rest."""

    def __init__(
        self, module: Module, apart: Collection[str], ignored: Collection[Parameter], phase_of: Mapping[str, Phase]
    ) -> None:
        self._module = module
        self._apart = apart
        self._ignored = ignored
        self._phase_of = phase_of
        self._ignored_ids = {id(parameter) for parameter in ignored}
        self._shared = _shared_parameters(module)

    def split(self, unit: str, keep: Phase) -> list[str]:
        """Name the parts of a unit to wrap apart, so that the rest of it belongs to one phase."""
        part = self._module.get_submodule(unit)
        own = self._own_phases(part, unit)
        return self._split(part, unit, next(iter(own)) if own else keep)

    def cost(self, found: Iterable[str]) -> tuple[int, int]:
        """Count the units that are still mixed when some parts are wrapped apart as well, and those parts."""
        parts = {*self._apart, *found}
        units = planned_units(self._module, parts, self._ignored)
        return sum(len(unit.by_phase(self._phase_of)) > 1 for unit in units), len(parts)

    def _split(self, part: Module, name: str, keep: Phase) -> list[str]:
        found: list[str] = []
        # The attention of torch reads the parameters of its parts without calling them.
        children = () if isinstance(part, MultiheadAttention) else part.named_children()
        for child_name, child in children:
            full_name = _joined(name, child_name)
            if full_name in self._apart:
                continue
            phases = self._phases_below(child, full_name)
            if not phases or phases == {keep}:
                continue
            own = self._own_phases(child, full_name)
            may_wrap = not has_no_forward(child) and not self._shares_outwards(child)
            if may_wrap and (len(phases) == 1 or (own and own != {keep})):
                kept = next(iter(own or phases))
                found += [full_name, *self._split(child, full_name, kept)]
            else:
                found += self._split(child, full_name, keep)
        return found

    def _own_phases(self, part: Module, name: str) -> set[Phase]:
        own = part.named_parameters(recurse=isinstance(part, MultiheadAttention))
        return {
            self._phase_of.get(_joined(name, own_name), _NEVER)
            for own_name, parameter in own
            if id(parameter) not in self._ignored_ids
        }

    def _phases_below(self, part: Module, name: str) -> set[Phase]:
        phases = self._own_phases(part, name)
        for child_name, child in part.named_children():
            full_name = _joined(name, child_name)
            if full_name not in self._apart:
                phases |= self._phases_below(child, full_name)
        return phases

    def _shares_outwards(self, part: Module) -> bool:
        if not self._shared:
            return False
        inside = [id(parameter) for _, parameter in part.named_parameters(remove_duplicate=False)]
        return any(inside.count(each) != count for each, count in self._shared.items() if each in inside)


def _shared_parameters(module: Module) -> dict[int, int]:
    counts: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        counts[id(parameter)] = counts.get(id(parameter), 0) + 1
    return {each: count for each, count in counts.items() if count > 1}


def _tied(first: tuple[str, str], second: tuple[str, str]) -> AdapterError:
    return AdapterError(
        f"{first[1]} and {second[1]} are one parameter, and would stand in two units of FSDP: {_shown(Unit(first[0]))} "
        f"and {_shown(Unit(second[0]))}.",
        where="FSDPStrategy(auto_wrap_policy=...) with awp_overrides",
        remedy="Wrap neither of them apart, or a part that holds both.",
    )


def _joined(name: str, own_name: str) -> str:
    return f"{name}.{own_name}" if name else own_name


def _shown(unit: Unit) -> str:
    return repr(unit.name) if unit.name else "the module itself"


def _named(phase: Phase) -> str:
    return "never trained" if phase is None else f"phase {phase}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    return shown if len(names) <= _SHOWN_NAMES else f"{shown} and {len(names) - _SHOWN_NAMES} more"
