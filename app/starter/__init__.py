"""The starter: writes a plug-in project that installs, and whose tests pass, for an author to begin with."""

from __future__ import annotations

from phasewire.app.starter.names import ProjectNames
from phasewire.app.starter.project import write_project

__all__ = ["ProjectNames", "write_project"]
