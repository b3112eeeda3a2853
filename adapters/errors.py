"""The exception tree of Phasewire.

Every error that Phasewire raises for something a user can mend is a :class:`PhasewireError`. It subclasses Lightning's
``MisconfigurationException``, so that code written for Lightning (or for the ``finetuning-scheduler`` package, which
raises that class) catches it unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from lightning.fabric.utilities.exceptions import MisconfigurationException

__all__ = [
    "AdapterContractError",
    "AdapterError",
    "AdapterLoadError",
    "AdapterNotFoundError",
    "CheckpointError",
    "ConfigError",
    "CriterionError",
    "PhasewireError",
    "ScheduleError",
    "did_you_mean",
]

_MOST_SUGGESTIONS = 3


def did_you_mean(given: str, choices: Iterable[str]) -> str:
    """Name the choices nearest to what was given.

    Args:
        given: The name that was not found.
        choices: The names that exist.

    Returns:
        A sentence such as ``"Did you mean 'max_depth'?"``, or an empty string when nothing is near.
    """
    by_folded_name: dict[str, list[str]] = {}
    for choice in map(str, choices):  # the keys of a file may be anything
        by_folded_name.setdefault(choice.lower(), []).append(choice)
    near = difflib.get_close_matches(given.lower(), by_folded_name, n=_MOST_SUGGESTIONS)
    if not near:
        return ""
    return f"Did you mean {' or '.join(repr(choice) for name in near for choice in by_folded_name[name])}?"


class PhasewireError(MisconfigurationException):
    """Something the user asked for cannot be done; the message says what, where, and what to do.

    The parts of the message are kept as attributes, so that a caller can use them without parsing text.

    Args:
        problem: What was given and why it cannot be used; one or more whole sentences.
        where: The place it was given, such as ``"config.yaml, line 12, scheduler.max_depth"``.
        remedy: What to do about it; one or more whole sentences.
    """

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.problem = problem
        self.where = where
        self.remedy = remedy
        located = f"{where}: {problem}" if where else problem
        super().__init__(f"{_ended(located)} {remedy}" if remedy else located)


def _ended(text: str) -> str:
    """End a sentence: the text of another library's error, with which it may end, has often no full stop."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


class ConfigError(PhasewireError):
    """A configuration file, a setting, or the way a Trainer is set up cannot be used."""


class ScheduleError(PhasewireError):
    """A fine-tuning schedule cannot be read, or does not fit the module it is for."""


class CheckpointError(PhasewireError):
    """A checkpoint cannot be written, read, or translated."""


class CriterionError(PhasewireError):
    """A transition criterion cannot be used, or fails."""


class AdapterError(PhasewireError):
    """A strategy adapter cannot be used."""


class AdapterNotFoundError(AdapterError):
    """No adapter goes by the name that was given."""


class AdapterLoadError(AdapterError):
    """An adapter was chosen, and importing or constructing it failed; the cause is chained."""


class AdapterContractError(AdapterError):
    """What was named as an adapter does not keep the adapter contract."""
