"""What a pattern seems to say, read as people read names, where it says something else as a regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

__all__ = ["closed", "dots_escaped"]

#: One thing of a regular expression: an escape, a class of characters, or a character.
_PIECE: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_REPEATS: Final = frozenset("*+?{")
_NAME_END: Final = re.compile(r"[A-Za-z0-9_]|\[.*\]", re.DOTALL)
_LOOKAROUND: Final = (["?", "="], ["?", "!"], ["?", "<"])


def dots_escaped(pattern: str) -> str:
    r"""Read every dot that stands for one character as the dot of a name.

    So ``layer.1.weight`` becomes ``layer\.1\.weight``, and ``layer.1.*`` becomes ``layer\.1\..*``, as a shell reads it.
    What follows another ``.*`` is left as it is: that is no name but something to look for.

    Args:
        pattern: A regular expression.

    Returns:
        Another one, which may be the same.
    """
    return "".join(_read(_PIECE.findall(pattern)))


def closed(pattern: str) -> str:
    r"""Read a pattern that ends in a name as one that ends where the name does: ``layer\.1`` as ``layer\.1(\.|$)``.

    Args:
        pattern: A regular expression.

    Returns:
        Another one, which may be the same.
    """
    pieces = _PIECE.findall(pattern)
    return rf"{pattern}(\.|$)" if pieces and _NAME_END.fullmatch(pieces[-1]) else pattern


def _read(pieces: Sequence[str]) -> Iterator[str]:
    ends_of_names = _ends_of_names(pieces)
    looks_for_something = False
    for at, piece in enumerate(pieces):
        after = pieces[at + 1] if at + 1 < len(pieces) else ""
        if piece != ".":
            yield piece
        elif after not in _REPEATS:
            yield r"\."
        elif after in "*+" and at - 1 in ends_of_names and not looks_for_something:
            yield r"\.."
        else:
            looks_for_something = True
            yield piece


def _ends_of_names(pieces: Sequence[str]) -> set[int]:
    """Find the pieces that a name may end with: a character of one, a class, or a group that takes characters."""
    ends: set[int] = set()
    opened: list[bool] = []
    for at, piece in enumerate(pieces):
        if piece == "(":
            opened.append(pieces[at + 1 : at + 3] not in _LOOKAROUND)
        elif piece == ")":
            if opened and opened.pop():
                ends.add(at)
        elif _NAME_END.fullmatch(piece):
            ends.add(at)
    return ends
