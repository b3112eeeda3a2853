"""The block structure of a module: its head, its blocks from the top, and its embeddings.

Blocks are what a model repeats: the members of a ``ModuleList``, the most frequent kind of member of a ``Sequential``,
or attributes that are numbered, such as ``layer1`` to ``layer4``. A block has layers of its own: a row of plain
``Linear`` layers has no blocks. Where repetition is nested, the outermost counts, so a convolutional network comes in
stages. Where nothing is repeated, the only member of a ``ModuleList`` is a block, as in a model of one layer.

Everything else is placed by the order in which modules are registered, which is how models are commonly written:

* what follows the blocks is the head, with the final norm;
* what precedes them is the embeddings;
* what stands between two blocks of one stack, as a downsampling does, belongs to the block before it;
* between two stacks, as in an encoder-decoder, what is registered nearer to the stack before belongs to its last block,
  and what is registered nearer to the one after is embeddings.

A name that says what a part is comes before its place: words such as ``embed...``, ``head`` and ``classifier``, and
before all blocks also ``final`` and ``out``.
Without any block, each layer that has parameters is one, together with the norm that follows it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import accumulate, takewhile
from typing import Final

from torch import nn
from torch.nn.parameter import UninitializedParameter

__all__ = ["ModuleStructure", "Part", "find_structure"]

#: A stack with less than this share of the parameters of the largest one is a detail, such as the heads of many tasks.
_DETAIL: Final = 0.02
_HEAD_WORDS: Final = frozenset({"head", "heads", "classifier", "classifiers", "unembed"})
#: Some models register what follows the blocks before them, such as the final norm of OPT.
_FINAL_WORDS: Final = frozenset({"final", "out"})
#: The name of an attribute that is one of several: a stem and a number, perhaps with a letter as in ``inception4b``.
_NUMBERED: Final = re.compile(r"(.*?)\d+[a-z]?")


@dataclass(frozen=True, slots=True, eq=False)  # tensors have no truth value to compare with
class Part:
    """Parameters that are thawed together."""

    name: str
    """The path of the module that holds them; for head and embeddings, which may be several modules, that word."""
    parameters: tuple[nn.Parameter, ...]
    """The parameters, each once, in registration order."""


@dataclass(frozen=True, slots=True, eq=False)
class ModuleStructure:
    """The parts of a module. Every parameter stands in one of them."""

    head: Part
    """What follows the blocks; empty where nothing does."""
    blocks: tuple[Part, ...]
    """The blocks, from the top of the model to its bottom."""
    embeddings: Part
    """What precedes the blocks; empty where nothing does."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Head, blocks and embeddings, without those that are empty."""
        return tuple(part for part in (self.head, *self.blocks, self.embeddings) if part.parameters)


def find_structure(module: nn.Module) -> ModuleStructure:
    """Find the head, the blocks and the embeddings of a module. Linear in the number of modules and parameters.

    A parameter that several modules share belongs to the one that is registered first. So the head of a language model
    that shares its weight with the embeddings adds nothing to the head.

    Args:
        module: The module; nothing in it is changed.

    Returns:
        The parts; see the description of this Python module for where they begin and end.
    """
    tree = _Tree(module)
    stacks = _main_stacks(list(_stacks(tree.root)) or list(_stacks(tree.root, in_list=1)), tree)
    return _around_blocks(stacks, tree) if stacks else _layer_by_layer(tree)


_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A module with parameters, and where in registration order those at or below it stand."""

    path: _Path
    module: nn.Module
    start: int
    end: int
    children: tuple[_Node, ...]


_Stack = tuple[_Node, ...]


class _Tree:
    """A module's parameters in registration order, each where it is registered first."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters: list[nn.Parameter] = []
        self.paths: list[_Path] = []
        self.owners: list[nn.Module] = []
        self._seen: set[int] = set()
        self.root = self._node(module, ())
        self._elements_before = [0, *accumulate(map(_elements, self.parameters))]

    def elements(self, stack: _Stack) -> int:
        """Count the elements of all parameters of a stack."""
        return sum(self._elements_before[node.end] - self._elements_before[node.start] for node in stack)

    def _node(self, module: nn.Module, path: _Path) -> _Node:
        self._seen.add(id(module))
        start = len(self.parameters)
        # Not as a method: a module may override it to give other names, or parameters of others.
        for name, parameter in nn.Module.named_parameters(module, recurse=False):
            if id(parameter) not in self._seen:
                self._seen.add(id(parameter))
                self.parameters.append(parameter)
                self.paths.append((*path, name))
                self.owners.append(module)
        children = []
        for name, child in module.named_children():
            if id(child) not in self._seen:
                children.append(self._node(child, (*path, name)))
        with_parameters = tuple(child for child in children if child.end > child.start)
        return _Node(path, module, start, len(self.parameters), with_parameters)


def _elements(parameter: nn.Parameter) -> int:
    return 0 if isinstance(parameter, UninitializedParameter) else parameter.numel()


