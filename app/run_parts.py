"""The parts of a run that a configuration describes whole: model, data module, Trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from phasewire.adapters.errors import ConfigError, PhasewireError
from phasewire.app.class_path import check_arguments, construct, resolve
from phasewire.app.config_file import key_path
from phasewire.app.phases.scheduler import FinetuningScheduler
from phasewire.app.settings_problems import given
from phasewire.app.settings_reader import locator

if TYPE_CHECKING:
    from phasewire.app.config_file import Locate
    from phasewire.app.settings import ClassSpec, Settings

__all__ = ["build_datamodule", "build_model", "build_trainer"]


# Any, here and below: a configuration holds whatever YAML can.
def build_model(settings: Settings, source: Mapping[str, Any], **init_args: object) -> LightningModule:
    """Build the model of a configuration.

    Args:
        settings: The configuration.
        source: What it was read from, for messages.
        init_args: Arguments that replace those of the configuration.

    Returns:
        The model.

    Raises:
        ConfigError: No model is configured, its class cannot be imported, does not take the arguments or is no
            LightningModule, or its constructor failed.
    """
    model = _build(settings.model, "model", init_args, source)
    if not isinstance(model, LightningModule):
        raise _wrong_class(model, LightningModule, "model", locator(source))
    return model


def build_datamodule(settings: Settings, source: Mapping[str, Any], **init_args: object) -> LightningDataModule:
    """Build the data module of a configuration.

    Args:
        settings: The configuration.
        source: What it was read from, for messages.
        init_args: Arguments that replace those of the configuration.

    Returns:
        The data module.

    Raises:
        ConfigError: No data module is configured, its class cannot be imported, does not take the arguments or is no
            LightningDataModule, or its constructor failed.
    """
    datamodule = _build(settings.datamodule, "datamodule", init_args, source)
    if not isinstance(datamodule, LightningDataModule):
        raise _wrong_class(datamodule, LightningDataModule, "datamodule", locator(source))
    return datamodule


def build_trainer(
    settings: Settings, source: Mapping[str, Any], scheduler: FinetuningScheduler, **keywords: object
) -> Trainer:
    """Build the Trainer of a configuration, with the scheduler in it.

    Args:
        settings: The configuration.
        source: What it was read from, for messages.
        scheduler: The scheduler; it comes before the other callbacks.
        keywords: Keywords of the Trainer that replace those of the configuration.

    Returns:
        The Trainer.

    Raises:
        ConfigError: The Trainer takes no keyword of a name, refuses a value or a combination, a class that is named
            cannot be imported or does not take its arguments, or among the callbacks is something else or a second
            scheduler.
    """
    locate = _locator(source, ("trainer",), keywords)
    wanted = {**settings.trainer, **keywords}
    check_arguments(Trainer, "The Trainer", wanted, keys=("trainer",), locate=locate)
    resolved = {name: resolve(value, keys=("trainer", name), locate=locate) for name, value in wanted.items()}
    # Any: each keyword of the Trainer has its own type.
    built: dict[str, Any] = {name: construct(value) for name, value in resolved.items()}
    built["callbacks"] = [scheduler, *_own_callbacks(built.get("callbacks"), locate)]
    try:
        return Trainer(**built)
    except PhasewireError:
        raise
    except Exception as cause:
        raise ConfigError(
            f"The Trainer refuses its keywords: {type(cause).__name__}: {str(cause).rstrip('.')}.",
            where=locate(("trainer",)),
            remedy="Change the trainer section.",
        ) from cause


def _build(spec: ClassSpec | None, section: str, init_args: Mapping[str, object], source: Mapping[str, Any]) -> object:
    locate = _locator(source, (section, "init_args"), init_args)
    if spec is None:
        raise ConfigError(
            f"No {section} is configured.",
            where=locate((section,)),
            remedy=f"Set {section}.class_path to its class, and {section}.init_args to its constructor's arguments.",
        )
    plain = {"class_path": spec.class_path, "init_args": {**spec.init_args, **init_args}}
    return construct(resolve(plain, keys=(section,), locate=locate))


def _locator(source: Mapping[str, Any], section: tuple[str, ...], replaced: Mapping[str, object]) -> Locate:
    """Tell places as the configuration does, but not of what the caller put in place of its values."""
    of_source, depth = locator(source), len(section)

    def locate(keys: Sequence[str | int]) -> str:
        if tuple(keys[:depth]) == section and len(keys) > depth and keys[depth] in replaced:
            return f"{section[0]}({key_path(keys[depth:])}=...)"
        return of_source(keys)

    return locate


def _wrong_class(built: object, expected: type, section: str, locate: Locate) -> ConfigError:
    return ConfigError(
        f"{type(built).__module__}.{type(built).__qualname__} is no {expected.__name__}.",
        where=locate((section, "class_path")),
        remedy=f"Name a subclass of lightning.pytorch.{expected.__name__}.",
    )


def _own_callbacks(callbacks: object, locate: Locate) -> list[object]:
    own = callbacks if isinstance(callbacks, list) else [] if callbacks is None else [callbacks]
    for index, callback in enumerate(own):
        if not isinstance(callback, Callback):
            raise ConfigError(
                f"A callback is expected, and {given(callback)}.",
                where=locate(("trainer", "callbacks", index)),
                remedy="Write class_path (and init_args) of a subclass of lightning.pytorch.Callback.",
            )
        if isinstance(callback, FinetuningScheduler):
            raise ConfigError(
                "There would be two schedulers in one Trainer: this one, and the one that the scheduler section "
                "describes.",
                where=locate(("trainer", "callbacks", index)),
                remedy="Remove it here, and put its settings into the scheduler section.",
            )
    return own
