"""From YAML text to a checked node tree: libyaml, duplicate keys, depth, and ``${VAR:default}``.

The tree is what remembers where a value stood, so that an error found long after reading can name its line. Everything
here raises :class:`YamlFault` or another ``yaml.YAMLError``; :mod:`phasewire.app.config_file` makes errors for people
of them.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

import yaml

from phasewire.adapters.errors import did_you_mean

if TYPE_CHECKING:
    from yaml import SafeDumper as _Dumper
    from yaml import SafeLoader as _Loader
else:
    # A PyYAML built without libyaml has only the slow classes; they read and write the same.
    _Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

__all__ = [
    "EscapingDumper",
    "Mark",
    "StrictDumper",
    "StrictLoader",
    "YamlFault",
    "child_nodes",
    "compose",
    "construct",
    "process_environment",
]


class Mark(Protocol):
    """A place in a text, as both of PyYAML's parsers give it."""

    line: int
    """From 0."""
    column: int
    """From 0."""


#: Deeper nesting than this is refused. What is made of the nodes is built, copied and written with several calls for
#: each level, which Python's recursion limit ends at 1,000 in all, and libyaml recurses in C, where some tens of
#: thousands of levels would end the process instead of raising.
_MOST_NESTED_LEVELS = 100
_TOO_DEEP = "Write it with fewer levels: nothing that is read here has so many."
#: Aliases that repeat more values than this are refused: ten lines of them can stand for more than memory holds.
_MOST_REPEATED_VALUES = 1_000_000
#: Python writes whole numbers of some thousands of digits at most; a value of no more characters than this is none.
_LONG = 1000

_STR_TAG = "tag:yaml.org,2002:str"
_FLOAT_TAG = "tag:yaml.org,2002:float"
_MERGE_TAG = "tag:yaml.org,2002:merge"
_SEQ_TAG = "tag:yaml.org,2002:seq"
_MAP_TAG = "tag:yaml.org,2002:map"
_PLAIN_KEY_TAGS = frozenset({_STR_TAG, "tag:yaml.org,2002:int"})

#: Numbers with an exponent, which the YAML 1.1 that PyYAML speaks takes for text unless they have a dot and a sign.
_EXPONENT_FLOAT = re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$")

#: The beginning of a line, as YAML knows lines, with everything in it after which a collection can begin.
_LINE_START = re.compile(r"(?:\A|[\n\r\x85\u2028\u2029])[\ufeff\t \-?:]*")

_ENVIRONMENT_VARIABLE = re.compile(
    r"(?P<escape>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<default>[^}]*))?\})?"
)


class YamlFault(yaml.MarkedYAMLError):
    """Something in the text that YAML allows and Phasewire refuses.

    Args:
        problem: What is wrong, as whole sentences.
        mark: Where.
        remedy: What to do about it.
    """

    def __init__(self, problem: str, mark: Mark | None, remedy: str | None = None) -> None:
        super().__init__(problem=problem)
        self.mark = mark
        self.remedy = remedy


class StrictLoader(_Loader):
    """PyYAML's safe loader, which also reads ``1e-5`` as a number."""


class StrictDumper(_Dumper):
    """PyYAML's safe dumper, which quotes text that :class:`StrictLoader` would read as a number, and orders sets."""


class EscapingDumper(StrictDumper):
    """Writes ``${`` in scalar values as ``$${``, so that :func:`compose` gives the characters back."""

    def serialize(self, node: yaml.Node) -> None:
        """Write a document.

        Args:
            node: Its root.
        """
        for each in _distinct_nodes(node):
            _change_values(each, _escaped)
        super().serialize(node)


for _strict in (StrictLoader, StrictDumper):
    _strict.add_implicit_resolver(_FLOAT_TAG, _EXPONENT_FLOAT, list("-+.0123456789"))