def _stacks(node: _Node, in_list: int = 2) -> Iterator[_Stack]:
    """Find the outermost stacks at or below a module; a ``ModuleList`` is one from so many blocks on."""
    stacks = list(_stacks_of_children(node, in_list))
    yield from stacks
    members = {id(member) for stack in stacks for member in stack}
    for child in node.children:
        if id(child) not in members:
            yield from _stacks(child, in_list)


def _stacks_of_children(node: _Node, in_list: int) -> Iterator[_Stack]:
    candidates = [child for child in node.children if child.children]
    if isinstance(node.module, nn.ModuleList):
        # The layers of a hybrid model are of several classes.
        if len(_alike(candidates)) >= in_list:
            yield node.children
    elif isinstance(node.module, nn.Sequential):
        if len(alike := _alike(candidates)) > 1:
            yield alike
    else:
        by_stem: dict[str, list[_Node]] = {}
        for child in candidates:
            if numbered := _NUMBERED.fullmatch(child.path[-1]):
                by_stem.setdefault(numbered[1], []).append(child)
        yield from (tuple(siblings) for siblings in by_stem.values() if len(_alike(siblings)) > 1)


def _alike(siblings: Sequence[_Node]) -> _Stack:
    """Give those of the class that is most frequent among siblings."""
    if not siblings:
        return ()
    [(most_frequent, _)] = Counter(type(node.module) for node in siblings).most_common(1)
    return tuple(node for node in siblings if type(node.module) is most_frequent)


def _main_stacks(stacks: list[_Stack], tree: _Tree) -> list[_Stack]:
    """Leave out stacks of heads, and those that are a detail of the model."""
    main = [stack for stack in stacks if not _says_head(stack[0].path)] or stacks
    least = _DETAIL * max(map(tree.elements, main), default=0)
    return [stack for stack in main if tree.elements(stack) >= least]


def _around_blocks(stacks: list[_Stack], tree: _Tree) -> ModuleStructure:
    """Give every parameter that stands in no block to the head, to a block, or to the embeddings."""
    stack_of = {id(node): number for number, stack in enumerate(stacks) for node in stack}
    blocks = sorted((node for stack in stacks for node in stack), key=lambda node: node.start)
    starts = [node.start for node in blocks]
    head: list[nn.Parameter] = []
    embeddings: list[nn.Parameter] = []
    in_block: list[list[nn.Parameter]] = [[] for _ in blocks]
    for index, parameter in enumerate(tree.parameters):
        below = bisect_right(starts, index) - 1
        before = blocks[below] if below >= 0 else None
        after = blocks[below + 1] if below + 1 < len(blocks) else None
        within_stack = before and after and stack_of[id(before)] == stack_of[id(after)]
        if before and (index < before.end or within_stack):
            in_block[below].append(parameter)
            continue
        side = _side(tree.paths[index], before, after)
        (in_block[below] if side is _Side.BLOCK_BEFORE else head if side is _Side.HEAD else embeddings).append(
            parameter
        )
    return ModuleStructure(
        head=Part("head", tuple(head)),
        blocks=tuple(
            Part(".".join(node.path), tuple(parameters))
            for node, parameters in zip(reversed(blocks), reversed(in_block), strict=True)
        ),
        embeddings=Part("embeddings", tuple(embeddings)),
    )


class _Side(Enum):
    """Where a parameter that stands in no block belongs."""

    HEAD = auto()
    BLOCK_BEFORE = auto()
    EMBEDDINGS = auto()


def _side(path: _Path, before: _Node | None, after: _Node | None) -> _Side:
    shared_before = _shared(path, before.path) if before else 0
    shared_after = _shared(path, after.path) if after else 0
    own = path[max(shared_before, shared_after) :]
    if _says_head(own):
        return _Side.HEAD
    if _says_embeddings(own):
        return _Side.EMBEDDINGS
    if before is None:
        return _Side.HEAD if _FINAL_WORDS.intersection(_words(own[0])) else _Side.EMBEDDINGS
    if after is None:
        return _Side.HEAD
    return _Side.BLOCK_BEFORE if shared_before >= shared_after else _Side.EMBEDDINGS


def _shared(path: _Path, other: _Path) -> int:
    """Count the modules, from the root on, that two paths have in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path, other, strict=False)))


def _says_head(path: _Path) -> bool:
    return any(word in _HEAD_WORDS for name in path for word in _words(name))


def _says_embeddings(path: _Path) -> bool:
    return any(word.startswith("embed") for name in path for word in _words(name))


def _words(name: str) -> list[str]:
    return name.lower().split("_")


def _layer_by_layer(tree: _Tree) -> ModuleStructure:
    """Make each module that holds parameters itself a block, and a norm part of the block before it."""
    layers: list[tuple[_Path, list[nn.Parameter]]] = []
    owner: nn.Module | None = None
    for parameter, path, module in zip(tree.parameters, tree.paths, tree.owners, strict=True):
        if module is not owner and not (layers and "norm" in type(module).__name__.lower()):
            layers.append((path[:-1], []))
        owner = module
        layers[-1][1].append(parameter)
    blocks = tuple(Part(".".join(path), tuple(parameters)) for path, parameters in reversed(layers))
    return ModuleStructure(Part("head", ()), blocks, Part("embeddings", ()))
