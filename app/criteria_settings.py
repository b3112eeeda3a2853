"""Which transition criteria the settings name, with which options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from phasewire.app.settings import SchedulerSettings

__all__ = ["EARLY_STOPPING", "EPOCHS", "CriterionChoice", "checked_criteria", "criteria_of"]

#: The names of the criteria that are used where none is named.
EARLY_STOPPING: Final = "early_stopping"
EPOCHS: Final = "epochs"

_SETTING: Final = "transition_criteria"
_EXAMPLE: Final = "[plateau, epochs], or with options [{plateau: {window: 3}}, epochs]"

# Any, here and below: the options of a criterion are its own.
Reference = str | type


@dataclass(frozen=True, slots=True)
class CriterionChoice:
    """One criterion that the settings name."""

    reference: Reference
    """Its name, ``name@distribution``, ``module:Class`` or ``module.Class``, or the class."""
    options: Mapping[str, Any]
    """Its options."""
    where: str
    """The place in the settings, for messages."""


def criteria_of(settings: SchedulerSettings) -> tuple[CriterionChoice, ...]:
    """Give the criteria of a run.

    Args:
        settings: The settings of the scheduler.

    Returns:
        Those that are named; by default early stopping and epochs, or epochs alone with ``epoch_transitions_only``.
    """
    if settings.transition_criteria is not None:
        return tuple(_choices(settings.transition_criteria))
    names = (EPOCHS,) if settings.epoch_transitions_only else (EARLY_STOPPING, EPOCHS)
    return tuple(CriterionChoice(name, {}, _SETTING) for name in names)


def checked_criteria(value: object, *, epoch_transitions_only: bool) -> object:
    """Check the form of the setting.

    Args:
        value: What was given.
        epoch_transitions_only: The setting of that name.

    Returns:
        The value, a list as a tuple.

    Raises:
        ValueError: It has another form, or names more than epochs where they alone are to decide.
    """
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError(f"A list of criteria is expected, and {value!r} is given. Write {_EXAMPLE}.")  # noqa: TRY004  # pydantic reports a ValueError
    if not value:
        raise ValueError("The list is empty, so nothing would end a phase. Name a criterion, or leave the setting out.")
    for index, item in enumerate(value):
        _check_item(item, index)
    others = [choice.reference for choice in _choices(value) if not _is_epochs(choice.reference)]
    if epoch_transitions_only and others:
        raise ValueError(
            f"epoch_transitions_only is on, so phases end by epochs alone, and {others[0]!r} is named here. Leave "
            "epoch_transitions_only off, and name 'epochs' beside it if epochs are to end phases as well."
        )
    return tuple(value)


def _is_epochs(reference: Reference) -> bool:
    return isinstance(reference, str) and reference.lower() == EPOCHS


def _check_item(item: object, index: int) -> None:
    named = item
    if isinstance(item, Mapping):
        if len(item) != 1:
            raise ValueError(
                f"Item {index} is a mapping of {len(item)} keys ({', '.join(map(str, item))}), and one is expected: "
                f"the criterion, and under it its options. Write {_EXAMPLE}."
            )
        ((named, options),) = item.items()
        if options is not None and not (isinstance(options, Mapping) and all(isinstance(key, str) for key in options)):
            raise ValueError(
                f"The options of {named!r} (item {index}) are a mapping by name, and {options!r} is given."
            )
    if not isinstance(named, str | type) or named == "":
        raise ValueError(
            f"Item {index} is {named!r}; a criterion is named by text or given as a class. Write {_EXAMPLE}."
        )


def _choices(items: Sequence[Reference | Mapping[Reference, Mapping[str, Any] | None]]) -> Iterator[CriterionChoice]:
    for index, item in enumerate(items):
        where = f"{_SETTING}[{index}]"
        if isinstance(item, Mapping):
            ((reference, options),) = item.items()
            yield CriterionChoice(reference, dict(options or {}), where)
        else:
            yield CriterionChoice(item, {}, where)
