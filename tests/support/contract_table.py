"""The public signatures of the adapter contract as text, to be compared with what was recorded for its version.

``python tests/support/contract_table.py > tests/adapters/contract/<version>.json`` records them;
with ``criterion`` as an argument, those of transition criteria.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass

from phasewire.adapters import ModelView, PhaseProgress, StrategyAdapter, TransitionCriterion

Table = dict[str, str]

ADAPTER_CLASSES = (StrategyAdapter, ModelView)
CRITERION_CLASSES = (TransitionCriterion, PhaseProgress)


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


def contract_table(classes: Iterable[type] = ADAPTER_CLASSES) -> Table:
    """Give each public name of the classes, and their constructor, with its signature."""
    return {
        f"{owner.__name__}.{name}": _text(owner, name, member)
        for owner in classes
        for name, member in sorted({**dict.fromkeys(_annotated(owner)), **vars(owner)}.items())
        # Phasewire makes what is a dataclass, so a further field breaks nothing.
        if not name.startswith("_") or (name == "__init__" and not is_dataclass(owner))
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
        return f"{annotation}" + (
            "" if callable(member) or name == "api_version" or inspect.ismemberdescriptor(member) else f" = {member!r}"
        )
    if isinstance(member, property):
        return f"property {inspect.signature(member.fget)}"
    if isinstance(member, staticmethod):
        return f"staticmethod {inspect.signature(member.__func__)}"
    if isinstance(member, classmethod):
        return f"classmethod {inspect.signature(member.__func__)}"
    abstract = "abstract " if getattr(member, "__isabstractmethod__", False) else ""
    return f"{abstract}{inspect.signature(member)}"


if __name__ == "__main__":
    json.dump(contract_table(CRITERION_CLASSES if "criterion" in sys.argv else ADAPTER_CLASSES), sys.stdout, indent=2)
    sys.stdout.write("\n")
