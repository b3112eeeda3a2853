"""The options of an entry of ``fsdp_plan``: from what YAML can hold to the arguments of ``fully_shard``."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from phasewire.adapters.errors import AdapterError, did_you_mean
from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.adapters.name_patterns import name_pattern

if TYPE_CHECKING:
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["ActivationCheckpointing", "PartOptions", "matched", "part_options"]

_CHECKPOINTING_MODES: Final = ("composable", "wrapped", "wrapped_offload")
_ALIASES: Final = ("act_ckpt", "cpu_offload_policy")
#: The dimension of the strategy's device mesh over which Lightning wants data-parallel shards.
_DATA_PARALLEL: Final = "data_parallel"


# Any, here and below: options are whatever YAML holds, and the arguments of torch's functions have many types.
@dataclass(frozen=True, slots=True)
class ActivationCheckpointing:
    """How a part keeps its activations from filling the memory."""

    mode: str
    """``composable``, ``wrapped`` or ``wrapped_offload``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of torch's function."""


@dataclass(frozen=True, slots=True)
class PartOptions:
    """What is done with one part of a module."""

    sharding: Mapping[str, Any]
    """Arguments of ``fully_shard``; those that need the module or the mesh are as they were given."""
    checkpointing: ActivationCheckpointing | None
    where: str
    """The setting that gave them, for messages."""

    def arguments(self, module: nn.Module, device_mesh: DeviceMesh) -> dict[str, Any]:
        """Give the arguments of ``fully_shard``.

        Args:
            module: The module whose parameters ``ignored_params`` names.
            device_mesh: The mesh of the strategy; its data-parallel dimension is used unless the options say another.

        Returns:
            Keyword arguments.

        Raises:
            AdapterError: The mesh has no such dimension, or the module no such parameter.
        """
        arguments = dict(self.sharding)
        whole_mesh = arguments.get("dp_mesh_dims") is not None
        arguments["mesh"] = _mesh(arguments.get("mesh"), device_mesh, self.where, whole=whole_mesh)
        if arguments.get("ignored_params") is not None:
            arguments["ignored_params"] = _parameters(arguments["ignored_params"], module, self.where)
        return arguments


def part_options(given: object, defaults: PartOptions | None, *, where: str) -> PartOptions:
    """Check the options of an entry, and complete them by the defaults.

    Args:
        given: What was given; ``None`` for no options.
        defaults: The options of ``fsdp_default_kwargs``.
        where: The setting that gave them, for messages.

    Returns:
        The options.

    Raises:
        AdapterError: One does not exist, or has a value that cannot be used.
    """
    if given is not None and not isinstance(given, Mapping):
        raise AdapterError(
            f"Options are expected as a mapping, and {given!r} is given.",
            where=where,
            remedy="Write the arguments of fully_shard by name, or {} for none.",
        )
    options = dict(given or {})
    known = [*_fully_shard_options(), *_ALIASES]
    for name in options:
        if name not in known:
            raise AdapterError(
                f"fully_shard takes no option named {name!r}. {did_you_mean(str(name), known)}".rstrip(),
                where=where,
                remedy=f"Its options are {', '.join(known)}.",
            )
    checkpointing = None if defaults is None else defaults.checkpointing
    if "act_ckpt" in options:
        checkpointing = _checkpointing(options.pop("act_ckpt"), f"{where}, act_ckpt")
    sharding = {name: _converted(name, value, f"{where}, {name}") for name, value in _unaliased(options, where).items()}
    return PartOptions({**({} if defaults is None else defaults.sharding), **sharding}, checkpointing, where)


def _fully_shard_options() -> list[str]:
    parameters = inspect.signature(fully_shard).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _unaliased(options: dict[str, Any], where: str) -> dict[str, Any]:
    if "cpu_offload_policy" not in options:
        return options
    if "offload_policy" in options:
        raise AdapterError(
            "cpu_offload_policy and offload_policy each choose a policy.", where=where, remedy="Give one of them."
        )
    policy = options.pop("cpu_offload_policy")
    return {**options, "offload_policy": {} if policy is True else policy}


