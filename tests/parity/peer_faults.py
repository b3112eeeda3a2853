"""The faults of the peer by which a comparison is left out: each with the cases that meet it, told by the case alone.

``docs/differences.md`` names each of them with the reason for what ours does, and ``test_peer_faults.py`` shows each in a
minimal script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from case_timeline import Transition, epochs_of, last_epoch, phases_of, timeline
from parity_case import Case

__all__ = ["Fault", "met_by"]

WITH_LAMBDAS = ("LambdaLR", "MultiplicativeLR")


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
    renewed = [t for t in timeline(case).transitions if _renews_optimizer(case, t.depth)]
    return bool(renewed) and first_groups(case) != (2 if case.no_decay else 1)


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


def first_groups(case: Case) -> int:
    """Tell how many parameter groups phase 0 begins with."""
    if _rebuilds_phase_zero(case):
        return 2 if case.no_decay else 1
    return len(names_of_phases(case)[0]) if case.optimizer_gets == "one by one" else 1


def lr_scheduler_of(case: Case, depth: int) -> Mapping[str, Any] | None:
    """Give the lr scheduler that a phase has made, or the module's own for phase 0."""
    if depth == 0:
        return next(iter(case.lr_schedulers), None)
    given = case.settings.get("reinit_lr_cfg") or phases_of(case)[depth]["new_lr_scheduler"]
    return dict(given["lr_scheduler_init"])


def _has_lambdas(given: Mapping[str, Any] | None) -> bool:
    return given is not None and given["class_path"].endswith(WITH_LAMBDAS)


def _owners(names: list[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in names}


def _restores(case: Case) -> bool:
    return bool(case.settings.get("restore_best", True))


def _rebuilds_phase_zero(case: Case) -> bool:
    if case.optimizer_gets != "all" or not case.settings.get("enforce_phase0_params", True):
        return False
    return len(names_of_phases(case)[0]) < sum(1 for _ in case.module().parameters())


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
