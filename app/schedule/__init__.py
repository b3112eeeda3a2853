"""Schedules: what they are, how they are read, written, generated and checked."""

from phasewire.app.schedule.files import HEADER, dump_schedule, load_schedule, save_schedule
from phasewire.app.schedule.generate import generate_default
from phasewire.app.schedule.model import (
    ClassInit,
    LightningLRConfig,
    LRSchedulerReinit,
    OptimizerReinit,
    Phase,
    Schedule,
)
from phasewire.app.schedule.numbering import PhaseNumberError
from phasewire.app.schedule.resolved import ResolvedPhase, ResolvedSchedule
from phasewire.app.schedule.validate import ScheduleValidator, shared_parameter_names

__all__ = [
    "HEADER",
    "ClassInit",
    "LRSchedulerReinit",
    "LightningLRConfig",
    "OptimizerReinit",
    "Phase",
    "PhaseNumberError",
    "ResolvedPhase",
    "ResolvedSchedule",
    "Schedule",
    "ScheduleValidator",
    "dump_schedule",
    "generate_default",
    "load_schedule",
    "save_schedule",
    "shared_parameter_names",
]
