"""A plan for a machine to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phasewire.app.planning.values import Plan, PlannedPhase

__all__ = ["plan_as_json"]


# Any: what JSON can hold.
def plan_as_json(plan: Plan) -> dict[str, Any]:
    """Give a plan in the types that JSON has.

    Args:
        plan: The plan.

    Returns:
        The plan; the parameters of each phase by their names in a schedule.
    """
    names: dict[int | None, list[str]] = {}
    for parameter in plan.parameters:
        names.setdefault(parameter.depth, []).append(parameter.name)
    return {
        "model": plan.model,
        "parameters": plan.total,
        "parameters_that_cannot_be_trained": plan.never_trained,
        "weight_bytes": plan.weight_bytes,
        "precision": plan.precision,
        "optimizer": plan.optimizer,
        "optimizer_is_assumed": plan.assumes_optimizer,
        "buffers_may_be_counted": plan.may_count_buffers,
        "phases": [_phase(phase, names.get(phase.depth, [])) for phase in plan.phases],
        "phases_beyond_max_depth": plan.untrained_phases,
        "never_thawed": names.get(None, []),
        "warnings": list(plan.warnings),
    }


# Any: as above.
def _phase(phase: PlannedPhase, names: list[str]) -> dict[str, Any]:
    return {
        "phase": phase.depth,
        "names": names,
        "parameters": phase.parameters,
        "thawed_so_far": phase.thawed,
        "gradient_bytes": phase.gradient_bytes,
        "optimizer_bytes": phase.optimizer_bytes,
        "lr": list(phase.group_rates),
        "lr_of_all_groups": None if phase.all_rates is None else list(phase.all_rates),
        "begins_with": list(phase.begins_with),
        "moves_on": phase.moves_on,
    }
