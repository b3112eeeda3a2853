"""The public signatures of the adapter contract as text, to be compared with what was recorded for its version.

``python tests/support/contract_table.py > tests/adapters/contract/<version>.json`` records them.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phasewire.adapters import ModelView, StrategyAdapter

Table = dict[str, str]


@dataclass(frozen=True)
class Change:
    """How one public name differs from what was recorded."""

    name: str
    recorded: str | None
    found: str | None

    @property
    def keeps_old_adapters_working(self) -> bool:
        """Only what is new leaves alone what was written before."""
        return self.recorded is None

    def __str__(self) -> str:
        return f"{self.name}: recorded {self.recorded or 'nothing'}, found {self.found or 'nothing'}"


def contract_table(classes: Iterable[type] = (StrategyAdapter, ModelView)) -> Table:
    """Give each public name of the classes, and their constructor, with its signature."""
    return {
        f"{owner.__name__}.{name}": _text(owner, name, member)
        for owner in classes
        for name, member in sorted({**dict.fromkeys(_annotated(owner)), **vars(owner)}.items())
        if name == "__init__" or not name.startswith("_")
    }


def changes(recorded: Mapping[str, str], found: Mapping[str, str]) -> list[Change]:
    """Compare two tables."""
    names = sorted({*recorded, *found})
    return [
        Change(name, recorded.get(name), found.get(name)) for name in names if recorded.get(name) != found.get(name)
    ]


def _annotated(owner: type) -> Iterable[str]:
    return inspect.get_annotations(owner)


def _text(owner: type, name: str, member: object) -> str:
    annotation = inspect.get_annotations(owner).get(name)
    if annotation is not None:
        return f"{annotation}" + ("" if callable(member) or name == "api_version" else f" = {member!r}")
    if isinstance(member, property):
        return f"property {inspect.signature(member.fget)}"
    if isinstance(member, staticmethod):
        return f"staticmethod {inspect.signature(member.__func__)}"
    if isinstance(member, classmethod):
        return f"classmethod {inspect.signature(member.__func__)}"
    abstract = "abstract " if getattr(member, "__isabstractmethod__", False) else ""
    return f"{abstract}{inspect.signature(member)}"


if __name__ == "__main__":
    json.dump(contract_table(), sys.stdout, indent=2)
    sys.stdout.write("\n")
