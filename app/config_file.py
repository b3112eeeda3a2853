"""YAML in, with every value's place remembered, and YAML out.

Configuration and schedules are both read here, so both refuse a key that is given twice, read ``1e-5`` as a number and
name file, line and column of what they refuse.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from phasewire.adapters.errors import ConfigError, PhasewireError, did_you_mean
from phasewire.app.collector import collector_paused
from phasewire.app.given_path import given_path
from phasewire.app.new_file import write_new_text
from phasewire.app.yaml_problems import explain
from phasewire.app.yaml_tree import (
    EscapingDumper,
    StrictDumper,
    StrictLoader,
    child_nodes,
    compose,
    construct,
    process_environment,
)

__all__ = [
    "Locate",
    "Position",
    "YamlDocument",
    "dump_yaml",
    "key_path",
    "load_yaml",
    "merge_settings",
    "parse_yaml",
    "write_new_text",
]

#: Describes the place of a value, given the keys and list indexes that lead to it, for the ``where`` of an error.
Locate = Callable[[Sequence[str | int]], str]

#: Settings that a later file replaces whole: keys of two schedules or of two option sets do not belong together.
_WHOLE_SETTINGS = frozenset({"ft_schedule", "custom_strategy_adapters"})


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text.

    Attributes:
        line: From 1.
        column: From 1, in characters.
    """

    line: int
    column: int


class YamlDocument:
    """What a YAML document says, and where it says it.

    Args:
        values: The document as plain Python.
        path: The file it came from.
        root: The node tree it was made from.
        error: The class to raise when the document is not what is needed.
    """

    __slots__ = ("_children", "_error", "_root", "path", "values")

    def __init__(self, values: object, path: Path | None, root: yaml.Node | None, error: type[PhasewireError]) -> None:
        self.values = values
        self.path = path
        self._root = root
        self._error = error
        # One mapping's places are listed when the first of them is asked for, so asking for all is linear too.
        self._children: dict[int, dict[Hashable, tuple[yaml.Node, yaml.Node]]] = {}

    def mapping(self) -> dict[object, object]:
        """Give the values of a document that must be a mapping.

        Returns:
            The mapping; an empty one for an empty document.

        Raises:
            PhasewireError: The document holds something else; the class is the one the document was loaded with.
        """
        if self.values is None:
            return {}
        if not isinstance(self.values, dict):
            raise self._error(
                f"A mapping (lines of the form 'key: value') is expected, and this is a {_yaml_kind(self.values)}.",
                where=self.where(()),
                remedy="Give each value a key.",
            )
        return self.values

    def position_of(self, keys: Sequence[str | int]) -> Position | None:
        """Find where a value is given.

        Args:
            keys: The keys and list indexes that lead to it, from the top.

        Returns:
            The place of its key, or of the value itself in a list; ``None`` when there is no such value.
        """
        node = self._node_at(keys)
        return None if node is None else _position(node)

    def where(self, keys: Sequence[str | int]) -> str:
        """Describe a place for an error.

        Args:
            keys: The keys and list indexes that lead to it. What is not in the document is placed at the nearest
                thing around it.

        Returns:
            Such as ``"config.yaml, line 12, scheduler.max_depth"``.
        """
        node = next((node for end in range(len(keys), -1, -1) if (node := self._node_at(keys[:end]))), None)
        parts = [
            str(self.path) if self.path else "",
            f"line {_position(node).line}" if node else "",
            key_path(keys),
        ]
        return ", ".join(filter(None, parts))

    def _node_at(self, keys: Sequence[str | int]) -> yaml.Node | None:
        marker = node = self._root
        for key in keys:
            if node is None:
                return None
            if id(node) not in self._children:
                self._children[id(node)] = child_nodes(node)
            marker, node = self._children[id(node)].get(key, (None, None))
        return marker


def key_path(keys: Sequence[str | int]) -> str:
    """Write keys and list indexes as one path.

    Args:
        keys: From the top.

    Returns:
        Such as ``"trainer.callbacks[0].class_path"``.
    """
    parts = (f"[{key}]" if isinstance(key, int) and at else f".{key}" for at, key in enumerate(keys))
    return "".join(parts).removeprefix(".")


