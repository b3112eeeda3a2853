"""Transition criteria by name: those that ship with Phasewire, and those of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final

from phasewire.adapters.errors import CriterionError, PhasewireError
from phasewire.adapters.transitions import CRITERION_API_VERSION, TransitionCriterion
from phasewire.app.class_path import check_arguments
from phasewire.app.contract_version import require_version
from phasewire.app.entry_points import EntryPointRegistry
from phasewire.app.plugin_record import PluginRecord

__all__ = ["CRITERIA_GROUP", "NATIVE_CRITERIA", "BuiltCriterion", "CriterionRecord", "TransitionCriteria"]

#: The entry-point group of transition criteria.
CRITERIA_GROUP: Final = "phasewire.transition_criteria"

#: The criteria that ship with Phasewire: name to ``module:Class``.
NATIVE_CRITERIA: Final[Mapping[str, str]] = MappingProxyType(
    {
        "early_stopping": "phasewire.app.phases.criteria:EarlyStoppingCriterion",
        "epochs": "phasewire.app.phases.criteria:EpochCriterion",
        "plateau": "phasewire.app.phases.plateau:PlateauCriterion",
    }
)


@dataclass(frozen=True, slots=True)
class CriterionRecord(PluginRecord):
    """One transition criterion that can be named."""

    kind: ClassVar[str] = "transition criterion"
    load_error: ClassVar[type[PhasewireError]] = CriterionError

    given: object = None
    """The class, where the class itself was given; ``None`` where it is to be imported."""

    @classmethod
    def of_class(cls, given: type) -> CriterionRecord:
        """Make the record of a class that is already at hand.

        Args:
            given: The class.

        Returns:
            The record. Whether it is a criterion is checked by :meth:`load`.
        """
        path = f"{given.__module__}:{given.__qualname__}"
        return cls(name=path, value=path, given=given)

    # Any: a criterion has options of its own, and gives whatever it gives.
    def load(self, *, where: str | None = None) -> Callable[..., Any]:
        """Import what builds the criterion.

        Args:
            where: The setting that named it, for messages.

        Returns:
            A subclass of :class:`~phasewire.adapters.TransitionCriterion`, or a callable that builds one.

        Raises:
            CriterionError: It may not be used, cannot be imported, is no criterion, or is written for another version
                of the contract.
        """
        loaded = self.imported(where) if self.given is None else self.given
        if isinstance(loaded, type):
            if not issubclass(loaded, TransitionCriterion):
                raise self._not_a_criterion(f"names the class {loaded.__qualname__}", where)
            self._require_version(loaded, where)
        elif not callable(loaded):
            raise self._not_a_criterion(f"is {loaded!r}", where)
        return loaded

    def build(self, options: Mapping[str, object], *, where: str) -> TransitionCriterion:
        """Build the criterion.

        Args:
            options: Its options.
            where: The setting that named it, for messages.

        Returns:
            A new criterion.

        Raises:
            CriterionError: As :meth:`load` raises it, or building it failed; the cause is chained.
            PhasewireError: It does not take the options.
        """
        factory = self.load(where=where)
        check_arguments(factory, self.description, options, locate=lambda _: where, section=None)
        try:
            built: object = factory(**options)
        except PhasewireError as error:
            raise type(error)(error.problem, where=error.where or where, remedy=error.remedy) from error
        except (Exception, SystemExit) as error:
            raise CriterionError(
                f"{self.description} cannot be built: {type(error).__name__}: {error}.",
                where=where,
                remedy="Change its options, or name another criterion.",
            ) from error
        if not isinstance(built, TransitionCriterion):
            raise self._not_a_criterion(f"gave {built!r}", where)
        self._require_version(type(built), where)
        return built

    def _require_version(self, criterion_class: type[TransitionCriterion], where: str | None) -> None:
        require_version(
            criterion_class.api_version,
            CRITERION_API_VERSION,
            self,
            contract="contract of transition criteria",
            page="docs/transition-criteria.md",
            error=CriterionError,
            where=where,
        )

    def _not_a_criterion(self, problem: str, where: str | None) -> CriterionError:
        return CriterionError(
            f"{self.description} {problem}, and a phasewire.adapters.TransitionCriterion is expected.",
            where=where,
            remedy="Name a subclass of phasewire.adapters.TransitionCriterion, or a function that builds one.",
        )


@dataclass(slots=True)
class BuiltCriterion:
    """A criterion of a run, with what it was made from."""

    record: CriterionRecord
    """What was named."""
    # Any: the options of a criterion are its own.
    options: Mapping[str, Any]
    """The options it was built with."""
    criterion: TransitionCriterion
    """The criterion."""

    @property
    def label(self) -> str:
        """Its name, with its options, such as ``plateau(window=3)``."""
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.record.name}({options})" if options else self.record.name


class TransitionCriteria(EntryPointRegistry[CriterionRecord]):
    """Finds transition criteria, and builds them."""

    default_group = CRITERIA_GROUP
    default_native = NATIVE_CRITERIA
    record_class = CriterionRecord
    unknown_error = CriterionError

    # Any: as above.
    def build(self, reference: str | type, options: Mapping[str, Any], *, where: str) -> BuiltCriterion:
        """Build a criterion.

        Args:
            reference: A name, ``name@distribution``, ``module:Class`` or ``module.Class``, or the class.
            options: Its options.
            where: The setting that named it, for messages.

        Returns:
            The criterion, with what it was made from.

        Raises:
            CriterionError: No criterion is called so, it does not load, or building it failed.
            PhasewireError: It does not take the options.
        """
        if isinstance(reference, type):
            record = CriterionRecord.of_class(reference)
        else:
            record = self.record_of(reference, where=where)
        return BuiltCriterion(record, options, record.build(options, where=where))
