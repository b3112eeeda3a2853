"""What Phasewire does: schedules, phases, checkpoints, discovery, and the callback that ties them to Lightning.

Names are imported on first use: importing Lightning takes seconds, and ``phasewire --help`` does not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from phasewire.adapters.errors import (
        AdapterContractError,
        AdapterError,
        AdapterLoadError,
        AdapterNotFoundError,
        CheckpointError,
        ConfigError,
        CriterionError,
        PhasewireError,
        ScheduleError,
    )
    from phasewire.app.checkpoint import CheckpointTranslator
    from phasewire.app.discovery import AdapterRecord, DiscoveryService
    from phasewire.app.phases.callbacks import FTSCheckpoint, FTSEarlyStopping
    from phasewire.app.phases.scheduler import FinetuningScheduler
    from phasewire.app.resolver import AdapterResolver
    from phasewire.app.schedule.model import Phase, Schedule
    from phasewire.app.schedule.validate import ResolvedSchedule, ScheduleValidator
    from phasewire.app.settings import Settings

__all__ = [
    "AdapterContractError",
    "AdapterError",
    "AdapterLoadError",
    "AdapterNotFoundError",
    "AdapterRecord",
    "AdapterResolver",
    "CheckpointError",
    "CheckpointTranslator",
    "ConfigError",
    "CriterionError",
    "DiscoveryService",
    "FTSCheckpoint",
    "FTSEarlyStopping",
    "FinetuningScheduler",
    "Phase",
    "PhasewireError",
    "ResolvedSchedule",
    "Schedule",
    "ScheduleError",
    "ScheduleValidator",
    "Settings",
]

_ELSEWHERE: Final = {
    "AdapterRecord": "phasewire.app.discovery",
    "AdapterResolver": "phasewire.app.resolver",
    "CheckpointTranslator": "phasewire.app.checkpoint",
    "DiscoveryService": "phasewire.app.discovery",
    "FTSCheckpoint": "phasewire.app.phases.callbacks",
    "FTSEarlyStopping": "phasewire.app.phases.callbacks",
    "FinetuningScheduler": "phasewire.app.phases.scheduler",
    "Phase": "phasewire.app.schedule.model",
    "ResolvedSchedule": "phasewire.app.schedule.validate",
    "Schedule": "phasewire.app.schedule.model",
    "ScheduleValidator": "phasewire.app.schedule.validate",
    "Settings": "phasewire.app.settings",
}

if not TYPE_CHECKING:  # a type checker must not take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_ELSEWHERE.get(name, "phasewire.adapters.errors")), name)
