"""From the name that an author gives to all the names in the project."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Protocol

from phasewire.adapters.errors import ConfigError

__all__ = ["KnownNames", "ProjectNames"]

#: So that no line of the project is longer than its own linter allows.
_MOST_CHARACTERS: Final = 40
_ALLOWED: Final = re.compile(r"[A-Za-z0-9]+(?:[ ._-]+[A-Za-z0-9]+)*")
#: Where a word begins in ``HTTPNames2``: before a capital that follows a small letter or a digit, or begins a word.
_BEGINNING_OF_A_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: The class that every adapter subclasses; one of the same name could not.
_BASE_CLASS: Final = "StrategyAdapter"
_FOLDER_OF_TESTS: Final = "tests"
_WHERE: Final = "phasewire adapters new"


class KnownAdapter(Protocol):
    """An adapter that can be named."""

    @property
    def description(self) -> str:
        """What it is and whose, as the beginning of a sentence."""


class KnownNames(Protocol):
    """What tells which adapters there are."""

    def find(self, name: str) -> KnownAdapter | None:
        """Look an adapter up by its name."""


@dataclass(frozen=True, slots=True)
class ProjectNames:
    """The names in a plug-in project."""

    adapter: str
    """The name of the adapter, of its import package and of the folder: small letters, digits and underscores."""

    @classmethod
    def of(cls, given: str, known: KnownNames) -> ProjectNames:
        """Make the names from what an author typed.

        Args:
            given: Such as ``my_adapter``, ``My Adapter``, ``my-adapter`` or ``MyAdapter``, which all mean the same.
            known: The adapters that there are.

        Returns:
            The names.

        Raises:
            ConfigError: It cannot name a package, or something else has the name.
        """
        text = given.strip()
        if not _ALLOWED.fullmatch(text):
            raise _refused(f"{given!r} cannot name an adapter.", "Use letters of ASCII, digits and underscores.")
        name = "_".join(_words(text))
        if len(name) > _MOST_CHARACTERS:
            raise _refused(
                f"{name!r} has {len(name)} characters, and at most {_MOST_CHARACTERS} are allowed.",
                "Choose a shorter name.",
            )
        names = cls(name)
        problem = next(_problems(names, known), None)
        if problem is not None:
            raise _refused(problem, f"Choose another name, such as {_another(name)!r}.")
        return names

    @property
    def distribution(self) -> str:
        """The name of the distribution, as package indexes spell it."""
        return self.adapter.replace("_", "-")

    @property
    def package(self) -> str:
        """The name of the import package."""
        return self.adapter

    @property
    def class_name(self) -> str:
        """The name of the adapter's class."""
        name = "".join(word[0].upper() + word[1:] for word in self.adapter.split("_"))
        return name if name.endswith("Adapter") else f"{name}Adapter"


def _words(text: str) -> list[str]:
    parts = re.split(r"[ ._-]+", text)
    return [word.lower() for part in parts for word in _BEGINNING_OF_A_WORD.split(part)]


def _problems(names: ProjectNames, known: KnownNames) -> Iterator[str]:
    name = names.adapter
    if name[0].isdigit():
        yield f"{name!r} begins with a digit, and no Python package may."
    if keyword.iskeyword(name):
        yield f"{name!r} is a keyword of Python, so no package can be called so."
    if name in sys.stdlib_module_names:
        yield f"{name!r} is a module of Python's own library."
    if name == _FOLDER_OF_TESTS:
        yield f"{name!r} is the folder of the project's tests, and pytest would take it for the package."
    if names.class_name == _BASE_CLASS:
        yield f"The class of {name!r} would be called {_BASE_CLASS}, like the one that it subclasses."
    adapter = known.find(name)
    if adapter is not None:
        yield f"{adapter.description} has that name already."
    # A folder of that name is no module; an installed package is, and one of the two would hide the other.
    spec = None if keyword.iskeyword(name) else find_spec(name)
    if name == "phasewire" or (spec is not None and spec.origin is not None):
        yield f"The package {name!r} is installed already."


def _another(name: str) -> str:
    return f"adapter_{name}" if name[0].isdigit() else f"my_{name}"


def _refused(problem: str, remedy: str) -> ConfigError:
    return ConfigError(problem, where=_WHERE, remedy=remedy)