def _converted(name: str, value: object, where: str) -> object:
    if name == "mp_policy":
        return _policy(value, MixedPrecisionPolicy, MixedPrecisionPolicy, where)
    if name == "offload_policy":
        return _policy(value, OffloadPolicy, CPUOffloadPolicy, where)
    if name == "dp_mesh_dims" and isinstance(value, Mapping):
        from torch.distributed.fsdp import DataParallelMeshDims  # newer than the oldest torch that is supported

        return _built(DataParallelMeshDims, value, where)
    if name == "reshard_after_forward" and not (value is None or isinstance(value, bool | int)):
        raise AdapterError(
            f"true, false or a number of processes is expected, and {value!r} is given.",
            where=where,
            remedy="Give one of them.",
        )
    if name == "shard_placement_fn" and isinstance(value, str):
        value = _imported(value, where)
    if name == "shard_placement_fn" and value is not None and not callable(value):
        raise AdapterError(
            f"A function of a parameter is expected, and {value!r} is given.",
            where=where,
            remedy="Give the function, or where it is, as 'module:function'.",
        )
    return value


def _policy(value: object, base: type, plain: type, where: str) -> object:
    """Build a policy: a mapping of its arguments, ``class_path`` with ``init_args``, or what is one already."""
    if value is None:
        return base()
    if isinstance(value, base):
        return value
    if not isinstance(value, Mapping):
        raise AdapterError(
            f"A {base.__name__} is expected, or its arguments as a mapping, and {value!r} is given.",
            where=where,
            remedy=f"Write the arguments of {plain.__name__} by name, or class_path and init_args.",
        )
    if "class_path" not in value:
        return _built(plain, value, where)
    for key in value:
        if key not in ("class_path", "init_args"):
            raise AdapterError(
                f"A class is given by class_path and init_args; there is no {key!r}. "
                f"{did_you_mean(str(key), ('class_path', 'init_args'))}".rstrip(),
                where=where,
                remedy="Put the arguments of the class under init_args.",
            )
    named = _imported(value["class_path"], where)
    if not (isinstance(named, type) and issubclass(named, base)):
        raise AdapterError(
            f"{value['class_path']!r} is no {base.__name__}.",
            where=where,
            remedy=f"Name {base.__module__.partition('._')[0]}.{plain.__name__}, or a subclass.",
        )
    return _built(named, value.get("init_args") or {}, where)


def _built(kind: type, arguments: Mapping[str, object], where: str) -> object:
    known = list(inspect.signature(kind).parameters)
    for name in arguments:
        if name not in known:
            raise AdapterError(
                f"{kind.__name__} takes no argument named {name!r}. {did_you_mean(str(name), known)}".rstrip(),
                where=where,
                remedy=f"Its arguments are {', '.join(known)}." if known else "It takes no arguments.",
            )
    converted = {
        name: _dtype(value, f"{where}, {name}") if name.endswith("_dtype") else value
        for name, value in arguments.items()
    }
    try:
        return kind(**converted)
    except (TypeError, ValueError) as error:
        raise AdapterError(
            f"{kind.__name__} cannot be built: {error}.", where=where, remedy="Check its arguments."
        ) from error


def _dtype(value: object, where: str) -> torch.dtype | None:
    if value is None or isinstance(value, torch.dtype):
        return value
    named = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else None
    if not isinstance(named, torch.dtype):
        names = sorted(name for name, item in vars(torch).items() if isinstance(item, torch.dtype))
        near = did_you_mean(value.removeprefix("torch."), names) if isinstance(value, str) else ""
        raise AdapterError(
            f"A type of torch is expected, and {value!r} is given. {near}".rstrip(),
            where=where,
            remedy="Write its name in torch, such as bfloat16.",
        )
    return named


