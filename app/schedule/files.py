"""Schedules in and out of YAML files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from phasewire.adapters.errors import ScheduleError
from phasewire.app.collector import collector_paused
from phasewire.app.config_file import dump_yaml, load_yaml, write_new_text
from phasewire.app.given_path import given_path
from phasewire.app.schedule.model import Schedule
from phasewire.app.schedule.places import Places, ScheduleFile
from phasewire.app.schedule.values import kind_of, shortened

__all__ = ["HEADER", "NotPlainError", "dump_schedule", "load_schedule", "modeline", "save_schedule"]

#: The comment at the head of every schedule file that Phasewire writes.
HEADER: Final = r"""# A schedule for Phasewire: what is thawed, phase by phase. Edit it freely, then use it with
#   FinetuningScheduler(ft_schedule="path/of/this/file.yaml")
#
# Phases are numbered from 0 without gaps, and trained in that order. What a phase thaws stays thawed in later phases.
# No parameter may stand in two phases; one that stands in none is never trained. The keys of a phase:
#
#   params                what is thawed: full parameter names, or regular expressions matched from the start of a name
#                         (layer.1.* also takes layer.10.weight; layer\.1\. does not)
#   max_transition_epoch  the epoch, from 0, at which the next phase begins at the latest; -1 or absent: early stopping
#                         alone ends the phase
#   lr                    the learning rate of what the phase thaws; base_max_lr by default, and none in phase 0, which
#                         keeps the optimizer's own
#   new_optimizer, new_lr_scheduler
#                         start the phase with another optimizer or lr scheduler (not in phase 0)
#
# Check it with: phasewire schedule validate FILE --model CLASS_PATH
"""


# Any: what is in a mapping is checked here.
class NotPlainError(ScheduleError):
    """A schedule that was given in code holds a value, such as a function, that no file can hold."""


def modeline(schema: str) -> str:
    """Write the line at the head of a schedule that tells editors its schema.

    Args:
        schema: The path of the schema, relative to the schedule.

    Returns:
        A comment of YAML, with its line break.
    """
    return f"# yaml-language-server: $schema={schema}\n"


def load_schedule(source: str | os.PathLike[str] | Mapping[Any, Any] | Schedule) -> Schedule:
    """Read a schedule.

    Args:
        source: The path of a YAML file, a mapping as such a file holds, or a schedule, which is returned as it is.

    Returns:
        The schedule; whether it fits a module, and whether its phases have gaps, is the validator's to say.

    Raises:
        ScheduleError: The file cannot be read or is no YAML, or a key or value in it cannot be used.
    """
    if isinstance(source, Schedule):
        return source
    if isinstance(source, Mapping):
        return Schedule.from_mapping(source)
    if not isinstance(source, (str, os.PathLike)):
        raise ScheduleError(
            f"{shortened(source)} is {kind_of(source)}, and a schedule is expected.",
            remedy="Give the path of a YAML file, a dict with the phases, or a Schedule.",
        )
    path = given_path(source, error=ScheduleError)
    # Noted before reading: a change in between makes the note outdated, never the lines wrong.
    file = ScheduleFile.at(path)
    with collector_paused():
        document = load_yaml(path, error=ScheduleError)
        return Schedule.from_mapping(document.mapping(), places=Places(file, document))


def dump_schedule(schedule: Schedule, *, schema: str | None = None) -> str:
    """Write a schedule as YAML text that :func:`load_schedule` reads back to an equal one.

    Args:
        schedule: The schedule.
        schema: The path of the schema, relative to the file, for a first line that tells editors of it.

    Returns:
        The text, with :data:`HEADER`, phases in order and keys in the order of the fields of a phase.

    Raises:
        NotPlainError: An argument of a new optimizer or lr scheduler is no plain data.
        ScheduleError: It holds text that UTF-8 cannot.
    """
    content = schedule.to_dict()
    try:
        return f"{'' if schema is None else modeline(schema)}{HEADER}{dump_yaml(content)}"
    except (yaml.YAMLError, UnicodeError) as error:
        for keys, value in _not_plain(content):
            raise NotPlainError(
                f"{shortened(value)} is {kind_of(value)}, which cannot be written in a schedule file.",
                where=Places(schedule.file).phase(*keys),
                remedy="Give text, numbers, truth values, lists or mappings.",
            ) from error
        raise ScheduleError(
            f"The schedule cannot be written as YAML: {error}.", remedy="Give text that UTF-8 can hold."
        ) from error


def save_schedule(
    schedule: Schedule | Mapping[Any, Any], path: str | os.PathLike[str], *, schema: str | None = None
) -> Path:
    """Write a schedule file, never over one that says something else.

    Args:
        schedule: The schedule, or a mapping as a schedule file holds. Any: what is in it is checked here.
        path: The file to write.
        schema: As for :func:`dump_schedule`.

    Returns:
        The file that holds the schedule: ``path``, or a numbered name beside it where that was taken.

    Raises:
        ScheduleError: The mapping is no schedule, or the file cannot be written.
    """
    return write_new_text(path, dump_schedule(load_schedule(schedule), schema=schema), error=ScheduleError)


# Any: the first key is the number of the phase, and the others are text or indexes.
def _not_plain(value: object, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], object]]:
    """Find the values that YAML has no form for."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_plain(item, (*keys, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_plain(item, (*keys, index))
    elif value is not None and not isinstance(value, (str, int, float)):
        yield keys, value
