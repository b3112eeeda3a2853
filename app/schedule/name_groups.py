"""Many names of parameters in a few words: whole modules by their path, and ranges of the members of a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["NameGroup", "NameGroups"]


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


class NameGroups:
    """Puts names of one model together. What that takes grows with the names that are asked for, not with the model.

    Args:
        known: All names of the model, in the order of registration.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._places = {name: place for place, name in enumerate(dict.fromkeys(known))}
        self._members = Counter(path for name in self._places for path in _paths(name))

    def of(self, names: Iterable[str]) -> list[NameGroup]:
        """Put names together where they are all that a module has.

        Args:
            names: The names; those that the model does not have are left out.

        Returns:
            Groups in the order of registration, which have each of the names once.
        """
        wanted = sorted({name for name in names if name in self._places}, key=self._places.__getitem__)
        paths = [_paths(name) for name in wanted]
        members = Counter(path for above in paths for path in above)
        groups: dict[str, list[str]] = {}
        for name, above in zip(wanted, paths, strict=True):
            label = next((path for path in above if members[path] == self._members[path]), None)
            groups.setdefault(name if label is None else f"{label}.*".lstrip("."), []).append(name)
        return _with_ranges(groups)


def _paths(name: str) -> list[str]:
    """Give the paths of the modules that a parameter is in, from the outermost."""
    steps = name.split(".")[:-1]
    return [".".join(steps[:end]) for end in range(len(steps) + 1)]


def _with_ranges(groups: Mapping[str, list[str]]) -> list[NameGroup]:
    joined: list[tuple[str, list[str]]] = []
    for after, names in groups.items():
        label = _joined_label(joined[-1][0], after) if joined else None
        if label is None:
            joined.append((after, names))
        else:
            joined[-1] = (label, joined[-1][1])
            joined[-1][1].extend(names)
    return [NameGroup(label, tuple(names)) for label, names in joined]


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
