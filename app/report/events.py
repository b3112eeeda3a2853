"""The events of a run record, typed. ``docs/report.md`` tells what they mean; unknown fields are passed over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["CheckpointSaved", "EpochEnded", "FitBegan", "FitEnded", "GroupRate", "PhaseBegan", "RestoredFrom", "parsed"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    time: datetime
    """When it was written."""


class FitBegan(_Event):
    """Training began, or went on from a checkpoint."""

    epoch: int
    step: int
    resumed_from: str | None = None
    module: str = ""
    parameters: int = 0
    last_phase: int = 0
    max_epochs: int | None = None
    strategy: str = ""
    adapter: str = ""
    device: str = ""
    processes: int = 1
    precision: str = ""
    seed: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    platform: str = ""
    folder: str = ""
    logger_folders: list[str] = Field(default_factory=list)
    checkpoint_folders: list[str] = Field(default_factory=list)
    # Any: the values of a schedule are those of the schedule file.
    schedule: list[dict[str, Any]] = Field(default_factory=list)


class GroupRate(BaseModel):
    """One group of the optimizer."""

    group: int
    lr: float
    phase: int | None = None


class RestoredFrom(BaseModel):
    """The checkpoint that a phase began from."""

    path: str
    epoch: int
    phase: int
    monitor: str | None = None
    score: float | None = None


class PhaseBegan(_Event):
    """A phase began, or a fit did in the middle of it."""

    phase: int
    epoch: int
    step: int
    ended_by: list[str] = Field(default_factory=list)
    tensors: int = 0
    parameters: int = 0
    trained: int = 0
    groups: list[GroupRate] = Field(default_factory=list)
    ends: str = ""
    restored: RestoredFrom | None = None


class EpochEnded(_Event):
    """An epoch ended."""

    epoch: int
    step: int
    phase: int
    lrs: list[float] = Field(default_factory=list)
    lr_range: tuple[float, float] | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class CheckpointSaved(_Event):
    """A checkpoint was saved as one of the best."""

    path: str
    epoch: int
    phase: int
    monitor: str | None = None
    score: float | None = None


class FitEnded(_Event):
    """Training ended."""

    epoch: int
    step: int
    how: str
    reason: str = ""
    best_checkpoint: str | None = None


AnyEvent = FitBegan | PhaseBegan | EpochEnded | CheckpointSaved | FitEnded


# Any: what a line of JSON holds.
def parsed(event: Mapping[str, Any]) -> AnyEvent | None:
    """Read one event.

    Args:
        event: A line of the record.

    Returns:
        The event; ``None`` if it is of a kind that this release does not know, or lacks a field.
    """
    kinds: dict[str, type[AnyEvent]] = {
        "fit_began": FitBegan,
        "phase_began": PhaseBegan,
        "epoch_ended": EpochEnded,
        "checkpoint_saved": CheckpointSaved,
        "fit_ended": FitEnded,
    }
    kind = kinds.get(event.get("event", ""))
    try:
        return None if kind is None else kind.model_validate(event)
    except ValidationError:
        return None
