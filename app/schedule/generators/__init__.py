"""Schedule generators: what makes a schedule for a module when none is given."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from phasewire.app.schedule.generators.contract import NamedParameters, ScheduleGenerator
from phasewire.app.schedule.generators.options import with_options
from phasewire.app.schedule.generators.shipped import discriminative, equal_mass, pairs, per_block
from phasewire.app.schedule.generators.structure import ModuleStructure, Part, find_structure

__all__ = [
    "SHIPPED_GENERATORS",
    "ModuleStructure",
    "NamedParameters",
    "Part",
    "ScheduleGenerator",
    "discriminative",
    "equal_mass",
    "find_structure",
    "pairs",
    "per_block",
    "with_options",
]

#: The generators that ship with Phasewire, by the names that settings use.
SHIPPED_GENERATORS: Final[Mapping[str, ScheduleGenerator]] = MappingProxyType(
    {"discriminative": discriminative, "equal_mass": equal_mass, "pairs": pairs, "per_block": per_block}
)
