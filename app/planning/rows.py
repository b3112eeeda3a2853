"""The modules of a model in as many rows as a picture has room for.

A picture of phases and modules says most when each row is thawed by one phase. So the model is taken apart where phases
differ, the largest part first, until there are no more rows; members of a long list are then taken together in ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from phasewire.adapters.lightning_seams import unwrapped_name

if TYPE_CHECKING:
    from phasewire.app.planning.values import PlannedParameter

__all__ = ["ModuleRow", "module_rows"]


@dataclass(frozen=True)
class ModuleRow:
    """A module, or several members of one list."""

    label: str
    """Its path, such as ``model.layers.3`` or ``model.layers.4-7``."""
    elements: int
    """How many numbers it holds."""
    by_depth: Mapping[int | None, int]
    """Phase to the numbers in the module that it thaws; ``None`` to those that no phase does."""

    def share(self, first: int, last: int) -> float:
        """Tell which share of the module some phases thaw.

        Args:
            first: The first of them.
            last: The last of them.

        Returns:
            From 0 to 1.
        """
        found = sum(count for depth, count in self.by_depth.items() if depth is not None and first <= depth <= last)
        return found / self.elements if self.elements else 0.0


@dataclass
class _Node:
    path: str
    children: dict[str, _Node] = field(default_factory=dict)
    own: dict[int | None, int] = field(default_factory=dict)

    @cached_property
    def by_depth(self) -> dict[int | None, int]:
        total = dict(self.own)
        for child in self.children.values():
            for depth, count in child.by_depth.items():
                total[depth] = total.get(depth, 0) + count
        return total

    @cached_property
    def elements(self) -> int:
        return sum(self.by_depth.values())

    @property
    def is_mixed(self) -> bool:
        return len(self.by_depth) > 1

    @property
    def is_list(self) -> bool:
        return len(self.children) > 1 and all(name.isdecimal() for name in self.children)

    def parts(self) -> list[_Node]:
        """Give what it is made of, passing over steps of the path that lead to one module only."""
        return [_collapsed(child) for child in self.children.values()]


@dataclass(frozen=True)
class _Block:
    """Rows that are taken apart together: one module, or all members of a list."""

    nodes: tuple[_Node, ...]
    can_open: bool = True

    @property
    def weight(self) -> int:
        return sum(node.elements for node in self.nodes if node.is_mixed)


def module_rows(parameters: Sequence[PlannedParameter], most: int) -> list[ModuleRow]:
    """Divide a model into rows.

    Args:
        parameters: Its parameters in the order of registration.
        most: How many rows there may be.

    Returns:
        The rows, in that order.
    """
    blocks: list[_Block | list[ModuleRow]] = [_Block((_collapsed(_tree(parameters)),))]
    while True:
        openable = [
            (at, block)
            for at, block in enumerate(blocks)
            if isinstance(block, _Block) and block.can_open and block.weight
        ]
        if not openable:
            break
        at, block = max(openable, key=lambda each: each[1].weight)
        room = most - sum(_rows_in(each) for each in blocks) + _rows_in(block)
        blocks[at : at + 1] = _opened(block, room)
    return [row for block in blocks for row in (block if isinstance(block, list) else map(_row, block.nodes))]


def _opened(block: _Block, room: int) -> list[_Block | list[ModuleRow]]:
    parts = [node.parts() if node.is_mixed and node.children else [node] for node in block.nodes]
    if len(block.nodes) == 1 and block.nodes[0].is_list:
        if len(parts[0]) > room:
            ranges = _ranges(block.nodes[0].path, parts[0], room)
            return [ranges] if ranges else [_Block(block.nodes, can_open=False)]
        return [_Block(tuple(parts[0]))]
    if sum(map(len, parts)) > room or all(len(part) == 1 for part in parts):
        return [_Block(block.nodes, can_open=False)]
    return [_Block((node,)) for part in parts for node in part]


def _ranges(path: str, members: Sequence[_Node], room: int) -> list[ModuleRow]:
    if room < 2:  # noqa: PLR2004  # one range is the list itself
        return []
    size = -(-len(members) // room)
    runs = [members[start : start + size] for start in range(0, len(members), size)]
    return [_range_row(path, run) for run in runs]


def _range_row(path: str, run: Sequence[_Node]) -> ModuleRow:
    if len(run) == 1:
        return _row(run[0])
    start = len(path) + 1 if path else 0
    first, last = (node.path[start:].partition(".")[0] for node in (run[0], run[-1]))
    together = _Node(f"{path}.{first}-{last}".lstrip("."), {node.path: node for node in run})
    return _row(together)


def _rows_in(block: _Block | list[ModuleRow]) -> int:
    return len(block) if isinstance(block, list) else len(block.nodes)


def _row(node: _Node) -> ModuleRow:
    return ModuleRow(node.path or "all", node.elements, node.by_depth)


def _collapsed(node: _Node) -> _Node:
    while len(node.children) == 1 and not node.own:
        (node,) = node.children.values()
    return node


def _tree(parameters: Sequence[PlannedParameter]) -> _Node:
    root = _Node("")
    for name, elements, depth in parameters:
        node = root
        for path, step in _steps(unwrapped_name(name)):
            node = node.children.setdefault(step, _Node(path))
        node.own[depth] = node.own.get(depth, 0) + elements
    return root


def _steps(name: str) -> Iterator[tuple[str, str]]:
    """Give the steps to a parameter with their paths, its own name among them."""
    at = 0
    for step in name.split("."):
        at += len(step) + 1
        yield name[: at - 1], step
