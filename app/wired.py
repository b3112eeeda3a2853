"""What the command line and the demo ask of the container, which they do not import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

    from phasewire.app.discovery import DiscoveryService
    from phasewire.app.resolver import AdapterResolver
    from phasewire.app.schedule.validate import ScheduleValidator
    from phasewire.app.schedule_generators import ScheduleGenerators
    from phasewire.app.settings import Settings

__all__ = ["Wired", "WiredConfiguration"]


class WiredConfiguration(Protocol):
    """The configuration provider."""

    def from_yaml(self, filepath: str | os.PathLike[str], required: object = True) -> None:
        """Lay a YAML file over the configuration."""

    # Any: settings hold whatever YAML can.
    def from_dict(self, options: Mapping[str, Any], required: object = False) -> None:
        """Lay settings over the configuration."""


class Wired(Protocol):
    """A ``phasewire.containers.Container``, as far as ``app`` uses it."""

    @property
    def config(self) -> WiredConfiguration:
        """The configuration, which files and settings are laid over."""

    def settings(self) -> Settings:
        """Give the validated settings."""

    def discovery(self) -> DiscoveryService:
        """Make the service that finds adapters."""

    def resolver(self) -> AdapterResolver:
        """Make what chooses the adapter."""

    def schedule_generators(self) -> ScheduleGenerators:
        """Make what finds schedule generators."""

    def validator(self) -> ScheduleValidator:
        """Make what checks schedules."""

    def model(self) -> LightningModule:
        """Build the configured model."""

    def datamodule(self) -> LightningDataModule | None:
        """Build the configured data module."""

    def trainer(self) -> Trainer:
        """Build the configured Trainer, with the scheduler among its callbacks."""
