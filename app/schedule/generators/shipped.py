"""The schedule generators that ship with Phasewire."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from torch.nn.parameter import UninitializedParameter

from phasewire.adapters.errors import ConfigError, ScheduleError
from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.app.schedule.generate import generate_default
from phasewire.app.schedule.generators.naming import params_of_phases
from phasewire.app.schedule.generators.structure import Part, find_structure
from phasewire.app.schedule.model import Phase, Schedule
from phasewire.app.schedule.problems import joined, nothing_to_schedule
from phasewire.app.schedule.values import learning_rate, shortened

if TYPE_CHECKING:
    from torch import nn

    from phasewire.app.schedule.generators.contract import NamedParameters

__all__ = ["discriminative", "equal_mass", "pairs", "per_block"]

_DEFAULT_PHASES: Final = 4
#: The factor from layer to layer with which discriminative fine-tuning was proposed (ULMFiT, arXiv:1801.06146).
_DEFAULT_FACTOR: Final = 2.6
_DEFAULT_TOP_LR: Final = 1e-5


# Every generator is given the module, also one that looks at names alone.
def pairs(module: nn.Module, names: NamedParameters, /) -> Schedule:  # noqa: ARG001
    """Thaw two parameters a phase, last layers first; the schedule that is used when none is given.

    Args:
        module: The module to be tuned.
        names: Gives the names that the schedule is written in.

    Returns:
        The schedule, in full names.

    Raises:
        ScheduleError: There are no parameters.
    """
    return generate_default([unwrapped_name(name) for name in names.get_named_params_for_schedule_validation()])


def per_block(module: nn.Module, names: NamedParameters, /) -> Schedule:
    """Thaw the head first, then one block or stage a phase from the top, and the embeddings last.

    :mod:`~phasewire.app.schedule.generators.structure` says what head, blocks and embeddings are.

    Args:
        module: The module to be tuned.
        names: Gives the names that the schedule is written in.

    Returns:
        The schedule, in patterns that each take all of a block, and full names elsewhere.

    Raises:
        ScheduleError: There are no parameters.
    """
    return Schedule(phases=tuple(Phase(params=params) for params in _params_by_block(module, names)))


def discriminative(
    module: nn.Module,
    names: NamedParameters,
    /,
    *,
    factor: float = _DEFAULT_FACTOR,
    top_lr: float = _DEFAULT_TOP_LR,
) -> Schedule:
    """Thaw as :func:`per_block` does, with the learning rate of each phase a factor below that of the one above.

    Phase 0 always keeps the learning rate of the module's ``configure_optimizers``, and so is given none here. Make
    ``top_lr`` that rate for an even descent.

    Args:
        module: The module to be tuned.
        names: Gives the names that the schedule is written in.
        factor: By how much the rate is divided from phase to phase; greater than 1.
        top_lr: The learning rate of the head; phase 1 has ``top_lr / factor``.

    Returns:
        The schedule.

    Raises:
        ConfigError: An option cannot be used, or the rate comes down to 0.
        ScheduleError: There are no parameters.
    """
    lr = _finite_above(0, top_lr, "discriminative.top_lr")
    divisor = _finite_above(1, factor, "discriminative.factor")
    phases = []
    for depth, params in enumerate(_params_by_block(module, names)):
        phases.append(Phase(params=params, lr=lr if depth else None))
        lr /= divisor
    if phases[-1].lr == 0:
        raise ConfigError(
            f"Divided by {divisor:g} from phase to phase, the learning rate {top_lr} is 0 before the last of "
            f"{len(phases):,} phases.",
            where="discriminative.factor",
            remedy="Take a smaller factor.",
        )
    return Schedule(phases=tuple(phases))


def equal_mass(module: nn.Module, names: NamedParameters, /, *, phases: int = _DEFAULT_PHASES) -> Schedule:
    """Thaw about as many elements in each phase, from the head down, without splitting a block.

    Head and embeddings are not split either. A phase exceeds its equal share by at most the largest of these parts.

    Args:
        module: The module to be tuned.
        names: Gives the names that the schedule is written in.
        phases: How many phases; at least 1, and at most as many as there are parts.

    Returns:
        The schedule, in patterns that each take all of one or more blocks, and full names elsewhere.

    Raises:
        ConfigError: There cannot be so many phases.
        ScheduleError: There are no parameters, or one of a lazy layer has no shape yet.
    """
    _require_count(phases)
    named = _named(names)
    parts = _parts(module, named)
    if phases > len(parts):
        unsplit = joined(part.name or "the module itself" for part in parts)
        raise ConfigError(
            f"{type(module).__name__} has too few parts for {phases:,} phases: {unsplit}.",
            where="equal_mass.phases",
            remedy=f"Give {len(parts)} or less; blocks are not split.",
        )
    cuts = _even_cuts([_elements(part) for part in parts], phases)
    params = params_of_phases([parts[start:end] for start, end in pairwise(cuts)], module, named)
    return Schedule(phases=tuple(Phase(params=entries) for entries in params))


def _params_by_block(module: nn.Module, names: NamedParameters) -> list[tuple[str, ...]]:
    named = _named(names)
    return params_of_phases([[part] for part in _parts(module, named)], module, named)


def _named(names: NamedParameters) -> Mapping[str, nn.Parameter]:
    named = names.get_named_params_for_schedule_validation()
    if not named:
        raise nothing_to_schedule()
    return named


def _parts(module: nn.Module, named: Mapping[str, nn.Parameter]) -> list[Part]:
    """Give the parts from the head down, with those parameters only that have a name."""
    wanted = {id(parameter) for parameter in named.values()}
    parts = [
        Part(part.name, tuple(parameter for parameter in part.parameters if id(parameter) in wanted))
        for part in find_structure(module).parts
    ]
    parts = [part for part in parts if part.parameters]
    if not parts:
        raise ScheduleError(
            f"None of the {len(named):,} parameters that the adapter names ({next(iter(named))!r} is the first) is a "
            f"parameter of {type(module).__name__}.",
            remedy="Let get_named_params_for_schedule_validation give the module's own parameters, under any names.",
        )
    return parts


def _elements(part: Part) -> int:
    for parameter in part.parameters:
        if isinstance(parameter, UninitializedParameter):
            raise ScheduleError(
                f"A parameter of the part {part.name!r} belongs to a lazy layer that has seen no data, and so has no "
                "size to share out.",
                remedy="Run a batch through the module first, or use per_block.",
            )
    return sum(parameter.numel() for parameter in part.parameters)


def _even_cuts(masses: Sequence[int], phases: int) -> list[int]:
    """Cut a row of masses where it comes nearest to equal shares, with no share empty.

    Returns:
        Where the shares begin, and where the last one ends.
    """
    reached = [0, *accumulate(masses)]
    cuts = [0]
    for cut in range(1, phases):
        wanted = cut * reached[-1]  # times the number of phases, so as to compare integers
        after = bisect_left(reached, wanted, key=lambda mass: mass * phases)
        nearest = after if after == 0 else min(after, after - 1, key=lambda at: abs(reached[at] * phases - wanted))
        cuts.append(min(max(nearest, cuts[-1] + 1), len(masses) - (phases - cut)))
    return [*cuts, len(masses)]


def _require_count(phases: object) -> None:
    if isinstance(phases, bool) or not isinstance(phases, int) or phases < 1:
        raise ConfigError(
            f"{shortened(phases)} is no number of phases.",
            where="equal_mass.phases",
            remedy="Give a whole number of 1 or more.",
        )


def _finite_above(bound: int, value: object, where: str) -> float:
    remedy = f"Give a finite number greater than {bound}."
    try:
        number = learning_rate(value)  # reads a finite number of 0 or more, also from text
    except ValueError as error:
        raise ConfigError(f"{shortened(value)} is no such number.", where=where, remedy=remedy) from error
    if number <= bound:
        raise ConfigError(f"{number:g} is too low.", where=where, remedy=remedy)
    return number
