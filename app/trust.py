"""Whose code may run: which distributions may offer plug-ins, and which modules a class path may name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["TrustPolicy", "normalised"]

_OWN_PACKAGE: Final = "phasewire"


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Decides before anything is imported. By default every installed package is trusted, as Python itself does."""

    enabled: bool = True
    """Whether plug-ins are used at all."""
    allow: tuple[str, ...] | None = None
    """The distributions whose plug-ins may be used; ``None`` for all."""
    deny: tuple[str, ...] = ()
    """The distributions whose plug-ins may not be used, whatever ``allow`` says."""
    allow_paths: tuple[str, ...] | None = None
    """The modules, with what is below them, that a class path may name; ``None`` for all."""

    def refusal_of(self, distribution: str) -> str | None:
        """Tell why the plug-ins of a distribution may not be used.

        Args:
            distribution: Its name.

        Returns:
            The setting that says so, as the end of a sentence; ``None`` if they may be used.
        """
        name = normalised(distribution)
        if not self.enabled:
            return "discovery.enabled is false"
        if name in map(normalised, self.deny):
            return "discovery.deny names it"
        if self.allow is not None and name not in map(normalised, self.allow):
            return "discovery.allow does not name it"
        return None

    def refusal_of_path(self, class_path: str) -> str | None:
        """Tell why a class path may not be imported.

        Args:
            class_path: ``module:Class`` or ``module.Class``.

        Returns:
            The setting that says so, as the end of a sentence; ``None`` if it may be imported.
        """
        if self.allow_paths is None or _is_below(class_path, (_OWN_PACKAGE, *self.allow_paths)):
            return None
        return "discovery.allow_paths does not name its module"


def normalised(distribution: str) -> str:
    """Normalise the name of a distribution as PEP 503 says.

    Args:
        distribution: The name.

    Returns:
        The name by which package indexes know it.
    """
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _is_below(class_path: str, modules: Sequence[str]) -> bool:
    path = class_path.replace(":", ".")
    return any(path.startswith(f"{module}.") for module in modules)
