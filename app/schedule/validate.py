"""Whether a schedule fits a module, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from phasewire.adapters.name_rules import NameRules
from phasewire.app.schedule.expand import expand_params
from phasewire.app.schedule.numbering import require_contiguous
from phasewire.app.schedule.places import Places
from phasewire.app.schedule.problems import nothing_to_schedule
from phasewire.app.schedule.reinit import check_reinit
from phasewire.app.schedule.resolved import ResolvedPhase, ResolvedSchedule
from phasewire.app.schedule.rules import check_empty_phases, check_epochs, check_no_epochs, check_phase_zero

if TYPE_CHECKING:
    from torch.nn import Module, Parameter

    from phasewire.app.schedule.model import Schedule

__all__ = ["ResolvedPhase", "ResolvedSchedule", "ScheduleValidator", "shared_parameter_names"]

_NONE_SHARED: Final[Mapping[str, str]] = MappingProxyType({})
_NO_RULES: Final = NameRules()


class ScheduleValidator:
    """Checks a schedule against the parameters of a module and resolves it. It changes and writes nothing."""

    def validate(
        self,
        schedule: Schedule,
        named_params: Mapping[str, Parameter],
        *,
        base_max_lr: float | None = 1e-5,
        epoch_transitions_only: bool = False,
        epochs_end_phases: bool = True,
        max_epochs: int | None = None,
        shared_names: Mapping[str, str] = _NONE_SHARED,
        rules: NameRules = _NO_RULES,
    ) -> ResolvedSchedule:
        """Resolve a schedule.

        Full names cost one look-up each, and a regular expression one match with every name that has its beginning.

        Args:
            schedule: The schedule as it was given.
            named_params: The parameters by the names a schedule may use, in registration order.
            base_max_lr: The learning rate of phases after the first that give none; ``None`` leaves the optimizer's.
            epoch_transitions_only: Whether phases end by ``max_transition_epoch`` alone.
            epochs_end_phases: Whether ``max_transition_epoch`` ends phases at all.
            max_epochs: That of the Trainer, for messages; ``None`` when it is not known.
            shared_names: Second name of a tied parameter to the name it is registered under; see
                :func:`shared_parameter_names`.
            rules: What else a view says of its names; its second names come in addition.

        Returns:
            The schedule with patterns expanded and defaults filled in, and what the user should be warned of.

        Raises:
            PhaseNumberError: The phases are not numbered from 0 without gaps; it carries the repaired schedule.
            ScheduleError: The schedule does not fit: see the message for file, line, phase and index.
        """
        if not named_params:
            raise nothing_to_schedule()
        places = Places(schedule.file)
        require_contiguous(schedule, places)
        warnings = check_phase_zero(schedule, places)
        warnings += check_empty_phases(schedule, places)
        if epochs_end_phases:
            warnings += check_epochs(
                schedule, places, epoch_transitions_only=epoch_transitions_only, max_epochs=max_epochs
            )
        else:
            warnings += check_no_epochs(schedule, places)
        check_reinit(schedule, places)
        rules = replace(rules, second_names={**shared_names, **rules.second_names})
        expansion = expand_params(schedule, named_params, rules, places)
        return ResolvedSchedule.assembled(
            schedule, expansion.params, [*warnings, *expansion.warnings], base_max_lr=base_max_lr
        )


def shared_parameter_names(module: Module) -> dict[str, str]:
    """Find the parameters that a module has under more than one name, such as tied embeddings. Linear in the names.

    Args:
        module: The module.

    Returns:
        Each second name to the name under which ``named_parameters()`` gives the parameter.
    """
    registered: dict[int, str] = {}
    shared: dict[str, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = registered.setdefault(id(parameter), name)
        if first != name:
            shared[name] = first
    return shared
