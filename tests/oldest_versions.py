"""Writes constraints that hold everything Phasewire depends on to the oldest version that pyproject.toml allows.

torch stays as it is installed: wheels of older versions that need no GPU are not on the index that pip uses, and the
others bring gigabytes of CUDA along.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from packaging.version import Version

_BOUND: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?\s*(>=|==)\s*(?P<version>[^,;\s]+)")
_AS_INSTALLED: Final = frozenset({"torch"})
#: What has to keep up with the other tools, and nothing that a user runs depends on.
_TOOLS: Final = frozenset({"mypy", "ruff"})


def oldest(pyproject: Path) -> Iterator[str]:
    """Give one constraint for each dependency that has a lower bound."""
    project = tomllib.loads(pyproject.read_text())["project"]
    every = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    oldest: dict[str, Version] = {}
    for bound in filter(None, map(_BOUND.match, every)):
        if bound["name"] not in _AS_INSTALLED | _TOOLS:
            # Where two extras have bounds, the higher one holds.
            oldest[bound["name"]] = max(Version(bound["version"]), oldest.get(bound["name"], Version("0")))
    for name, version in oldest.items():
        yield f"{name}=={version}"


if __name__ == "__main__":
    print("\n".join(oldest(Path(__file__).parents[1] / "pyproject.toml")))  # noqa: T201  # a script
