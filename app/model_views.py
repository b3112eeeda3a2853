"""Model views by name: those that ship with Phasewire, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from phasewire.adapters.errors import AdapterError, AdapterLoadError, PhasewireError
from phasewire.adapters.views import ModelView
from phasewire.app.entry_points import EntryPointRegistry
from phasewire.app.plugin_record import PluginRecord

__all__ = ["NATIVE_VIEWS", "VIEW_GROUP", "ModelViews", "ViewRecord"]

#: The entry-point group of model views.
VIEW_GROUP: Final = "phasewire.model_views"

#: The views that ship with Phasewire: name to ``module:Class``.
NATIVE_VIEWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "canonical": "phasewire.adapters.views:CanonicalModelView",
        "tl_names": "phasewire.adapters.tl_names:TLNamesModelView",
    }
)


@dataclass(frozen=True, slots=True)
class ViewRecord(PluginRecord):
    """One model view that can be named."""

    kind: ClassVar[str] = "model view"
    load_error: ClassVar[type[PhasewireError]] = AdapterLoadError

    def load(self, *, where: str | None = None) -> type[ModelView]:
        """Import the class of the view.

        Args:
            where: The setting that named it, for messages.

        Returns:
            The class.

        Raises:
            AdapterLoadError: It may not be used, or cannot be imported; the cause is chained.
            AdapterError: It is no view.
        """
        loaded = self.imported(where)
        if not (isinstance(loaded, type) and issubclass(loaded, ModelView)):
            raise AdapterError(
                f"{self.description} is {loaded!r}, which is no subclass of phasewire.adapters.ModelView.",
                where=where,
                remedy="Subclass ModelView, or leave model_view out for the module's own names.",
            )
        return loaded


class ModelViews(EntryPointRegistry[ViewRecord]):
    """Finds model views."""

    default_group = VIEW_GROUP
    default_native = NATIVE_VIEWS
    record_class = ViewRecord
    unknown_error = AdapterError
