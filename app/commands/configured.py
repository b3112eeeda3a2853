"""What commands take from the configuration unless the command line names it: the model and the adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from phasewire.app.commands.reporting import echo_warning

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.wired import Wired

__all__ = ["configured_adapter", "model_builder", "with_configured_adapter"]

T = TypeVar("T")


def configured_adapter(container: Wired) -> StrategyAdapter | None:
    """Build the adapter that the configuration maps to its strategy.

    Args:
        container: The configured container.

    Returns:
        A new adapter; ``None`` where none is mapped, or where it is known only when the strategy runs, which is said.

    Raises:
        AdapterError: It cannot be found, loaded or built.
    """
    settings = container.settings()
    mapping = settings.scheduler.custom_strategy_adapters
    if not mapping:
        return None
    strategy, devices = (settings.trainer.get(key, "auto") for key in ("strategy", "devices"))
    record = container.resolver().planned(mapping, strategy=strategy, devices=devices)
    if record is None:
        echo_warning(
            f"Which adapter the strategy {strategy!r} gets is known when it runs. Names here are the module's own."
        )
        return None
    return record(**(settings.scheduler.strategy_adapter_cfg or {}))


def with_configured_adapter(container: Wired, make: Callable[[StrategyAdapter | None], T]) -> T:
    """Make something in the names of the configured adapter; in the module's own where it needs a fit to give any.

    Args:
        container: The configured container.
        make: Makes it, with an adapter or without.

    Returns:
        What was made.

    Raises:
        AdapterError: The adapter cannot be found, loaded or built.
    """
    from phasewire.app.planned_fit import NeedsFitError

    try:
        return make(configured_adapter(container))
    except NeedsFitError as error:
        echo_warning(f"{error} Names here are the module's own.")
        return make(None)


def model_builder(
    model: str | None,
    init_args: str | None,
    container: Wired,
    *,
    built_as: str | None = None,
    attribute: str | None = None,
) -> Callable[[], object]:
    """Tell what builds the model.

    Args:
        model: A class path, a folder or a checkpoint; ``None`` for the model of the configuration.
        init_args: Arguments of its constructor, as text.
        container: The configured container.
        built_as: The class to build from a folder or a checkpoint.
        attribute: The attribute to put the model into.

    Returns:
        A function that builds it.

    Raises:
        ConfigError: There is no model, or arguments are given for one of the configuration.
    """
    from phasewire.adapters.errors import ConfigError
    from phasewire.app.planning.sources import model_named

    if model is not None:
        return model_named(model, init_args, built_as=built_as, attribute=attribute)
    if container.settings().model is None:
        raise ConfigError(
            "This needs a model.",
            remedy="Name its class, as in 'phasewire plan my_project.models.Classifier' or '--model "
            "my_project.models.Classifier', or give --config FILE with a model section.",
        )
    for option, given in (("--init-args", init_args), ("--class", built_as), ("--attribute", attribute)):
        if given is not None:
            raise ConfigError(
                "The model and its arguments come from --config here.",
                where=option,
                remedy="Change the model section in a further --config file, or name the class on the command line.",
            )
    return container.model
