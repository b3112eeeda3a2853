"""The rules of a schedule that need no parameter names: phase 0, learning rates, epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phasewire.adapters.errors import ScheduleError
from phasewire.app.schedule.problems import joined

if TYPE_CHECKING:
    from phasewire.app.schedule.model import Schedule
    from phasewire.app.schedule.places import Places

__all__ = ["check_empty_phases", "check_epochs", "check_no_epochs", "check_phase_zero"]


def check_phase_zero(schedule: Schedule, places: Places) -> list[str]:
    """Check the phase that starts with what ``configure_optimizers`` of the module gives.

    Args:
        schedule: The schedule.
        places: Where things stand.

    Returns:
        Warnings.

    Raises:
        ScheduleError: Phase 0 thaws nothing, or asks for another optimizer or lr scheduler.
    """
    phase = schedule.phases[0]
    if not phase.params:
        raise ScheduleError(
            "Phase 0 has no params, so there would be nothing to train.",
            where=places.phase(0),
            remedy="Name what is trained first, such as the head of the model.",
        )
    for key, value in (("new_optimizer", phase.new_optimizer), ("new_lr_scheduler", phase.new_lr_scheduler)):
        if value is not None:
            raise ScheduleError(
                f"Phase 0 cannot have a {key}: it starts with what the module's configure_optimizers returns.",
                where=places.phase(0, key),
                remedy="Return it there, or move the key to a later phase.",
            )
    if phase.lr is None:
        return []
    warning = (
        f"{places.phase(0, 'lr')}: the lr of phase 0 ({phase.lr:g}) is ignored; phase 0 keeps the learning rate that "
        "the module's configure_optimizers sets. Set it there."
    )
    return [warning]


def check_empty_phases(schedule: Schedule, places: Places) -> list[str]:
    """Find phases without params.

    Args:
        schedule: The schedule.
        places: Where things stand.

    Returns:
        One warning that names them all, if there are any.
    """
    empty = [depth for depth, phase in enumerate(schedule.phases) if not phase.params]
    if not empty:
        return []
    if len(empty) == 1:
        problem, them = "The phase has no params, and so thaws nothing.", "it"
    else:
        problem, them = f"{_phases(empty)} no params, and so thaw nothing.", "them"
    remedy = f"Give {them} params, or leave {them} out where no new optimizer or lr scheduler is to start."
    return [f"{places.phase(empty[0])}: {problem} {remedy}"]


def check_epochs(
    schedule: Schedule, places: Places, *, epoch_transitions_only: bool, max_epochs: int | None
) -> list[str]:
    """Check when phases end.

    Args:
        schedule: The schedule.
        places: Where things stand.
        epoch_transitions_only: Whether phases end by ``max_transition_epoch`` alone.
        max_epochs: That of the Trainer; ``None`` when it is not known, -1 when there is no limit.

    Returns:
        Warnings.

    Raises:
        ScheduleError: Phases end by epochs alone, and one has none.
    """
    epochs = [phase.max_transition_epoch for phase in schedule.phases]
    if epoch_transitions_only:
        _refuse_missing_epochs(epochs, places)
        return _early_epochs(epochs, places)  # the last phase was made to have an epoch, so that is nothing to warn of
    return [*_early_epochs(epochs, places), *_final_epoch(epochs, places, max_epochs)]


def check_no_epochs(schedule: Schedule, places: Places) -> list[str]:
    """Find epochs that end nothing, because other criteria alone end phases.

    Args:
        schedule: The schedule.
        places: Where things stand.

    Returns:
        One warning that names them all, if there are any.
    """
    given = [depth for depth, phase in enumerate(schedule.phases) if phase.max_transition_epoch >= 0]
    if not given:
        return []
    warning = (
        f"{places.phase(given[0], 'max_transition_epoch')}: {_phases(given)} a max_transition_epoch, which ends "
        "nothing: transition_criteria does not name 'epochs'. Add it there, or leave max_transition_epoch out."
    )
    return [warning]


def _refuse_missing_epochs(epochs: list[int], places: Places) -> None:
    missing = [depth for depth, epoch in enumerate(epochs) if epoch < 0]
    if missing:
        raise ScheduleError(
            f"Epochs alone end phases, and {_phases(missing)} no max_transition_epoch.",
            where=places.phase(missing[0]),
            remedy="Give every phase a max_transition_epoch, or let early stopping decide as well: leave out "
            "epoch_transitions_only, or name it in transition_criteria.",
        )


def _early_epochs(epochs: list[int], places: Places) -> list[str]:
    warnings = []
    if epochs[0] == 0 and len(epochs) > 1:
        warnings.append(
            f"{places.phase(0, 'max_transition_epoch')}: phase 0 ends at epoch 0, so its parameters are first trained "
            "together with those of phase 1. Give 1 to train them alone for one epoch first."
        )
    early, highest = [], -1
    for depth, epoch in enumerate(epochs):
        if 0 <= epoch <= highest:
            early.append(depth)
        highest = max(highest, epoch)
    if early:
        warnings.append(
            f"{places.phase(early[0], 'max_transition_epoch')}: {_phases(early)} a max_transition_epoch that is not "
            "greater than that of an earlier phase, and so may last for a single epoch. Epochs are counted from the "
            "beginning of the training, not of the phase."
        )
    return warnings


def _final_epoch(epochs: list[int], places: Places, max_epochs: int | None) -> list[str]:
    if epochs[-1] < 0:
        return []
    last = len(epochs) - 1
    limit = "" if max_epochs is None else f" ({'no limit' if max_epochs < 0 else max_epochs})"
    warning = (
        f"{places.phase(last, 'max_transition_epoch')}: no phase follows phase {last}, so its max_transition_epoch "
        f"({epochs[-1]}) does not move on: the training goes on to the greater of max_epochs{limit} and the highest "
        f"max_transition_epoch of the schedule ({max(epochs)}), unless something else ends it first. "
        "Leave it out, and choose the end by max_epochs."
    )
    return [warning]


def _phases(depths: list[int]) -> str:
    return f"phase {depths[0]} has" if len(depths) == 1 else f"phases {joined(depths)} have"
