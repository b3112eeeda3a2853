"""One thing that a package offers under a name: where it is, whose it is, and whether it may be used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from phasewire.adapters.errors import ConfigError, PhasewireError
from phasewire.app.class_path import import_attribute

__all__ = ["IMPORT_TO_CHANGE", "PEER_PACKAGE", "PluginRecord"]

PEER_PACKAGE: Final = "finetuning_scheduler"
IMPORT_TO_CHANGE: Final = (
    "Change `from finetuning_scheduler.strategy_adapters import ...` to `from phasewire.adapters import "
    "StrategyAdapter` where the class is defined."
)


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """What can be named, before it is imported."""

    kind: ClassVar[str] = "plug-in"
    """What it is, for messages."""
    load_error: ClassVar[type[PhasewireError]] = ConfigError
    """What is raised when it cannot be imported."""

    name: str
    """The lowercased name; for what was given by its class path, that path."""
    value: str
    """Where it is: ``module:attribute`` or ``module.attribute``."""
    distribution: str | None = None
    """The distribution that offers it; ``None`` for a class path."""
    version: str | None = None
    """The version of the distribution; ``None`` when it is unknown."""
    native: bool = False
    """Whether it ships with Phasewire."""
    refusal: str | None = None
    """Why it may not be used, as the end of a sentence; ``None`` if it may."""

    @property
    def description(self) -> str:
        """What it is and whose, as the beginning of a sentence."""
        if self.native:
            return f"Phasewire's own {self.kind} {self.name!r} ({self.value})"
        if self.distribution is None:
            return f"The {self.kind} {self.value!r}"
        version = self.version or "of unknown version"
        return f"The {self.kind} {self.name!r} of {self.distribution} {version} (entry point {self.value!r})"

    def require_trusted(self, where: str | None) -> None:
        """Refuse it if it may not be used.

        Args:
            where: The setting that named it, for messages.

        Raises:
            PhasewireError: It may not be used.
        """
        if self.refusal is not None:
            raise self.load_error(
                f"{self.description} may not be used: {self.refusal}. None of its code has run.",
                where=where,
                remedy=f"Name another {self.kind}, or change that setting if you trust it.",
            )

    def imported(self, where: str | None) -> object:
        """Import it, if it may be used.

        Args:
            where: The setting that named it, for messages.

        Returns:
            What the entry point or class path names.

        Raises:
            PhasewireError: It may not be used, or cannot be imported; the cause is chained. One that exits while it is
                imported is reported so too; ``KeyboardInterrupt`` passes.
        """
        self.require_trusted(where)
        try:
            return import_attribute(_class_path(self.value), where=where)
        except ConfigError as error:
            cause = error.__cause__ or error
            raise self.load_error(
                f"{self.description} does not load. {error.problem}", where=where, remedy=self._import_remedy(cause)
            ) from cause

    def _import_remedy(self, error: BaseException) -> str:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == PEER_PACKAGE:
            return IMPORT_TO_CHANGE
        if self.distribution is None:
            return f"Write 'module:Class', 'module.Class' or the name of an installed {self.kind}."
        return f"Mend, upgrade or uninstall {self.distribution}, or name another {self.kind}."


def _class_path(value: str) -> str:
    """Take the extras and spaces off the value of an entry point, which packaging's specification allows."""
    return re.sub(r"\s*:\s*", ":", value.partition("[")[0].strip())