def load_yaml(
    path: str | os.PathLike[str], *, error: type[PhasewireError] = ConfigError, resolve_env: bool = False
) -> YamlDocument:
    """Read a YAML file.

    Args:
        path: The file; a leading ``~`` is the home folder.
        error: The class to raise.
        resolve_env: As for :func:`parse_yaml`.

    Returns:
        The document.

    Raises:
        PhasewireError: The file is missing, cannot be read or is not UTF-8; or as :func:`parse_yaml` raises.
    """
    file = given_path(path, error=error)
    try:
        content = file.read_bytes()
    except OSError as cause:
        raise error(_unreadable(file, cause), where=str(file), remedy="Check the path.") from cause
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = content.count(b"\n", 0, cause.start) + 1
        raise error("This is not UTF-8 text.", where=f"{file}, line {line}", remedy="Save it as UTF-8.") from cause
    return parse_yaml(text, path=file, error=error, resolve_env=resolve_env)


def parse_yaml(
    text: str,
    *,
    path: Path | None = None,
    error: type[PhasewireError] = ConfigError,
    resolve_env: bool = False,
) -> YamlDocument:
    """Read YAML text: one document, safe types only, no key twice. Linear in the text.

    Args:
        text: The text.
        path: The file it came from, for messages.
        error: The class to raise.
        resolve_env: Replace ``${VAR}`` and ``${VAR:default}`` in scalar values by the environment variable. A value
            without quotes then gets its type from the replaced text (``${DEPTH:2}`` is a number), one in quotes stays
            text. Keys and comments are left alone; ``$${`` stands for the characters ``${``.

    Returns:
        The document.

    Raises:
        PhasewireError: The text does not parse (with line and column), has a key twice (with both lines), is nested
            more than 100 levels deep, or names an environment variable that is not set and gives no default.
    """
    try:
        with collector_paused():
            loader = StrictLoader(text)
            root = compose(loader, text, process_environment() if resolve_env else None)
            values = None if root is None else construct(loader, text, root)
    except (yaml.YAMLError, UnicodeEncodeError) as cause:
        problem = explain(cause, text, resolve_env=resolve_env)
        where = ", ".join(filter(None, [str(path or ""), problem.place]))
        raise error(problem.text, where=where or None, remedy=problem.remedy) from cause
    return YamlDocument(values, path, root, error)


def dump_yaml(values: object, *, escape_env: bool = False) -> str:
    """Write plain Python as YAML that :func:`parse_yaml` reads back to the same.

    Args:
        values: Mappings, lists, text, numbers, truth values and ``None``.
        escape_env: Write ``${`` in scalar values as ``$${``, for text that is read back with ``resolve_env=True``.

    Returns:
        The text, keys in the order given.
    """
    # The dumper is ours by class; what it may be given is PyYAML's own matter.
    with collector_paused():
        dumper = EscapingDumper if escape_env else StrictDumper
        return yaml.dump(values, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)


# Any: settings hold whatever YAML can.
def merge_settings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another, key by key. Neither is changed.

    ``ft_schedule``, ``custom_strategy_adapters`` and keys that end in ``_cfg`` are replaced whole, and so are lists; so
    is a ``{class_path, init_args}`` whose class is another one, since the arguments belong to the class.

    Args:
        base: The earlier configuration.
        over: The later one, which wins.

    Returns:
        The merged configuration.
    """
    merged = dict(base)
    for key, value in over.items():
        earlier = merged.get(key)
        merged[key] = value
        if isinstance(earlier, Mapping) and isinstance(value, Mapping) and not _is_whole(key):
            merged[key] = value if _is_other_class(earlier, value) else merge_settings(earlier, value)
    return merged


def _is_whole(key: object) -> bool:
    return key in _WHOLE_SETTINGS or (isinstance(key, str) and key.endswith("_cfg"))


# Any: as in merge_settings.
def _is_other_class(earlier: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "class_path" in value and value["class_path"] != earlier.get("class_path")


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _yaml_kind(value: object) -> str:
    return {list: "list", str: "text", bool: "truth value"}.get(type(value), type(value).__name__)


def _unreadable(file: Path, cause: OSError) -> str:
    if isinstance(cause, FileNotFoundError):
        beside = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        return f"There is no such file. {did_you_mean(file.name, beside)}".strip()
    if isinstance(cause, IsADirectoryError):
        return "This is a folder, and a YAML file is expected."
    return f"The file cannot be read: {cause.strerror or type(cause).__name__}."
