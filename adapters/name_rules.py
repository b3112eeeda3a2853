"""What a view knows of names beyond those that it gives, for whoever resolves a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["NameRules"]


@dataclass(frozen=True, slots=True)
class NameRules:
    """What holds for the names of a schedule that is written in those of a view."""

    second_names: Mapping[str, str] = field(default_factory=dict)
    """Second name of a parameter to the name that the view gives it: tied parameters are thawed under one name."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Names that no schedule may ask for, to the reason: a whole sentence. A pattern that takes other names as well
    passes them over."""
    thawed_along: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Name to those that are thawed with it, in the first phase that thaws such a name, unless the schedule names them
    itself in any phase."""
