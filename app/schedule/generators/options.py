"""The options of a schedule generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from phasewire.adapters.errors import ConfigError, did_you_mean
from phasewire.app.schedule.problems import joined

if TYPE_CHECKING:
    from phasewire.app.schedule.generators.contract import ScheduleGenerator
    from phasewire.app.schedule.model import Schedule

__all__ = ["with_options"]


def with_options(
    generator: Callable[..., Schedule], options: Mapping[str, object], *, where: str | None = None
) -> ScheduleGenerator:
    """Give a generator its options. Their names are checked here, and their values by the generator when it is called.

    Args:
        generator: A callable that takes a module, names, and options as keyword arguments.
        options: Name to value.
        where: The place the options were given, for an error.

    Returns:
        The generator, to be called with a module and names alone.

    Raises:
        ConfigError: The generator has no such option, or needs one that is not given.
    """
    takers = inspect.signature(generator).parameters.values()
    own = [taker for taker in takers if taker.kind is inspect.Parameter.KEYWORD_ONLY]
    known = [taker.name for taker in own]
    title = getattr(generator, "__name__", repr(generator))
    if not any(taker.kind is inspect.Parameter.VAR_KEYWORD for taker in takers):
        unknown = [name for name in options if name not in known]
        if unknown:
            has = f"Its options: {joined(map(repr, known))}." if known else "It has none."
            raise ConfigError(
                f"The schedule generator {title} has no option named {joined(map(repr, unknown))}. "
                + (did_you_mean(unknown[0], known) or has),
                where=where,
                remedy="Remove what it does not take.",
            )
    missing = [taker.name for taker in own if taker.default is taker.empty and taker.name not in options]
    if missing:
        raise ConfigError(
            f"The schedule generator {title} needs a value for {joined(map(repr, missing))}.",
            where=where,
            remedy="Give it.",
        )
    return partial(generator, **options)
