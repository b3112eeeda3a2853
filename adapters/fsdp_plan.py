"""Shards the parts of a module that a plan names, and finds the part that must hold the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import lightning.pytorch as pl
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from phasewire.adapters import rank_zero
from phasewire.adapters.errors import AdapterError
from phasewire.adapters.fsdp_options import ActivationCheckpointing, PartOptions, matched, part_options
from phasewire.adapters.lightning_seams import (
    checkpointing_in_place,
    checkpointing_wrapper,
    offloading_wrapper,
    unwrapped_name,
)
from phasewire.adapters.sharding import named_parts, sharded_parts

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["ShardingPlan"]

_PLAN: Final = "strategy_adapter_cfg, fsdp_plan"
_DEFAULTS: Final = "strategy_adapter_cfg, fsdp_default_kwargs"
_STEPS: Final = ("training_step", "validation_step", "test_step", "predict_step")


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    module: nn.Module
    options: PartOptions


class ShardingPlan:
    """Which parts of a module are sharded, and how.

    Args:
        plan: Name of a part, or a pattern, to the options of ``fully_shard`` for it.
        defaults: Options for every part that does not set them.

    Raises:
        AdapterError: An option does not exist, or has a value that cannot be used.
    """

    # Any: options are whatever YAML holds.
    def __init__(self, plan: Mapping[str, Mapping[str, Any] | None], defaults: Mapping[str, Any]) -> None:
        _require_names(plan)
        self._defaults = part_options(defaults, None, where=_DEFAULTS)
        self._entries = {
            key: part_options(options, self._defaults, where=f"{_PLAN}[{key!r}]") for key, options in plan.items()
        }

    @property
    def is_empty(self) -> bool:
        """Whether it names no part."""
        return not self._entries

    def apply(self, module: pl.LightningModule, device_mesh: DeviceMesh) -> None:
        """Shard the parts that the plan names, and the part that holds all parameters, if anything is sharded.

        What is sharded already is left as it is. Parts are sharded before those that hold them, in whatever order the
        plan names them; two entries that name one part are no conflict, the first one counts.

        Args:
            module: The module, after its own ``configure_model``.
            device_mesh: The mesh of the strategy.

        Raises:
            AdapterError: An entry names nothing, or what cannot be sharded.
        """
        parts = self._parts_of(module)
        done = [part.name for part in parts if isinstance(part.module, FSDPModule)]
        if done:
            rank_zero.debug(f"Left as they are, because they were sharded before fsdp_plan was applied: {done}.")
        parts = [part for part in parts if part.name not in done]
        _refuse_tied_across(module, [part.module for part in parts])
        for part in sorted(parts, key=_depth, reverse=True):
            self._shard(part, module, device_mesh)
        self._shard_root(module, device_mesh)

    def _parts_of(self, module: pl.LightningModule) -> list[_Part]:
        """Give the parts that are named, each once, by the first entry that names it."""
        named = named_parts(module)
        found: dict[str, _Part] = {}
        for key, options in self._entries.items():
            for name in _outermost(_shardable(key, named, options.where)):
                found.setdefault(name, _Part(name, named[name], options))
        return list(found.values())

    def _shard(self, part: _Part, module: pl.LightningModule, device_mesh: DeviceMesh) -> None:
        sharded, checkpointing = part.module, part.options.checkpointing
        if checkpointing is not None and part.name:
            sharded = _with_checkpointing(part, checkpointing, module)
        _fully_shard(sharded, part.options.arguments(module, device_mesh), part)
        if sharded is module:
            _let_steps_count_as_forward(module)

    def _shard_root(self, module: pl.LightningModule, device_mesh: DeviceMesh) -> None:
        """Shard the smallest part that holds all parameters.

        Parameters outside every sharded part would be averaged over the processes by nobody, and parts without one
        that holds them all would each stay whole after every forward pass that no backward pass follows.
        """
        root = _root_to_shard(module)
        if root is None:
            return
        part = _Part(*root, PartOptions(self._defaults.sharding, None, _DEFAULTS))
        _refuse_tied_across(module, [part.module])
        self._shard(part, module, device_mesh)
        rank_zero.debug(f"{part.name or 'The LightningModule'} is sharded too, because it holds what is sharded.")


def _require_names(plan: object) -> None:
    names = list(plan) if isinstance(plan, Mapping) else [plan]
    wrong = next((name for name in names if not isinstance(plan, Mapping) or not isinstance(name, str)), None)
    if wrong is not None:
        raise AdapterError(
            f"A mapping is expected, of names or patterns to options, and {wrong!r} is given.",
            where=_PLAN,
            remedy="Write names as text, each with the arguments of fully_shard, or {} for none.",
        )


def _depth(part: _Part) -> int:
    return part.name.count(".") + 1 if part.name else 0


def _shardable(key: str, named: Mapping[str, nn.Module], where: str) -> list[str]:
    names = matched(key, named, what="part of the module", where=where)
    taken = [name for name in names if not _is_mere_container(named[name])]
    if not taken:
        inner = f"{names[0]}.".replace(".", r"\.") + r"\d+" if isinstance(named[names[0]], nn.ModuleList) else None
        raise AdapterError(
            f"{names[0]!r} is a {type(named[names[0]]).__name__}, which is never called and so cannot be sharded.",
            where=where,
            remedy=f"Name what it holds, such as '{inner}'." if inner else "Name what it holds.",
        )
    return taken


def _is_mere_container(part: nn.Module) -> bool:
    return isinstance(part, nn.ModuleList | nn.ModuleDict) and type(part).forward is nn.Module.forward


def _outermost(names: Iterable[str]) -> list[str]:
    """Leave out what lies in another part that the same pattern takes: a pattern takes a prefix of every name below."""
    taken: dict[str, None] = {}
    for name in names:  # those that hold others come first
        path = name.split(".")
        if "" not in taken and not any(".".join(path[:length]) in taken for length in range(1, len(path))):
            taken[name] = None
    return list(taken)


def _with_checkpointing(part: _Part, checkpointing: ActivationCheckpointing, module: nn.Module) -> nn.Module:
    if checkpointing.mode == "composable":
        checkpointing_in_place(part.module, checkpointing.options)
        return part.module
    wrapper = (
        checkpointing_wrapper(part.module, checkpointing.options)
        if checkpointing.mode == "wrapped"
        else offloading_wrapper(part.module)
    )
    places = [name for name, found in module.named_modules(remove_duplicate=False) if found is part.module]
    for place in places:
        holder, _, attribute = place.rpartition(".")
        if "_checkpoint_wrapped_module" not in attribute:
            setattr(module.get_submodule(holder), attribute, wrapper)
    return wrapper


# Any: the arguments of fully_shard have many types.
def _fully_shard(part: nn.Module, arguments: Mapping[str, Any], described: _Part) -> None:
    try:
        fully_shard(part, **arguments)
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise AdapterError(
            f"{described.name or type(part).__name__} cannot be sharded: {error}",
            where=described.options.where,
            remedy="Change its options, or leave it out.",
        ) from error


def _let_steps_count_as_forward(module: pl.LightningModule) -> None:
    """Let FSDP see a module used whose steps cannot go through ``forward``, because it has none of its own."""
    if type(module).forward is not pl.LightningModule.forward:
        return
    for step in _STEPS:
        if getattr(type(module), step) is not getattr(pl.LightningModule, step):
            register_fsdp_forward_method(module, step)


def _root_to_shard(module: pl.LightningModule) -> tuple[str, nn.Module] | None:
    """Find the smallest part that holds all parameters, unless it is sharded, or nothing in it is."""
    sharded = {id(part) for part in sharded_parts(module)}
    if not sharded:
        return None
    name, part = "", cast("nn.Module", module)
    everything = {id(parameter) for parameter in module.parameters()}
    while id(part) not in sharded:
        inner = [
            (child_name, child)
            for child_name, child in part.named_children()
            if everything <= {id(parameter) for parameter in child.parameters()}
        ]
        if not inner or _is_mere_container(inner[0][1]):
            return name, part
        child_name, part = inner[0]
        name = unwrapped_name(f"{name}.{child_name}" if name else child_name)
    return None


def _refuse_tied_across(module: nn.Module, new: Sequence[nn.Module]) -> None:
    """Refuse parts that share a parameter with what is not in them: each would get a copy of its own."""
    units = {id(part) for part in (*sharded_parts(module), *new)}
    owners: dict[int, dict[str, str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), {}).setdefault(_unit_of(name, module, units), unwrapped_name(name))
    for names in owners.values():
        if len(names) > 1:
            first, second = list(names.values())[:2]
            raise AdapterError(
                f"{first!r} and {second!r} are one parameter, and the plan shards them with different parts.",
                where=_PLAN,
                remedy="Name a part that holds both, or neither of the two: what holds everything is sharded too.",
            )


def _unit_of(name: str, module: nn.Module, units: set[int]) -> str:
    """Name the innermost of the parts to shard that a parameter lies in."""
    part, unit, path = module, "", name.split(".")[:-1]
    for length, attribute in enumerate(path, 1):
        part = getattr(part, attribute)
        if id(part) in units:
            unit = ".".join(path[:length])
    return unit
