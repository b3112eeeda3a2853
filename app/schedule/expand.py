"""From the patterns of all phases to the parameters each phase thaws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from phasewire.adapters.errors import ScheduleError
from phasewire.app.schedule.patterns import PatternMatcher
from phasewire.app.schedule.problems import joined

if TYPE_CHECKING:
    from phasewire.adapters.name_rules import NameRules
    from phasewire.app.schedule.model import Phase, Schedule
    from phasewire.app.schedule.places import Places

__all__ = ["Expansion", "expand_params"]


@dataclass(frozen=True, slots=True)
class Expansion:
    """What the phases thaw."""

    params: tuple[tuple[str, ...], ...]
    """For every phase its parameters, in the order of its patterns and then of registration."""
    warnings: tuple[str, ...]
    """What the user should know."""


# object: only the names matter, and the types of those that are tensors.
def expand_params(
    schedule: Schedule, named_params: Mapping[str, object], rules: NameRules, places: Places
) -> Expansion:
    """Find the parameters of every phase.

    Args:
        schedule: The schedule; its phases are numbered from 0 without gaps.
        named_params: The parameters by name, in registration order.
        rules: What else holds for the names.
        places: Where things stand.

    Returns:
        The parameters of every phase; no name stands in two of them.

    Raises:
        ScheduleError: A pattern cannot be used or takes nothing, two phases take one parameter, or phase 0 takes none.
    """
    matcher = PatternMatcher(named_params, rules.second_names, rules.refused)
    expansion = _Expander(matcher, places).expand(schedule)
    expansion = replace(expansion, params=_with_those_along(expansion.params, rules.thawed_along))
    return _without_integers(expansion, named_params, places)


def _without_integers(expansion: Expansion, named: Mapping[str, object], places: Places) -> Expansion:
    """Leave out what gets no gradient, such as quantized weights: thawing it would fail in the middle of a run."""
    integers: dict[str, torch.dtype] = {}
    # A module has few types and many names.
    trainable: set[torch.dtype] = set()
    for name in (name for params in expansion.params for name in params):
        tensor = named.get(name)
        # What is no tensor is a name alone, of which nothing is known.
        if not isinstance(tensor, torch.Tensor) or tensor.dtype in trainable:
            continue
        if tensor.is_floating_point() or tensor.is_complex():
            trainable.add(tensor.dtype)
        else:
            integers[name] = tensor.dtype
    if not integers:
        return expansion
    params = tuple(tuple(name for name in phase if name not in integers) for phase in expansion.params)
    types = joined(sorted({str(dtype) for dtype in integers.values()}))
    warning = (
        f"Parameters that hold integers ({types}), as quantized weights do, get no gradient, so the schedule leaves "
        f"them out and they stay frozen: {joined(integers)}."
    )
    if expansion.params[0] and not params[0]:
        raise ScheduleError(
            "Phase 0 thaws nothing that can be trained.",
            where=places.phase(0, "params"),
            remedy=f"Give parameters that hold floating point numbers. {warning}",
        )
    return replace(expansion, params=params, warnings=(*expansion.warnings, warning))


def _with_those_along(
    phases: Sequence[tuple[str, ...]], thawed_along: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
    """Add to each phase what is thawed along with its parameters, and is in no phase yet."""
    if not thawed_along:
        return tuple(phases)
    placed = {name for params in phases for name in params}
    completed = []
    for params in phases:
        added = dict.fromkeys(name for each in params for name in thawed_along.get(each, ()) if name not in placed)
        placed.update(added)
        completed.append((*params, *added))
    return tuple(completed)


class _Claim(NamedTuple):
    """A pattern that took a parameter. A tuple, because there is one for every name of a schedule."""

    depth: int
    place: int
    pattern: str


class _Expander:
    def __init__(self, matcher: PatternMatcher, places: Places) -> None:
        self._matcher = matcher
        self._places = places
        self._claims: dict[str, _Claim] = {}
        self._refused: list[tuple[str, _Claim]] = []
        self._pruned: list[tuple[_Claim, list[str]]] = []

    def expand(self, schedule: Schedule) -> Expansion:
        params = tuple(self._expand_phase(depth, phase) for depth, phase in enumerate(schedule.phases))
        self._refuse_second_claims()
        warnings = tuple(self._pruned_warning(claim, aliases) for claim, aliases in self._pruned)
        if not params[0]:
            raise ScheduleError(
                "Phase 0 thaws nothing: what it names are second names of tied parameters.",
                where=self._places.phase(0, "params"),
                remedy=" ".join(["Give the names they are registered under.", *warnings[:1]]),
            )
        return Expansion(params, warnings)

    def _expand_phase(self, depth: int, phase: Phase) -> tuple[str, ...]:
        # A dict, because it keeps the order and takes a name once.
        taken: dict[str, None] = {}
        second_names: list[tuple[_Claim, list[str], bool]] = []
        for index, pattern in enumerate(phase.params):
            match = self._matcher.match(pattern, partial(self._places.phase, depth, "params", index))
            claim = _Claim(depth, index, pattern)
            for name in match.names:
                first = self._claims.setdefault(name, claim)
                if first.depth == depth:
                    taken[name] = None
                else:
                    self._refused.append((name, claim))
            if match.aliases:
                second_names.append((claim, list(match.aliases), not match.names))
        if second_names:
            self._prune(second_names, taken)
        return tuple(taken)

    def _prune(self, second_names: list[tuple[_Claim, list[str], bool]], taken: Mapping[str, None]) -> None:
        """Remember the second names worth a warning: not those whose parameter a wider pattern takes anyway."""
        for claim, aliases, took_nothing in second_names:
            pruned = aliases if took_nothing else [a for a in aliases if self._matcher.aliases[a] not in taken]
            if pruned:
                self._pruned.append((claim, pruned))

    def _pruned_warning(self, claim: _Claim, aliases: list[str]) -> str:
        names = []
        for alias in aliases:
            registered = self._matcher.aliases[alias]
            owner = self._claims.get(registered)
            phase = "in no phase" if owner is None else f"in phase {owner.depth}"
            names.append(f"{alias!r} (tied to {registered!r}, which is thawed {phase})")
        place = self._places.phase(claim.depth, "params", claim.place)
        return f"{place}: second names of tied parameters are left out: {joined(names)}."

    def _refuse_second_claims(self) -> None:
        if not self._refused:
            return
        name, claim = self._refused[0]
        first = self._claims[name]
        more = len(self._refused) - 1
        others = f" The same holds for {more:,} more parameter{'s' if more > 1 else ''}." if more else ""
        raise ScheduleError(
            f"The parameter {name!r} stands in two phases: {claim.pattern!r} takes it here, and {first.pattern!r} in "
            f"{self._places.phase(first.depth, 'params', first.place)}.{others}",
            where=self._places.phase(claim.depth, "params", claim.place),
            remedy="Take it out of one of them; a pattern leaves names out with (?!...) at its start.",
        )
