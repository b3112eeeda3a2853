"""The faults of the peer by which a comparison is left out: each with the cases that meet it, told by the case alone.

``docs/differences.md`` names each of them with the reason for what ours does, and ``test_peer_faults.py`` shows each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from case_timeline import Transition, epochs_of, last_epoch, phases_of, timeline
from parity_case import Case, shrinking

__all__ = ["Fault", "met_by"]


class Fault(Enum):
    """A fault of the peer, by the name under which the documentation has it."""

    BASE_RATE_NONE = "base rate of None"
    EPOCH_ZERO = "phase 0 that ends at epoch 0"
    LAMBDA_BEFORE_START = "lambda before the first epoch"
    EARLY_STATISTICS = "batch norm of later phases"
    EPOCHS_BEYOND_DEPTH = "epochs of phases that are not trained"
    STATE_MADE_EARLY = "optimizer state made before training"
    OTHER_OPTIMIZER = "state of another optimizer"
    OTHER_GROUPS = "groups of another layout"
    OTHER_LAMBDAS = "lambdas of another lr scheduler"
    SURPLUS_LAMBDAS = "more lambdas than groups"
    INITIAL_RATES = "initial rates after a restore"


def met_by(case: Case) -> list[Fault]:
    """Tell by which faults of the peer a case cannot be compared; its outcome has no part in it."""
    return [fault for fault, meets in _CONDITIONS.items() if meets(case)]


def _base_rate_none(case: Case) -> bool:
    later = phases_of(case)[1:]
    return case.settings.get("base_max_lr", 1e-5) is None and any("lr" not in phase for phase in later)


def _epoch_zero(case: Case) -> bool:
    first = timeline(case).transitions[:1]
    return _restores(case) and any(transition.epoch == 0 for transition in first)


def _lambda_before_start(case: Case) -> bool:
    if not (case.settings.get("apply_lambdas_new_pgs") and _rebuilds_phase_zero(case)):
        return False
    return any(_has_lambdas(given) for given in case.lr_schedulers)


def _early_statistics(case: Case) -> bool:
    if case.settings.get("frozen_bn_track_running_stats", True) or not case.norms:
        return False
    owners = [_owners(names) for names in names_of_phases(case)]
    return any(
        (_restores(case) or _renews_optimizer(case, transition.depth))
        and any(f"blocks.{index}.norm" in later for index in case.norms for later in owners[transition.depth + 1 :])
        for transition in timeline(case).transitions
    )


def _epochs_beyond_depth(case: Case) -> bool:
    epochs = epochs_of(case)
    theirs = case.max_epochs if epochs[-1] < 0 else max(case.max_epochs, *epochs[1:], -1)
    # Early stopping may end both before it matters.
    return theirs != last_epoch(case) and len(timeline(case).depths) >= min(theirs, last_epoch(case))


def _state_made_early(case: Case) -> bool:
    return case.optimizer["class_path"].endswith("Adagrad") and _rebuilds_phase_zero(case)


def _other_optimizer(case: Case) -> bool:
    return _restores(case) and any(
        not _renews_optimizer(case, transition.depth)
        and _newest(case, transition.depth - 1, _renews_optimizer) != _best_of(case, transition, _renews_optimizer)
        for transition in timeline(case).transitions
    )


def _other_groups(case: Case) -> bool:
    if not any(_renews_optimizer(case, transition.depth) for transition in timeline(case).transitions):
        return False
    return not keeps_layout(case)


def _other_lambdas(case: Case) -> bool:
    if not (case.settings.get("apply_lambdas_new_pgs") and _restores(case)):
        return False
    for transition in timeline(case).transitions:
        current = _newest(case, transition.depth - 1, _renews_lr_scheduler)
        best = _best_of(case, transition, _renews_lr_scheduler)
        lambdas = [_has_lambdas(lr_scheduler_of(case, depth)) for depth in (best, current)]
        if current != best and lambdas == [True, False]:
            return True
    return False


def _surplus_lambdas(case: Case) -> bool:
    """A new optimizer replays phases: their groups are added to lambdas that are there already."""
    return any(
        _renews_optimizer(case, transition.depth)
        and _newest(case, transition.depth, _renews_lr_scheduler) == 0
        and _has_lambdas(lr_scheduler_of(case, 0))
        and _groups_up_to(case, _last_known_phase(case, transition))
        + _groups_up_to(case, transition.depth - 1)
        - len(first_groups(case))
        > _groups_up_to(case, transition.depth)
        for transition in timeline(case).transitions
    )


def _initial_rates(case: Case) -> bool:
    """Groups that are replayed get their initial rates anew: by another lambda, or from a rate of before."""
    return any(
        _lambda_differs(case, transition) or _plateau_left_no_initial_rate(case, transition)
        for transition in timeline(case).transitions
    )


def _lambda_differs(case: Case, transition: Transition) -> bool:
    if not case.settings.get("apply_lambdas_new_pgs"):
        return False
    first = 1 if _renews_optimizer(case, transition.depth) else _last_known_phase(case, transition) + 1
    for replayed in range(first, transition.depth):
        then = _newest(case, replayed - 1, _renews_lr_scheduler)
        now = max(
            (depth for depth in range(first, replayed) if _renews_lr_scheduler(case, depth)),
            default=_newest(case, transition.depth - 1, _renews_lr_scheduler),
        )
        factors = [_lambda_of(lr_scheduler_of(case, depth)) for depth in (then, now)]
        # The one constant lambda gives the same factor at any time.
        if any(factors) and factors != [shrinking, shrinking]:
            return True
    return False


def _plateau_left_no_initial_rate(case: Case, transition: Transition) -> bool:
    own = lr_scheduler_of(case, 0)
    return (
        _restores(case)
        and own is not None
        and own["class_path"].endswith("ReduceLROnPlateau")
        and not _rebuilds_phase_zero(case)
        and _newest(case, transition.depth, _renews_optimizer) == 0
        and _newest(case, transition.depth - 1, _renews_lr_scheduler)
        != _best_of(case, transition, _renews_lr_scheduler)
        and _best_of(case, transition, _renews_lr_scheduler) == 0
    )


_CONDITIONS: Mapping[Fault, Callable[[Case], bool]] = {
    Fault.BASE_RATE_NONE: _base_rate_none,
    Fault.EPOCH_ZERO: _epoch_zero,
    Fault.LAMBDA_BEFORE_START: _lambda_before_start,
    Fault.EARLY_STATISTICS: _early_statistics,
    Fault.EPOCHS_BEYOND_DEPTH: _epochs_beyond_depth,
    Fault.STATE_MADE_EARLY: _state_made_early,
    Fault.OTHER_OPTIMIZER: _other_optimizer,
    Fault.OTHER_GROUPS: _other_groups,
    Fault.OTHER_LAMBDAS: _other_lambdas,
    Fault.SURPLUS_LAMBDAS: _surplus_lambdas,
    Fault.INITIAL_RATES: _initial_rates,
}

# -- what the conditions are made of -------------------------------------------------------------------------------


def names_of_phases(case: Case) -> list[list[str]]:
    """Give the parameters of each phase."""
    names = [name for name, _ in case.module().named_parameters()]
    return [
        [
            name
            for name in names
            if any(name == given or (given not in names and re.match(given, name)) for given in phase["params"])
        ]
        for phase in phases_of(case)
    ]


def first_groups(case: Case) -> list[list[str]]:
    """Give the parameter groups that phase 0 begins with; without what an optimizer holds besides phase 0."""
    names = names_of_phases(case)[0]
    if _rebuilds_phase_zero(case):
        return _scheduled_groups(case, names)
    return [[name] for name in names] if case.optimizer_gets == "one by one" else [names]


def keeps_layout(case: Case) -> bool:
    """Tell whether the groups of phase 0 are those that a schedule would make of it."""
    names = names_of_phases(case)[0]
    return first_groups(case) == _scheduled_groups(case, names) and not _holds_more_than_phase_zero(case)


def lr_scheduler_of(case: Case, depth: int) -> Mapping[str, Any] | None:
    """Give the lr scheduler that a phase has made, or the module's own for phase 0."""
    if depth == 0:
        return next(iter(case.lr_schedulers), None)
    given = case.settings.get("reinit_lr_cfg") or phases_of(case)[depth]["new_lr_scheduler"]
    return dict(given["lr_scheduler_init"])