def _placed(construct: Callable[[StrictLoader, yaml.ScalarNode], object]) -> Callable[..., object]:
    """Give a constructor's failure (``2024-13-45`` is no date) the place where the value stands."""

    def constructor(loader: StrictLoader, node: yaml.ScalarNode) -> object:
        try:
            value = construct(loader, node)
            if len(node.value) > _LONG:
                str(value)  # fails, as every message about it would, for a whole number of too many digits
        except (ValueError, LookupError, OverflowError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise YamlFault(
                f"{reprlib.repr(node.value)} cannot be read as a {kind}.",
                node.start_mark,
                "Put it in quotes if text is meant.",
            ) from error
        return value

    return constructor


def _in_order(dumper: StrictDumper, values: set[Hashable]) -> yaml.Node:
    # Python orders the texts of a set differently in each process, and one text is to be written for one value.
    return dumper.represent_mapping("tag:yaml.org,2002:set", dict.fromkeys(sorted(values, key=repr)))


StrictDumper.add_representer(set, _in_order)


for _kind in ("bool", "int", "float", "timestamp"):
    StrictLoader.add_constructor(
        f"tag:yaml.org,2002:{_kind}", _placed(getattr(yaml.constructor.SafeConstructor, f"construct_yaml_{_kind}"))
    )


def compose(loader: StrictLoader, text: str, environment: Mapping[str, str] | None) -> yaml.Node | None:
    """Build the node tree of one YAML document and check what the parser does not. Linear in the text.

    Args:
        loader: The loader that was made for the text.
        text: The text.
        environment: The variables that ``${VAR}`` in scalar values stands for; ``None`` leaves such text alone.

    Returns:
        The root of the tree, or ``None`` for an empty document.

    Raises:
        yaml.YAMLError: The text is not one YAML document, is nested too deeply, repeats too much by aliases, has a key
            twice, or names an environment variable that is not set and gives no default.
    """
    _refuse_depth(text)
    root = loader.get_single_node()
    if root is None:
        return None
    if "&" in text:
        _refuse_expansion(root)
    for node in _distinct_nodes(root):
        if isinstance(node, yaml.MappingNode):
            _refuse_duplicate_keys(loader, node)
        if environment is not None:
            _change_values(node, partial(_with_variables, loader=loader, environment=environment))
    return root


def construct(loader: StrictLoader, text: str, root: yaml.Node) -> object:
    """Make plain Python of a node tree. Linear in the tree.

    Args:
        loader: The loader that was made for the text.
        text: The text.
        root: What :func:`compose` gave for it.

    Returns:
        The values.

    Raises:
        yaml.YAMLError: A value cannot be read as the kind it is written as, or a tag or a key is not allowed.
    """
    # Without anchors every node stands in one place, and PyYAML's bookkeeping of aliases, half of its time, is for
    # nothing.
    return loader.construct_object(root, deep=True) if "&" in text else _constructed(loader, root)


def child_nodes(node: yaml.Node) -> dict[Hashable, tuple[yaml.Node, yaml.Node]]:
    """List what a mapping or sequence node holds.

    Args:
        node: A node of a tree from :func:`compose`.

    Returns:
        Key or index to (the node that marks the place, the value's node); empty for a scalar.
    """
    if isinstance(node, yaml.SequenceNode):
        return {index: (child, child) for index, child in enumerate(node.value)}
    if not isinstance(node, yaml.MappingNode):
        return {}
    # PyYAML puts what "<<" merges in before a mapping's own keys, so the last of equal keys is the one in force.
    constructor = yaml.constructor.SafeConstructor()
    return {
        _key_of(constructor, key): (key, value)
        for key, value in node.value
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE_TAG
    }


def _constructed(loader: StrictLoader, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.tag == _STR_TAG else loader.construct_object(node, deep=True)
    if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ_TAG:
        return [_constructed(loader, item) for item in node.value]
    is_mapping = isinstance(node, yaml.MappingNode) and node.tag == _MAP_TAG
    if is_mapping and all(key.tag in _PLAIN_KEY_TAGS for key, _ in node.value):
        return {_constructed(loader, key): _constructed(loader, value) for key, value in node.value}
    # Merges, sets, keys that are collections, and what is refused.
    return loader.construct_object(node, deep=True)


def _refuse_depth(text: str) -> None:
    # Parsing a second time takes a quarter of all reading, so only text that could be too deep is.
    if _deepest_possible(text) <= _MOST_NESTED_LEVELS:
        return
    depth = 0
    for event in yaml.parse(text, StrictLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MOST_NESTED_LEVELS:
                raise YamlFault(
                    f"Values are nested more than {_MOST_NESTED_LEVELS} levels deep.", event.start_mark, _TOO_DEEP
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _refuse_expansion(root: yaml.Node) -> None:
    """Refuse aliases by which a short text becomes values of too many levels, or too many values, when it is copied."""
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    pending = [(root, False)]
    while pending:
        node, is_measured = pending.pop()
        children = _children(node)
        if is_measured:
            # What is not measured yet contains this node, and is refused by whoever constructs it.
            sizes[id(node)] = 1 + sum(sizes.get(id(child), 0) for child in children)
            depths[id(node)] = bool(children) + max((depths.get(id(child), 0) for child in children), default=0)
            if depths[id(node)] > _MOST_NESTED_LEVELS:
                raise YamlFault(
                    f"By aliases, values are nested more than {_MOST_NESTED_LEVELS} levels deep.",
                    node.start_mark,
                    _TOO_DEEP,
                )
            if sizes[id(node)] - len(sizes) > _MOST_REPEATED_VALUES:
                raise YamlFault(
                    f"Aliases repeat more than {_MOST_REPEATED_VALUES:,} values.",
                    node.start_mark,
                    "Write out what is meant.",
                )
        elif id(node) not in sizes:
            sizes[id(node)] = 0
            pending.append((node, True))
            pending.extend((child, False) for child in children)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _deepest_possible(text: str) -> int:
    """Give what the depth of a text certainly does not exceed, from brackets and indentation alone.

    A bracket opens one level, and may make a pair within it another. Without brackets, what begins at a column holds
    only what begins further right, or one sequence at the same column; and only at the beginning of a line, after
    spaces and indicators, does anything begin.
    """
    brackets = text.count("[") + text.count("{")
    if brackets > _MOST_NESTED_LEVELS:
        return brackets
    indentation = max(len(found[0]) for found in _LINE_START.finditer(text))
    return 2 * (indentation + 1 + brackets)


def _distinct_nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Every node once, though aliases (and, in bad input, cycles) make it reachable more than once."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        pending.extend(_children(node))


def _refuse_duplicate_keys(loader: StrictLoader, node: yaml.MappingNode) -> None:
    first_given: dict[Hashable, yaml.Node] = {}
    for key_node, _ in node.value:
        # A key that is itself a collection is refused by the constructor, with its place.
        if not isinstance(key_node, yaml.ScalarNode):
            continue
        first = first_given.setdefault(_key_of(loader, key_node), key_node)
        if first is key_node:
            continue
        line, first_line = key_node.start_mark.line + 1, first.start_mark.line + 1
        same = "" if first.value == key_node.value else f" (the same key as {first.value!r})"
        places = f"on line {first_line} and on line {line}" if line != first_line else f"both times on line {line}"
        raise YamlFault(
            f"The key {key_node.value!r}{same} is given twice, {places}.",
            key_node.start_mark,
            "Keep one of them.",
        )


def _key_of(constructor: yaml.constructor.SafeConstructor, node: yaml.ScalarNode) -> Hashable:
    if node.tag in (_STR_TAG, _MERGE_TAG):
        return str(node.value)
    key = constructor.construct_object(node)
    if not isinstance(key, Hashable):
        raise YamlFault(
            f"{node.value!r} is tagged as a collection ({node.tag.rpartition(':')[2]}), and cannot be a key.",
            node.start_mark,
            "Write the key without the tag.",
        )
    return key


def _change_values(node: yaml.Node, change: Callable[[yaml.ScalarNode], yaml.ScalarNode]) -> None:
    """Put other nodes in the place of a collection's scalar values with ``${``.

    The nodes themselves stay as they are: by an alias, one may be a value in several places, and a key.
    """

    def changed(value: yaml.Node) -> yaml.Node:
        return change(value) if isinstance(value, yaml.ScalarNode) and "${" in value.value else value

    if isinstance(node, yaml.MappingNode):
        node.value = [(key, changed(value)) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        node.value = [changed(value) for value in node.value]


def _escaped(node: yaml.ScalarNode) -> yaml.ScalarNode:
    return yaml.ScalarNode(node.tag, node.value.replace("${", "$${"), node.start_mark, node.end_mark, node.style)


def _with_variables(node: yaml.ScalarNode, loader: StrictLoader, environment: Mapping[str, str]) -> yaml.ScalarNode:
    text = _ENVIRONMENT_VARIABLE.sub(partial(_value_for, node=node, environment=environment), node.value)
    tag = node.tag
    # What is written without quotes gets its type from the replaced text; quotes keep it text.
    if tag == _STR_TAG and not node.style:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # stubs
    return yaml.ScalarNode(tag, text, node.start_mark, node.end_mark, node.style)


def _value_for(found: re.Match[str], node: yaml.ScalarNode, environment: Mapping[str, str]) -> str:
    if found["escape"]:
        return "${"
    name, default = found["name"], found["default"]
    if name is None:
        raise YamlFault(
            f"{node.value!r} has a '${{' that is not followed by the name of an environment variable and '}}'.",
            node.start_mark,
            "Write ${NAME} or ${NAME:default}, or '$${' for the characters themselves.",
        )
    if name in environment:
        return environment[name]
    if default is not None:
        return str(default)
    problem = f"The environment variable {name!r} is not set, and no default is given."
    raise YamlFault(
        f"{problem} {did_you_mean(name, environment)}".strip(),
        node.start_mark,
        f"Set it, or write ${{{name}:default}}.",
    )


def process_environment() -> Mapping[str, str]:
    """The variables of this process, for :func:`compose`."""
    return os.environ
