"""Finds phases that torch could not train, because sharded and plain parameters come together in one operation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import GradClipAlgorithmType, rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.distributed.tensor import DTensor

from phasewire.adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.nn import Parameter

    from phasewire.adapters.base import StrategyAdapter

__all__ = ["require_trainable_phases"]

_MOST_NAMES = 3
_PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class _Group:
    """A parameter group as it will be when a phase has begun."""

    phase: int
    number: int
    parameters: Mapping[str, Parameter]


def require_trainable_phases(adapter: StrategyAdapter, device_mesh: DeviceMesh) -> None:
    """Look at every phase that will be trained, before the first one is.

    Args:
        adapter: The connected adapter; the optimizer exists.
        device_mesh: The mesh of the strategy.

    Raises:
        AdapterError: An optimizer or the clipping of gradients would fail on sharded and plain parameters.
    """
    if not adapter.trainer.optimizers:
        return  # which the scheduler reports
    groups = list(_groups(adapter))
    begun = {depth: list(each) for depth, each in groupby(groups, lambda group: group.phase)}
    optimizer = type(adapter.trainer.optimizers[0]).__name__, _all_at_once(adapter.trainer.optimizers[0].defaults)
    present: list[_Group] = []
    kinds: dict[str, list[str]] = {}
    for depth in range(adapter.fts_handle.max_depth + 1):
        present += begun.get(depth, ())
        new = _new_optimizer(adapter, depth)
        optimizer = new or optimizer
        # Each group once, unless another optimizer takes it over: there may be as many phases as parameters.
        for group in present if new else begun.get(depth, ()):
            _require_one_kind(group, *optimizer, depth)
        known = len(kinds)
        for group in begun.get(depth, ()):
            for kind, names in _by_kind(group.parameters).items():
                kinds.setdefault(kind, []).extend(names)
        if len(kinds) > known:
            _require_clippable(adapter, kinds, depth)
    _warn_of_unsynchronised(groups, device_mesh)


def _groups(adapter: StrategyAdapter) -> Iterator[_Group]:
    """Predict the groups: those the module configured where they hold phase 0, or else one or two for a phase."""
    module, handle = adapter.pl_module, adapter.fts_handle
    named = dict(module.named_parameters())
    no_decay = getattr(module, "no_decay", None) or ()
    number = 0
    for depth in range(handle.max_depth + 1):
        names = [name for name in adapter.fts_optim_inspect(list(handle.ft_schedule[depth]["params"])) if name in named]
        members = {
            shown: named[name] for name, shown in zip(names, adapter.logical_param_translation(names), strict=True)
        }
        for parameters in _configured_groups(adapter, members) if depth == 0 else _split(members, no_decay):
            yield _Group(depth, number, parameters)
            number += 1


def _configured_groups(adapter: StrategyAdapter, phase_zero: Mapping[str, Parameter]) -> list[dict[str, Parameter]]:
    shown = {id(parameter): name for name, parameter in phase_zero.items()}
    held = [group["params"] for group in adapter.trainer.optimizers[0].param_groups]
    if {id(parameter) for parameters in held for parameter in parameters} != shown.keys():
        return _split(phase_zero, getattr(adapter.pl_module, "no_decay", None) or ())
    return [{shown[id(parameter)]: parameter for parameter in parameters} for parameters in held]


def _split(members: Mapping[str, Parameter], no_decay: Iterable[str]) -> list[dict[str, Parameter]]:
    if not no_decay:
        return [dict(members)]
    exempt = {name: p for name, p in members.items() if any(part in name for part in no_decay)}
    return [{name: p for name, p in members.items() if name not in exempt}, exempt]


def _new_optimizer(adapter: StrategyAdapter, depth: int) -> tuple[str, str | None] | None:
    """Tell which optimizer a phase starts with, if it does, and which of its options takes all parameters at once."""
    new = adapter.fts_handle.ft_schedule[depth].get("new_optimizer")
    if not new:
        return None
    described = new["optimizer_init"]
    return described["class_path"].rpartition(".")[2], _all_at_once(described.get("init_args") or {})


def _all_at_once(options: Mapping[str, object]) -> str | None:
    return next((option for option in ("foreach", "fused") if options.get(option)), None)


def _require_one_kind(group: _Group, optimizer: str, option: str | None, depth: int) -> None:
    kinds = _by_kind(group.parameters) if option else {}
    plain = kinds.pop(_PLAIN, [])
    if plain and kinds:
        sharded = [name for names in kinds.values() for name in names]
        raise AdapterError(
            f"{optimizer}({option}=True) takes the parameters of a group all at once, and torch cannot where some "
            f"are sharded and others are not. Group {group.number} has sharded {_listed(sharded)} and plain "
            f"{_listed(plain)}, from phase {group.phase}.",
            where=f"phase {depth}",
            remedy=f"Leave {option} out or set it to False, shard the plain ones too (fsdp_plan, or "
            "parallelize_module in configure_model), or put them into different phases.",
        )


def _require_clippable(adapter: StrategyAdapter, kinds: Mapping[str, list[str]], depth: int) -> None:
    trainer, module = adapter.trainer, adapter.pl_module
    if not trainer.gradient_clip_val or is_overridden("configure_gradient_clipping", module):
        return
    by_value = trainer.gradient_clip_algorithm == GradClipAlgorithmType.VALUE
    if len(kinds) < 2 or (by_value and _PLAIN not in kinds):  # noqa: PLR2004  # two kinds
        return
    shown = "; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds.items())
    raise AdapterError(
        f"gradient_clip_val={trainer.gradient_clip_val} clips all gradients at once, and torch cannot where "
        f"they lie on different meshes. {shown[0].upper()}{shown[1:]}.",
        where=f"phase {depth}",
        remedy="Shard all of them over the same mesh, or override configure_gradient_clipping in the module and clip "
        "each kind.",
    )


def _by_kind(parameters: Mapping[str, Parameter]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for name, parameter in parameters.items():
        kinds.setdefault(_kind(parameter), []).append(name)
    return kinds


def _kind(parameter: Parameter) -> str:
    if not isinstance(parameter, DTensor):
        return _PLAIN
    mesh = parameter.device_mesh
    return f"sharded over {' x '.join(mesh.mesh_dim_names or map(str, mesh.shape))}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(map(repr, names[:_MOST_NAMES])) + more


def _warn_of_unsynchronised(groups: list[_Group], device_mesh: DeviceMesh) -> None:
    """Warn of parameters that every process would train for itself."""
    dimensions = device_mesh.mesh_dim_names or ()
    if "data_parallel" not in dimensions or device_mesh["data_parallel"].size() == 1:
        return
    replicas = set(device_mesh["data_parallel"].mesh.flatten().tolist())
    alone = [
        name
        for group in groups
        for name, parameter in group.parameters.items()
        if not (isinstance(parameter, DTensor) and replicas <= set(parameter.device_mesh.mesh.flatten().tolist()))
    ]
    if alone:
        rank_zero_warn(
            f"{_listed(alone)} will be trained and are not sharded over the data-parallel processes, so nothing "
            "averages their gradients, and every process trains a copy of its own. Shard them by fsdp_plan, or in "
            "configure_model."
        )
