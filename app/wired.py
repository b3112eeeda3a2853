"""What the command line, the demo and the contract kit ask of the container, which they do not import."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

    from phasewire.app.checkpoint import CheckpointTranslator
    from phasewire.app.discovery import DiscoveryService
    from phasewire.app.model_views import ModelViews
    from phasewire.app.resolver import AdapterResolver
    from phasewire.app.schedule.validate import ScheduleValidator
    from phasewire.app.schedule_generators import ScheduleGenerators
    from phasewire.app.settings import Settings

__all__ = ["Wired", "WiredConfiguration", "container_from", "new_container"]


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

    def model_views(self) -> ModelViews:
        """Make what finds model views."""

    def translator(self) -> CheckpointTranslator:
        """Make what passes checkpoints through an adapter."""

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


def new_container() -> Wired:
    """Make an empty container.

    Imports point one way, containers to app to adapters, and the command line lives in app. It is also where a
    program begins, and something has to name the container there: it is named by its path, when a command runs.

    Returns:
        A new ``phasewire.containers.Container``.
    """
    from phasewire.app.class_path import import_attribute

    container_class = cast("Callable[[], Wired]", import_attribute("phasewire.containers:Container"))
    return container_class()


def container_from(config_files: Sequence[str | os.PathLike[str]] | None) -> Wired:
    """Make a container that is configured by files.

    Args:
        config_files: YAML files; a later one overrides an earlier one.

    Returns:
        The container; its ``settings()`` are valid.

    Raises:
        ConfigError: A file cannot be read, or says something that cannot be used.
    """
    container = new_container()
    for path in config_files or ():
        container.config.from_yaml(path)
    container.settings()
    return container
