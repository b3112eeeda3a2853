"""Names of a checkpoint's tensors that differ from the module's: plain values, checked on the names at hand."""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.tensor_layout import Layout
from phasewire.adapters.tensor_pieces import Piece

__all__ = ["OWN_NAMES", "MappedNaming", "Naming", "Renaming"]

#: The word for the names that the module itself gives.
OWN_NAMES: Final = "module"

_REMEDY: Final = "Mend the renaming: every name needs one of its own, and the way back must lead to it."


class Naming(ABC):
    """A way to name the tensors of a checkpoint."""

    @abstractmethod
    def layout(self, own_names: Iterable[str], *, word: str = "") -> Layout:
        """Tell where each tensor of a module stands in a file.

        Args:
            own_names: The keys of the module's state dict.
            word: What the naming is called, for messages.

        Returns:
            The layout for all of these names.

        Raises:
            CheckpointError: The naming does not work for these names.
        """

    @abstractmethod
    def own_name(self, stored: str) -> str:
        """Give the module's name for one in a file that no layout has: the file knows more than the module.

        Args:
            stored: The name in the file.

        Returns:
            The module's name; the same where the naming does not tell.
        """


class Renaming(Naming):
    """Other names for the same tensors: a dict, or a pair of functions.

    A dict maps names of the module to names in the file. A key is the whole name of a parameter or buffer, or that of a
    part, by which everything below it is renamed: ``{"layers": "blocks", "head.weight": "unembed"}`` stores
    ``layers.0.weight`` as ``blocks.0.weight``. Keys end at dots: ``layers`` says nothing of ``layers2.weight``. The
    longest key counts, and what has none keeps its name. The way back follows from the values, which must differ.

    A pair ``(to_file, from_file)`` takes a name and returns one; the second must undo the first.

    Both are checked on all names of the module before anything is written or read.

    Args:
        names: The dict or the pair.

    Raises:
        CheckpointError: It is neither, or two keys of the dict have one value.
    """

    def __init__(self, names: Mapping[str, str] | tuple[Callable[[str], str], Callable[[str], str]]) -> None:
        if isinstance(names, Mapping):
            forward = dict(names)
            for own, stored in forward.items():
                if not _is_name(own) or not _is_name(stored):
                    raise CheckpointError(
                        f"Not every name in the renaming is a name: {reprlib.repr(own)}: {reprlib.repr(stored)}.",
                        remedy="A name is a text, and no empty text: {'name in the module': 'name in the file'}.",
                    )
            backward: dict[str, str] = {}
            for own, stored in forward.items():
                if stored in backward:
                    raise _collision(backward[stored], own, stored, "")
                backward[stored] = own
            self._to_file, self._from_file = _by_prefix(forward), _by_prefix(backward)
        else:
            _require_pair(names)
            self._to_file, self._from_file = names

    def layout(self, own_names: Iterable[str], *, word: str = "") -> Layout:
        """Tell where each tensor of a module stands in a file.

        Args:
            own_names: The keys of the module's state dict.
            word: What the renaming is called, for messages.

        Returns:
            The layout: each tensor as a whole under its other name.

        Raises:
            CheckpointError: Two names become one, or the way back does not lead to a name.
        """
        owner: dict[str, str] = {}
        for own in own_names:
            stored = _called(self._to_file, own, word)
            if stored in owner:
                raise _collision(owner[stored], own, stored, word)
            owner[stored] = own
        for stored, own in owner.items():
            back = _called(self._from_file, stored, word)
            if back != own:
                raise CheckpointError(
                    f"{_titled(word)} does not go back: {own!r} becomes {stored!r}, and that becomes {back!r}. "
                    "A file in these names could not be read again.",
                    remedy=_REMEDY,
                )
        return Layout({own: Piece(stored) for stored, own in owner.items()})

    def own_name(self, stored: str) -> str:
        """Give the module's name for one in a file.

        Args:
            stored: The name in the file.

        Returns:
            The module's name.
        """
        return _called(self._from_file, stored, "")


class MappedNaming(Naming):
    """A naming that was found out for one module, or read from a file: each name with where its tensor stands.

    Names that it does not have stay as they are.

    Args:
        found: The layout of that module; or what gives it, called when it is needed.
    """

    def __init__(self, found: Layout | Callable[[], Layout]) -> None:
        self._found = found

    def layout(self, own_names: Iterable[str], *, word: str = "") -> Layout:
        """Tell where each tensor of a module stands in a file.

        Args:
            own_names: The keys of the module's state dict.
            word: What the naming is called, for messages.

        Returns:
            The layout of all names that the naming has, and of these.

        Raises:
            CheckpointError: Two tensors would stand in one place.
        """
        found = self._found if isinstance(self._found, Layout) else self._found()
        rest = {own: Piece(own) for own in own_names if own not in found.pieces and own not in found.zeros}
        return Layout({**found.pieces, **rest}, aliases=found.aliases, zeros=found.zeros, word=word)

    def own_name(self, stored: str) -> str:
        """Give the name back: what is not in the layout is not known.

        Args:
            stored: The name in the file.

        Returns:
            The same name.
        """
        return stored


def _is_name(given: object) -> bool:
    return isinstance(given, str) and bool(given)


def _require_pair(given: object) -> None:
    if not isinstance(given, tuple) or len(given) != len(("to", "from")) or not all(map(callable, given)):
        raise CheckpointError(
            f"A renaming is a dict or a pair of functions, and this is {reprlib.repr(given)}.",
            remedy="Give {'name in the module': 'name in the file'}, or (to_file, from_file).",
        )


def _by_prefix(table: Mapping[str, str]) -> Callable[[str], str]:
    def renamed(name: str) -> str:
        prefix = name
        while prefix:
            if prefix in table:
                return table[prefix] + name[len(prefix) :]
            prefix = prefix.rpartition(".")[0]
        return name

    return renamed


def _called(function: Callable[[str], str], name: str, word: str) -> str:
    try:
        # A function of a plug-in may break the promise of its annotation.
        result: object = function(name)
    except (Exception, SystemExit) as error:
        raise CheckpointError(
            f"{_titled(word)} failed for {name!r} with {type(error).__name__}: {error}", remedy=_REMEDY
        ) from error
    if isinstance(result, str) and result:
        # A subclass of str as a key would be an object in the checkpoint, which torch reads from no file.
        return str.__str__(result)
    raise CheckpointError(
        f"{_titled(word)} makes {reprlib.repr(result)} of {name!r}, which is no name.", remedy=_REMEDY
    )


def _collision(first: str, second: str, stored: str, word: str) -> CheckpointError:
    return CheckpointError(
        f"{_titled(word)} calls both {first!r} and {second!r} {stored!r}, so one would overwrite the other in a file.",
        remedy=_REMEDY,
    )


def _titled(word: str) -> str:
    return f"The renaming {word!r}" if word else "The renaming"
