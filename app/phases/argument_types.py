"""The types of the callback's arguments, for type checkers on one side and for LightningCLI on the other.

jsonargparse, the parser of LightningCLI, reads the annotations of a constructor and makes what a YAML file says fit:

* In a union it takes the first type that fits, and text fits everything; so ``dict`` comes first.
* In a ``dict[str, Any]`` it makes an object of every ``{class_path, init_args}`` at once, long before the phase begins
  that wants a new optimizer; a bare ``dict`` it leaves alone.
* Where a class such as ``Schedule`` is possible it opens the file that a path names, and a key that stands twice in it
  goes unnoticed; a path that stays text is read by us.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:  # jsonargparse also runs what stands below "if TYPE_CHECKING"
    GivenSchedule = dict | str | os.PathLike[str] | None
    Options = dict | None
    Criteria = list | None
else:
    from collections.abc import Sequence

    from phasewire.app.schedule.model import Schedule

    # Any: the values are those of a YAML file, or arguments of a class that is the user's choice.
    GivenSchedule = dict[Any, Any] | str | os.PathLike[str] | Schedule | None
    Options = dict[str, Any] | None
    Criteria = Sequence[str | type | dict[Any, Any]] | None

__all__ = ["Criteria", "GivenSchedule", "Options"]