def _groups_of_a_phase(case: Case) -> int:
    return 2 if case.no_decay else 1


def _scheduled_groups(case: Case, names: list[str]) -> list[list[str]]:
    if not case.no_decay:
        return [names]
    exempt = [name for name in names if any(part in name for part in case.no_decay)]
    return [[name for name in names if name not in exempt], exempt]


def _groups_up_to(case: Case, depth: int) -> int:
    later = phases_of(case)[1 : depth + 1]
    return len(first_groups(case)) + _groups_of_a_phase(case) * sum(bool(phase["params"]) for phase in later)


def _has_lambdas(given: Mapping[str, Any] | None) -> bool:
    return _lambda_of(given) is not None


def _lambda_of(given: Mapping[str, Any] | None) -> Callable[[int], float] | None:
    return None if given is None else given.get("init_args", {}).get("lr_lambda")


def _owners(names: list[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in names}


def _restores(case: Case) -> bool:
    return bool(case.settings.get("restore_best", True))


def _rebuilds_phase_zero(case: Case) -> bool:
    return bool(case.settings.get("enforce_phase0_params", True)) and _is_given_more_than_phase_zero(case)


def _holds_more_than_phase_zero(case: Case) -> bool:
    return not case.settings.get("enforce_phase0_params", True) and _is_given_more_than_phase_zero(case)


def _is_given_more_than_phase_zero(case: Case) -> bool:
    return case.optimizer_gets == "all" and len(names_of_phases(case)[0]) < sum(1 for _ in case.module().parameters())


def _last_known_phase(case: Case, transition: Transition) -> int:
    """Give the last phase whose groups the optimizer has after the best checkpoint was restored, if it was."""
    if _restores(case) and transition.best_depth is not None:
        return transition.best_depth
    return transition.depth - 1


def _renews_optimizer(case: Case, depth: int) -> bool:
    return bool(case.settings.get("reinit_optim_cfg") or phases_of(case)[depth].get("new_optimizer"))


def _renews_lr_scheduler(case: Case, depth: int) -> bool:
    return bool(case.settings.get("reinit_lr_cfg") or phases_of(case)[depth].get("new_lr_scheduler"))


def _newest(case: Case, depth: int, renews: Callable[[Case, int], bool]) -> int:
    """Give the phase that what is used in a phase comes from."""
    return max((earlier for earlier in range(1, depth + 1) if renews(case, earlier)), default=0)


def _best_of(case: Case, transition: Transition, renews: Callable[[Case, int], bool]) -> int:
    """Give the phase that what the best checkpoint holds comes from."""
    if transition.best_depth is None:
        return _newest(case, transition.depth - 1, renews)
    return _newest(case, transition.best_depth, renews)
