"""Whose code may run: which distributions may offer plug-ins, and which modules a class path may name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import PurePosixPath
from typing import Final

__all__ = ["TrustPolicy", "normalised"]

_OWN_PACKAGE: Final = "phasewire"
_MODULE_SUFFIXES: Final = frozenset({".py", ".pyc", ".so", ".pyd"})


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Decides before anything is imported. By default every installed package is trusted, as Python itself does."""

    enabled: bool = True
    """Whether plug-ins are used at all."""
    allow: tuple[str, ...] | None = None
    """The distributions whose plug-ins may be used; ``None`` for all."""
    deny: tuple[str, ...] = ()
    """The distributions whose plug-ins and modules may not be used, whatever ``allow`` and ``allow_paths`` say."""
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
        if self.allow_paths is not None and not _is_below(class_path, (_OWN_PACKAGE, *self.allow_paths)):
            return "discovery.allow_paths does not name its module"
        owner = next((name for name in self.deny if _is_below(class_path, _modules_of(name))), None)
        return None if owner is None else f"discovery.deny names {owner}, which its module belongs to"


def normalised(distribution: str) -> str:
    """Normalise the name of a distribution as PEP 503 says.

    Args:
        distribution: The name.

    Returns:
        The name by which package indexes know it.
    """
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _modules_of(distribution: str) -> frozenset[str]:
    """Name the modules that an installed distribution brings, by its files.

    An editable install lists no modules: then all counts that is below its top-level packages and those of its entry
    points. A namespace that several distributions share belongs to none of them where files are listed.
    """
    try:
        installed = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return frozenset()
    files = [PurePosixPath(file) for file in installed.files or () if file.suffix in _MODULE_SUFFIXES]
    named = [file.parent if file.stem == "__init__" else file.with_name(file.name.partition(".")[0]) for file in files]
    if named:
        return frozenset(".".join(path.parts) for path in named)
    offered = (entry.value.strip().partition(":")[0].partition(".")[0] for entry in installed.entry_points)
    return frozenset([*(installed.read_text("top_level.txt") or "").split(), *filter(None, offered)])


def _is_below(class_path: str, modules: Iterable[str]) -> bool:
    path = class_path.replace(":", ".")
    return any(path.startswith(f"{module}.") for module in modules)
