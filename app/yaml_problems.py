"""What to tell people about YAML text that cannot be read: the place, the problem and the remedy."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from phasewire.app.yaml_tree import Mark, YamlFault

__all__ = ["YamlProblem", "explain"]

_SYNTAX_REMEDY = "Check the indentation (spaces, no tabs), the brackets and the quotes there."
_VARIABLE_REMEDY = "Inside {...} or [...], put the key on a line of its own: `max_epochs: ${EPOCHS:2}`."


@dataclass(frozen=True, slots=True)
class YamlProblem:
    """Why a text cannot be read.

    Attributes:
        place: Such as ``"line 3, column 1"``; empty when it is not known.
        text: What is wrong, as whole sentences.
        remedy: What to do about it.
    """

    place: str
    text: str
    remedy: str | None


def explain(cause: yaml.YAMLError | UnicodeEncodeError, text: str, *, resolve_env: bool = False) -> YamlProblem:
    """Put an error of the parser in words.

    Args:
        cause: The error.
        text: The text that was read.
        resolve_env: Whether ``${VAR}`` in the text stands for an environment variable.

    Returns:
        The problem.
    """
    if isinstance(cause, YamlFault):
        return YamlProblem(_place(cause.mark, text), str(cause.problem), cause.remedy)
    if isinstance(cause, yaml.MarkedYAMLError):
        mark = cause.problem_mark or cause.context_mark
        is_syntax = isinstance(cause, yaml.scanner.ScannerError | yaml.parser.ParserError)
        remedies = [_SYNTAX_REMEDY] if is_syntax else []
        if is_syntax and resolve_env and _is_at_variable(mark, text):
            remedies.append(_VARIABLE_REMEDY)
        return YamlProblem(
            _place(mark, text), f"This cannot be read as YAML: {_story(cause)}.", " ".join(remedies) or None
        )
    if isinstance(cause, yaml.reader.ReaderError):
        character = cause.character if isinstance(cause.character, str) else chr(cause.character)
        line = text.count("\n", 0, max(text.find(character), 0)) + 1
        return YamlProblem(
            f"line {line}", f"The character {character!r} is not allowed in YAML.", "Remove the character."
        )
    if isinstance(cause, UnicodeEncodeError):
        line = text.count("\n", 0, cause.start) + 1
        return YamlProblem(f"line {line}", "This is not text that UTF-8 can hold.", "Remove the character.")
    return YamlProblem("", f"This cannot be read as YAML: {cause}.", None)


def _is_at_variable(mark: Mark | None, text: str) -> bool:
    """Whether the parser stopped at the ``{`` of a ``${``, which inside brackets begins a mapping."""
    if mark is None:
        return False
    line = text.split("\n")[mark.line : mark.line + 1]
    return bool(line) and mark.column > 0 and line[0].startswith("${", mark.column - 1)


def _place(mark: Mark | None, text: str) -> str:
    if mark is None:
        return ""
    # At the end of a text that ends without a newline, libyaml names the line after the last.
    if mark.line > text.count("\n"):
        return f"line {mark.line}, column {len(text.rpartition(chr(10))[2]) + 1}"
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _story(cause: yaml.MarkedYAMLError) -> str:
    parts = [cause.context, cause.problem]
    if cause.context and cause.context_mark:
        parts[0] = f"{cause.context} that begins on line {cause.context_mark.line + 1}"
    return ", ".join(filter(None, parts))
