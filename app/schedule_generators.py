"""Schedule generators by name: those that ship with Phasewire, and those of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from phasewire.adapters.errors import ConfigError, PhasewireError, ScheduleError
from phasewire.app.entry_points import EntryPointRegistry
from phasewire.app.plugin_record import PluginRecord
from phasewire.app.schedule.model import Schedule

if TYPE_CHECKING:
    from torch import nn

    from phasewire.app.schedule.generators import NamedParameters

__all__ = ["GENERATOR_GROUP", "NATIVE_GENERATORS", "GeneratorRecord", "ModuleNames", "ScheduleGenerators"]

#: The entry-point group of schedule generators.
GENERATOR_GROUP: Final = "phasewire.schedule_generators"

#: The generators that ship with Phasewire: name to ``module:function``.
NATIVE_GENERATORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        name: f"phasewire.app.schedule.generators:{name}"
        for name in ("discriminative", "equal_mass", "pairs", "per_block")
    }
)


@dataclass(frozen=True, slots=True)
class GeneratorRecord(PluginRecord):
    """One schedule generator that can be named."""

    kind: ClassVar[str] = "schedule generator"

    # Any: a generator has options of its own.
    def load(self, *, where: str | None = None) -> Callable[..., Any]:
        """Import the generator.

        Args:
            where: The setting that named it, for messages.

        Returns:
            A callable of a module and of what gives the names, with options as keywords; see
            :class:`~phasewire.app.schedule.generators.ScheduleGenerator`.

        Raises:
            ConfigError: It may not be used, cannot be imported, or cannot be called.
        """
        loaded = self.imported(where)
        if not callable(loaded):
            raise ConfigError(
                f"{self.description} is {loaded!r}, which cannot be called to make a schedule.",
                where=where,
                remedy="Name a function of a module and an adapter.",
            )
        return loaded


@dataclass(frozen=True, slots=True)
class ModuleNames:
    """The names of a module's own parameters, where there is no adapter."""

    module: nn.Module
    """The module."""

    def get_named_params_for_schedule_validation(self) -> dict[str, nn.Parameter]:
        """Give the names that a schedule may use, in registration order.

        Returns:
            Name to parameter.
        """
        return dict(self.module.named_parameters())


class ScheduleGenerators(EntryPointRegistry[GeneratorRecord]):
    """Finds schedule generators, and makes schedules with them."""

    default_group = GENERATOR_GROUP
    default_native = NATIVE_GENERATORS
    record_class = GeneratorRecord
    path_form = "module:function"

    # Any: the options of a generator are the user's choice.
    def generate(
        self,
        reference: str,
        options: Mapping[str, Any],
        module: nn.Module,
        names: NamedParameters,
        *,
        where: str,
        options_where: str,
    ) -> Schedule:
        """Make a schedule.

        Args:
            reference: The generator, as for :meth:`record_of`.
            options: Its options.
            module: The module to be tuned.
            names: Gives the names that a schedule may use, as a connected adapter does.
            where: The setting that named the generator, for messages.
            options_where: The setting that gave its options.

        Returns:
            The schedule; whether it fits the module is the validator's to say.

        Raises:
            ConfigError: No generator is called so, it does not load, or does not take these options.
            ScheduleError: It fails, or gives something else than a schedule.
        """
        # Imported where it is needed, and with it the generators that ship with Phasewire.
        from phasewire.app.schedule.generators.options import with_options

        record = self.record_of(reference, where=where)
        generator = with_options(record.load(where=where), options, where=options_where)
        try:
            made: object = generator(module, names)
        except PhasewireError:
            raise
        except Exception as error:
            raise ScheduleError(
                f"{record.description} failed with {type(error).__name__}: {error}",
                where=where,
                remedy="Change its options, or name another generator.",
            ) from error
        if not isinstance(made, Schedule):
            raise ScheduleError(
                f"{record.description} gave {type(made).__name__}, and a phasewire.app.Schedule is expected.",
                where=where,
                remedy="Name another generator, or let it return Schedule.from_mapping(...).",
            )
        return made
