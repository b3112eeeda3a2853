"""Whether Lightning's Trainer would take what the ``trainer`` section says, found out without building one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from phasewire.adapters.errors import did_you_mean
from phasewire.app.plain_values import fits, is_plain, type_text
from phasewire.app.settings_problems import Problem, given

__all__ = ["trainer_problems"]


# Any: the Trainer's own signature and annotations say what it takes.
def trainer_problems(keywords: Mapping[str, Any]) -> Iterator[Problem]:
    """Check names and plain values against the signature and annotations of ``lightning.pytorch.Trainer``.

    Args:
        keywords: The section. Objects to build, and mappings, are left to whoever takes them.

    Yields:
        What the Trainer would not take.
    """
    if not keywords:
        return
    from lightning.pytorch import Trainer

    parameters = inspect.signature(Trainer).parameters
    annotations = get_type_hints(Trainer.__init__)
    for name, value in keywords.items():
        if name not in parameters:
            text = f"The Trainer takes no keyword {name!r}. {did_you_mean(str(name), parameters)}".strip()
            yield Problem(("trainer", name), text, "Correct or remove it.")
        elif name in annotations and is_plain(value) and not fits(value, annotations[name]):
            yield Problem(("trainer", name), f"The Trainer takes {type_text(annotations[name])}, and {given(value)}.")
