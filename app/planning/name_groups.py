"""Many names of parameters in a few words: whole modules by their path, and ranges of the members of a list."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

__all__ = ["NameGroup", "name_groups"]


@dataclass(frozen=True, slots=True)
class NameGroup:
    """Some names, all of which begin alike."""

    label: str
    """A full name; or the path of a module with all its parameters, such as ``layers.3.*`` or ``layers.3-7.*``."""
    names: tuple[str, ...]
    """The names."""

    def __str__(self) -> str:
        """Give the name, or the label and how many names it stands for."""
        return self.names[0] if len(self.names) == 1 else f"{self.label} ({len(self.names):,} tensors)"

    def joined(self, other: NameGroup, label: str) -> Self:
        """Give one group of two."""
        return type(self)(label, (*self.names, *other.names))


def name_groups(names: Collection[str], known: Iterable[str]) -> list[NameGroup]:
    """Put names together where they are all that a module has.

    Args:
        names: The names.
        known: All names of the model, in the order of registration.

    Returns:
        Groups in that order, which have each of the names once.
    """
    wanted = frozenset(names)
    whole: dict[str, bool] = {}
    paths: dict[str, list[str]] = {}
    for name in known:
        paths[name] = _paths(name)
        for path in paths[name]:
            whole[path] = whole.get(path, True) and name in wanted
    groups: dict[str, list[str]] = {}
    for name, above in paths.items():
        if name in wanted:
            label = next((path for path in above if whole[path]), None)
            groups.setdefault(name if label is None else f"{label}.*".lstrip("."), []).append(name)
    return _with_ranges([NameGroup(label, tuple(members)) for label, members in groups.items()])


def _paths(name: str) -> list[str]:
    """Give the paths of the modules that a parameter is in, from the outermost."""
    steps = name.split(".")[:-1]
    return [".".join(steps[:end]) for end in range(len(steps) + 1)]


def _with_ranges(groups: list[NameGroup]) -> list[NameGroup]:
    joined: list[NameGroup] = []
    for group in groups:
        label = _joined_label(joined[-1].label, group.label) if joined else None
        if label is None:
            joined.append(group)
        else:
            joined[-1] = joined[-1].joined(group, label)
    return joined


def _joined_label(before: str, after: str) -> str | None:
    """Give the label of two members of a list that follow each other, such as ``layers.3-4.*``."""
    if not (before.endswith(".*") and after.endswith(".*")):
        return None
    path, _, number = after[:-2].rpartition(".")
    path_before, _, numbers = before[:-2].rpartition(".")
    first, _, last = numbers.partition("-")
    if path != path_before or not (number.isdecimal() and (last or first).isdecimal()):
        return None
    return f"{path}.{first}-{number}.*".lstrip(".") if int(number) == int(last or first) + 1 else None