def _checkpointing(given: object, where: str) -> ActivationCheckpointing | None:
    """Read ``mode``, ``[mode, options]`` or ``{mode, cfg}``."""
    if given is None:
        return None
    mode, options = given, None
    if isinstance(given, Mapping) and given.keys() <= {"mode", "cfg"}:
        mode, options = given.get("mode"), given.get("cfg")
    elif isinstance(given, Sequence) and not isinstance(given, str) and 0 < len(given) <= 2:  # noqa: PLR2004  # a pair
        mode, options = given[0], given[1] if len(given) > 1 else None
    if mode not in _CHECKPOINTING_MODES or not (options is None or isinstance(options, Mapping)):
        near = did_you_mean(mode, _CHECKPOINTING_MODES) if isinstance(mode, str) else ""
        raise AdapterError(
            f"A way of activation checkpointing is expected, and {given!r} is given. {near}".rstrip(),
            where=where,
            remedy=f"Write one of {', '.join(_CHECKPOINTING_MODES)}, or [it, {{options}}].",
        )
    checkpointing = ActivationCheckpointing(mode, dict(options or {}))
    _refuse_checkpointing_options(checkpointing, where)
    return checkpointing


def _refuse_checkpointing_options(checkpointing: ActivationCheckpointing, where: str) -> None:
    if checkpointing.mode == "wrapped_offload" and checkpointing.options:
        raise AdapterError(
            f"wrapped_offload takes no options, and {', '.join(map(repr, checkpointing.options))} is given.",
            where=where,
            remedy="Remove the options.",
        )
    impl = checkpointing.options.get("checkpoint_impl")
    if checkpointing.options.get("use_reentrant") or getattr(impl, "name", impl or "NO_REENTRANT") != "NO_REENTRANT":
        raise AdapterError(
            "Reentrant activation checkpointing gives no gradient to a part whose input needs none, as it is while "
            "everything below is frozen.",
            where=where,
            remedy="Leave use_reentrant and checkpoint_impl out.",
        )


def _mesh(given: object, device_mesh: DeviceMesh, where: str, *, whole: bool) -> object:
    if given is None and whole:
        return device_mesh
    names = _DATA_PARALLEL if given is None else given
    if not isinstance(names, str | Sequence):
        return names
    known = device_mesh.mesh_dim_names or ()
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in known:
            raise AdapterError(
                f"The device mesh has no dimension {name!r}. {did_you_mean(str(name), known)}".rstrip(),
                where=f"{where}, mesh",
                remedy=f"Its dimensions are {', '.join(known) or 'without names'}.",
            )
    return device_mesh[wanted if len(wanted) > 1 else wanted[0]]


def _parameters(given: str | Iterable[Any], module: nn.Module, where: str) -> set[nn.Parameter]:
    """Find the parameters that names or patterns take; those that are parameters already stay."""
    items: Iterable[Any] = [given] if isinstance(given, str) else given
    named = {unwrapped_name(name): parameter for name, parameter in module.named_parameters()}
    found: set[nn.Parameter] = set()
    for item in items:
        if not isinstance(item, str):
            found.add(item)
            continue
        taken = matched(item, named, what="parameter", where=f"{where}, ignored_params")
        found.update(named[name] for name in taken)
    return found


def matched(pattern: str, names: Collection[str], *, what: str, where: str) -> list[str]:
    """Find the names that a pattern takes.

    Args:
        pattern: A full name, which takes that one alone; or else a regular expression, matched from the start of every
            name, as those of a schedule are.
        names: The names to choose from.
        what: What is named, for messages.
        where: The setting that gave the pattern, for messages.

    Returns:
        The names, at least one, in their order.

    Raises:
        AdapterError: It is no regular expression, takes too long, or takes nothing.
    """
    if pattern in names:
        return [pattern]
    expression = name_pattern(pattern, error=AdapterError, where=lambda: where)
    taken = [name for name in names if expression.match(name)]
    if not taken:
        given = re.sub(r"[\\^$*+?()\[\]{}|]", "", pattern)
        near = did_you_mean(given, names) or f"There are {', '.join(repr(name) for name in list(names)[:3] if name)}."
        raise AdapterError(
            f"{pattern!r} matches no {what}. {near}",
            where=where,
            remedy="Give a full name, or a regular expression that matches from the start of a name.",
        )
    return taken


def _imported(path: object, where: str) -> object:
    try:
        path = str(path)
        return pkgutil.resolve_name(path if ":" in path else ":".join(path.rsplit(".", 1)))
    except (Exception, SystemExit) as error:
        raise AdapterError(
            f"{path!r} cannot be imported: {type(error).__name__}: {error}.",
            where=where,
            remedy="Write where it is, as 'module:name' or 'module.name'.",
        ) from error
