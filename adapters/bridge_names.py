"""The names that the parameters of a ``TransformerBridge`` go by, found in the bridge itself.

A parameter behind a bridge has up to three names: the module's own (``named_parameters()``), that of TransformerLens
(``tl_named_parameters()``), and that of the Hugging Face model which the bridge wraps
(:mod:`phasewire.adapters.bridge_sources`). None of them is looked up by architecture. What a TransformerLens name is
made of is read off the computation that makes it: the bridge computes the tensor anew, by transposing, splitting into
heads, repeating what is shared among heads, and autograd knows the parameters that went into it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from phasewire.adapters.bridge_sources import INNER, HFSource, find_hf_sources, hf_tensors
from phasewire.adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch.autograd.graph import Node

    from phasewire.adapters.bridge_search import Bridge

__all__ = ["BridgeNames", "bridge_names", "joint_projections"]


@dataclass(frozen=True, slots=True)
class BridgeNames:
    """The names of the parameters of a module with a bridge in it.

    "Own" names are those of ``module.named_parameters()``, in the module that was given.
    """

    tl_to_own: Mapping[str, tuple[str, ...]]
    """TransformerLens name to the parameters that its tensor is made from, in the order of TransformerLens. One, but
    for a tensor that is put together. Names of nothing are in :attr:`made_up`."""
    own_to_tl: Mapping[str, str]
    """Its inverse: a parameter to the first name that is made from it alone."""
    made_up: frozenset[str]
    """TransformerLens names of zeros that stand for a weight or bias which the architecture does not have."""
    copies: frozenset[str]
    """TransformerLens names whose tensor repeats its parameter, as that of keys shared among query heads does."""
    second_tl: Mapping[str, str]
    """TransformerLens name of a parameter that has one already, to that: ``unembed.W_U`` where embeddings are tied."""
    second_own: Mapping[str, str]
    """Own name of a parameter that has one already, to the one of ``named_parameters()``."""
    joint: Mapping[str, tuple[str, ...]]
    """Joint projection to the split ones that the bridge computes with instead. The joint one never gets a gradient."""
    without_tl: tuple[str, ...]
    """Parameters that no TransformerLens name stands for alone, in registration order; joint ones are left out."""
    shown: Mapping[str, str]
    """Every parameter but the joint ones to its name in TransformerLens, or where it has none to the path of its
    component in the bridge (``blocks.0.attn.q_norm.weight``), or outside of the bridge to its own. Each name is one of
    a single parameter."""
    norms: Mapping[str, str]
    """Parameters of normalisation layers to the part they belong to: their block, such as ``"blocks.0"``; outside of
    all blocks ``"embed"`` before them and ``"unembed"`` after them."""
    blocks: Mapping[str, str]
    """Parameters within a block to that block, as in :attr:`norms`."""
    hf: Mapping[str, HFSource]
    """Own names, those of ``module.state_dict()`` and second ones too, to where the values are in the wrapped Hugging
    Face model. What is not of that model, such as a bias that the bridge added, is left out."""
    hf_names: Mapping[str, str]
    """The names of the Hugging Face model's ``state_dict()`` as they were before the bridge, in order, to the name that
    :attr:`hf` uses for the tensor: another one where tensors are tied."""
    hf_added: tuple[str, ...]
    """Names that the bridge added to that state dict: a bias of zeros for an output layer that has none."""


def bridge_names(module: nn.Module, bridge: Bridge) -> BridgeNames:
    """Find all names.

    The bridge computes every TransformerLens tensor once, which takes the memory of those that are copies. Gradients,
    ``requires_grad`` and the random state are as before when it returns.

    Args:
        module: The module whose names are the "own" ones: the ``LightningModule``.
        bridge: The bridge in it, which may be the module itself.

    Returns:
        The names.

    Raises:
        AdapterError: The bridge has no parameter in the module, is not in memory, or gives no TransformerLens names.
    """
    registered, second_own = _own_names(module)
    _require_usable(module, bridge, registered)
    made_from, copies = _made_from(bridge, registered)
    own_to_tl: dict[str, str] = {}
    second_tl: dict[str, str] = {}
    for name, owns in made_from.items():
        if len(owns) == 1 and own_to_tl.setdefault(owns[0], name) != name:
            second_tl[name] = own_to_tl[owns[0]]
    tensors, hf_added = hf_tensors(bridge.original_model)
    sources, parts = find_hf_sources(bridge.modules(), tensors)
    joint = _joint(parts, registered)
    blocks = _blocks(bridge, registered)
    without_tl = tuple(name for name in registered.values() if name not in own_to_tl and name not in joint)
    return BridgeNames(
        tl_to_own={name: owns for name, owns in made_from.items() if owns},
        own_to_tl=own_to_tl,
        made_up=frozenset(name for name, owns in made_from.items() if not owns),
        copies=copies,
        second_tl=second_tl,
        second_own=second_own,
        joint=joint,
        without_tl=without_tl,
        shown=_shown(registered, own_to_tl | _component_names(bridge, registered, without_tl), joint),
        norms=_norms(bridge, registered, blocks, own_to_tl),
        blocks=blocks,
        hf={name: sources[key] for name, key in _all_own(module) if key in sources},
        hf_names={name: sources[id(tensor)].name for name, tensor in tensors.items()},
        hf_added=hf_added,
    )


def joint_projections(module: nn.Module, bridge: Bridge) -> dict[str, tuple[str, ...]]:
    """Find the joint projections that the bridge has split, and computes without.

    Args:
        module: The module whose names are given.
        bridge: The bridge in it.

    Returns:
        As :attr:`BridgeNames.joint`; nothing for a bridge on the meta device.
    """
    registered, _ = _own_names(module)
    if any(parameter.is_meta for parameter in _parameters(bridge)):
        return {}
    tensors, _ = hf_tensors(bridge.original_model)
    _, parts = find_hf_sources(bridge.modules(), tensors)
    return _joint(parts, registered)


def _joint(parts: Mapping[int, list[int]], registered: Mapping[int, str]) -> dict[str, tuple[str, ...]]:
    return {
        registered[whole]: tuple(registered[part] for part in split if part in registered)
        for whole, split in parts.items()
        if whole in registered
    }


def _own_names(module: nn.Module) -> tuple[dict[int, str], dict[str, str]]:
    """Give the registered name by the parameter's identity, and second names to registered ones."""
    registered: dict[int, str] = {}
    second: dict[str, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = registered.setdefault(id(parameter), name)
        if first != name:
            second[name] = first
    return registered, second


def _all_own(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Give every name of the module, second ones too, with the identity of the tensor."""
    for name, parameter in module.named_parameters(remove_duplicate=False):
        yield name, id(parameter)
    for name, tensor in module.state_dict(keep_vars=True).items():
        yield name, id(tensor)


def _require_usable(module: nn.Module, bridge: Bridge, registered: Mapping[int, str]) -> None:
    parameters = list(_parameters(bridge))
    name = type(bridge).__name__
    if not any(id(parameter) in registered for parameter in parameters):
        raise AdapterError(
            f"The {name} shares no parameter with {type(module).__name__}.",
            remedy="Keep the bridge as an attribute of the module, as in self.model = bridge.",
        )
    on_meta = next((registered.get(id(p), "one") for p in parameters if p.is_meta), None)
    if on_meta is not None:
        raise AdapterError(
            f"The parameter {on_meta!r} is on the meta device, where TransformerLens cannot read its weights.",
            remedy="Build the bridge on a real device; `phasewire plan` does so with --on-cpu.",
        )


def _parameters(bridge: Bridge) -> Iterator[nn.Parameter]:
    """Give the parameters of every component; ``bridge.parameters()`` gives those of the Hugging Face model alone."""
    seen: set[int] = set()
    for component in bridge.modules():
        for parameter in nn.Module.parameters(component, recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter


def _made_from(bridge: Bridge, registered: Mapping[int, str]) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Give TransformerLens names with the parameters behind each, in registration order, and which are copies."""
    order = {name: at for at, name in enumerate(registered.values())}
    made_from: dict[str, tuple[str, ...]] = {}
    copies = set()
    try:
        with _all_thawed(bridge):
            for name, tensor in bridge.tl_named_parameters():
                leaves = {id(leaf): leaf for leaf in _leaves(tensor)}
                found = [registered[each] for each in leaves if each in registered]
                made_from[name] = tuple(sorted(found, key=order.__getitem__))
                if len(found) == 1 and tensor.numel() > next(iter(leaves.values())).numel():
                    copies.add(name)
    except (AttributeError, TypeError, ValueError) as error:
        raise AdapterError(
            f"The {type(bridge).__name__} gives no TransformerLens names: {error}",
            remedy="Leave use_tl_names out and write the schedule in the names of named_parameters().",
        ) from error
    return made_from, frozenset(copies)


@contextmanager
def _all_thawed(bridge: Bridge) -> Iterator[None]:
    """Let autograd note what is computed from the parameters; what was frozen is frozen again afterwards."""
    frozen = [p for p in _parameters(bridge) if not p.requires_grad and (p.is_floating_point() or p.is_complex())]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _leaves(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Give the tensors that one was computed from."""
    if tensor.grad_fn is None:
        yield tensor
        return
    seen: set[Node] = set()
    waiting: list[Node] = [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)  # only the nodes at which a gradient arrives have one
        if leaf is not None:
            yield leaf
        waiting.extend(before for before, _ in node.next_functions if before is not None)


def _component_names(bridge: Bridge, registered: Mapping[int, str], wanted: tuple[str, ...]) -> dict[str, str]:
    """Name parameters by the path to them that leads through the most components of the bridge."""
    paths: dict[str, list[str]] = {}
    # Not as a method: the bridge's own gives the paths in the Hugging Face model.
    for path, parameter in nn.Module.named_parameters(cast("nn.Module", bridge), remove_duplicate=False):
        own = registered.get(id(parameter))
        if own is not None:
            paths.setdefault(own, []).append(path)
    shortest = {own: min(paths[own], key=lambda path: path.split(".").count(INNER)) for own in wanted if own in paths}
    return {own: ".".join(step for step in path.split(".") if step != INNER) for own, path in shortest.items()}


def _shown(registered: Mapping[int, str], names: Mapping[str, str], joint: Mapping[str, object]) -> dict[str, str]:
    """Give every parameter but the joint ones the name it is shown by; one that is taken gives way to the own name."""
    taken: set[str] = set()
    shown: dict[str, str] = {}
    for own in registered.values():
        if own not in joint:
            shown[own] = names[own] if own in names and names[own] not in taken else own
            taken.add(shown[own])
    if len(taken) < len(shown):
        twice = next(name for name, count in Counter(shown.values()).items() if count > 1)
        raise AdapterError(
            f"The name {twice!r} is one of the module and one of TransformerLens, for different parameters.",
            remedy="Rename the attribute of the module.",
        )
    return shown


def _blocks(bridge: Bridge, registered: Mapping[int, str]) -> dict[str, str]:
    """Give the parameters within a member of one of the bridge's lists, and that member's name in the bridge."""
    found: dict[str, str] = {}
    for listed, container in cast("nn.Module", bridge).named_children():
        if not isinstance(container, nn.ModuleList):
            continue
        for at, block in enumerate(container):
            for parameter in nn.Module.parameters(block):
                name = registered.get(id(parameter))
                if name is not None:
                    found.setdefault(name, f"{listed}.{at}")
    return {name: found[name] for name in registered.values() if name in found}


def _norms(
    bridge: Bridge, registered: Mapping[int, str], blocks: Mapping[str, str], own_to_tl: Mapping[str, str]
) -> dict[str, str]:
    found = {
        id(parameter)
        for component in bridge.modules()
        if _is_norm(component)
        for parameter in nn.Module.parameters(component)
    }
    beside, placed = "embed", {}
    for parameter in nn.Module.parameters(cast("nn.Module", bridge)):
        own = registered.get(id(parameter))
        if own is None:
            continue
        if own in blocks:
            beside = "unembed"
        if id(parameter) in found:
            # The only norm outside of blocks that TransformerLens names is the final one; OPT registers it first.
            placed[own] = blocks.get(own, "unembed" if own in own_to_tl else beside)
    return placed


def _is_norm(component: nn.Module) -> bool:
    """Tell whether a module is a norm: the classes of torch, transformers and TransformerLens all say so.

    So does the name of some blocks, which hold more than vectors.
    """
    named = any("norm" in base.__name__.lower() for base in type(component).__mro__)
    return named and all(parameter.dim() <= 1 for parameter in nn.Module.parameters(component))
