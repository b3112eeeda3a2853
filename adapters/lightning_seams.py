"""Every place where the adapters touch a private name of Lightning or torch, for lightning 2.6.6 and torch 2.13.0.

Each function says which private name it uses and why no public one serves. ``tests/adapters/test_lightning_seams.py``
and ``test_model_parallel_seams.py`` fail when one of them changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from lightning.fabric.strategies import fsdp as fabric_fsdp
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import FullyShardedDataParallel, wrap
from torch.distributed.fsdp import _common_utils as fsdp_names

if TYPE_CHECKING:
    from lightning.pytorch.strategies import FSDPStrategy, Strategy
    from torch import nn
    from torch.nn import Module, Parameter

__all__ = [
    "SHARDS_METADATA",
    "SHARD_INDEX",
    "SHARD_INDEX_CLASSES",
    "auto_wrapped",
    "checkpointing_in_place",
    "checkpointing_wrapper",
    "flat_parameters",
    "forget_post_backward_hooks",
    "name_before_wrapping",
    "nested",
    "offloading_wrapper",
    "saves_model_parallel_shards",
    "saves_shards",
    "uncompiled",
    "unwrapped_name",
    "wrapped_apart_for_precision",
]

#: The attributes under which wrappers keep what they wrap; they stand in the names of its parts and parameters:
#: ``_CHECKPOINT_WRAPPED_MODULE`` of ``torch.distributed.algorithms._checkpoint.checkpoint_wrapper``, the one of
#: ``torch._dynamo.OptimizedModule``, and ``FSDP_WRAPPED_MODULE`` of ``torch.distributed.fsdp._common_utils``.
_WRAPPERS: Final = frozenset({"_checkpoint_wrapped_module", "_orig_mod", "_fsdp_wrapped_module"})


def unwrapped_name(name: str) -> str:
    """Give the name that a part or a parameter has where nothing is wrapped.

    Args:
        name: A name of ``named_modules()`` or ``named_parameters()``.

    Returns:
        The name without what wrappers put in.
    """
    if not any(wrapper in name for wrapper in _WRAPPERS):  # most names, and a schedule asks for all of them often
        return name
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


# -- torch.compile -------------------------------------------------------------------------------------------------


def uncompiled(module: Module) -> Module:
    """Give the module that ``torch.compile`` wrapped, or a module that is not wrapped itself.

    Uses ``_orig_mod``, the name of the child under which ``torch._dynamo.OptimizedModule`` keeps it; no public name
    gives it.

    Args:
        module: The module.

    Returns:
        The module without the wrapper.
    """
    return dict(module.named_children()).get("_orig_mod", module)


# -- FSDP1 ---------------------------------------------------------------------------------------------------------

#: The file of a folder of shards that holds all but weights and optimizer state. Lightning's
#: ``lightning.fabric.strategies.fsdp._METADATA_FILENAME``: no public name tells it.
SHARDS_METADATA: Final[str] = fabric_fsdp._METADATA_FILENAME  # type: ignore[attr-defined]  # it is imported there


def saves_shards(strategy: FSDPStrategy) -> bool:
    """Tell whether a strategy saves folders of shards rather than single files.

    Uses ``FSDPStrategy._state_dict_type``: the option ``state_dict_type`` is kept nowhere else.

    Args:
        strategy: The running strategy.

    Returns:
        Whether it does.
    """
    return strategy._state_dict_type == "sharded"


def name_before_wrapping(name: str) -> str:
    """Give the name that a module or parameter has where nothing is wrapped by FSDP or activation checkpointing.

    Uses ``torch.distributed.fsdp._common_utils.clean_tensor_name``, which knows the attributes under which torch's
    wrappers keep what they wrap.

    Args:
        name: A name of ``named_parameters()`` or ``named_modules()``.

    Returns:
        The name without what the wrappers put in.
    """
    return fsdp_names.clean_tensor_name(f"{name}.")[:-1] if name else name


def flat_parameters(model: Module) -> Iterator[tuple[str, Parameter, list[str]]]:
    """Find the flat parameters of a wrapped module, and what each holds.

    Uses ``_handle`` of ``FullyShardedDataParallel`` and ``_fqns`` of its ``FlatParameter``: with
    ``use_orig_params=False`` nothing else tells which parameters were flattened together.

    Args:
        model: What the strategy wrapped, or a module of which parts are wrapped.

    Yields:
        The name of the part before wrapping, its flat parameter, and the names of the parameters in it, in its order.
    """
    for name, part in model.named_modules():
        handle = part._handle if isinstance(part, FullyShardedDataParallel) else None
        if handle is not None:
            unit = name_before_wrapping(name)
            inner = [name_before_wrapping(each) for each in handle.flat_param._fqns]
            yield unit, handle.flat_param, [f"{unit}.{each}" if unit else each for each in inner]


def forget_post_backward_hooks(model: Module) -> None:
    """Let every part register the hooks of its backward pass anew in the next forward pass.

    A part registers one hook if it is frozen and another if it trains, once, and keeps that until a backward pass
    reaches the FSDP root above it. The pass never reaches a frozen part that is its own root; if that is thawed later,
    it goes on with the hook of a frozen part, its gradient is not reduced, and torch stops with ``Invalid:
    _post_backward_hook_state``.

    Uses ``_post_backward_hook_state`` of ``FlatParameter``, where torch keeps the hook (``_runtime_utils.py``,
    ``_register_post_backward_reshard_only_hook`` and ``_finalize_params``): there is no public way to it.

    Args:
        model: What the strategy wrapped; no backward pass is under way.
    """
    for _, flat, _ in flat_parameters(model):
        if hasattr(flat, "_post_backward_hook_state"):
            flat._post_backward_hook_state[-1].remove()
            del flat._post_backward_hook_state


# Any: the options of FullyShardedDataParallel have many types.
def auto_wrapped(
    module: Module,
    policy: Callable[..., bool] | wrap.ModuleWrapPolicy | wrap.CustomPolicy,
    *,
    ignored_modules: Collection[Module],
    ignored_parameters: Collection[Parameter],
) -> dict[Module, dict[str, Any]]:
    """Tell which parts of a module an auto-wrap policy would wrap, without wrapping them.

    Uses ``_run_policy`` of torch's policy classes, and ``torch.distributed.fsdp.wrap._recursive_wrap`` for policies
    that are functions, with a wrapper that only notes what it gets: there is no public way to ask.

    Args:
        module: The module; it is left as it is.
        policy: The policy.
        ignored_modules: Parts that are not wrapped.
        ignored_parameters: Parameters that do not count.

    Returns:
        Each part that would be wrapped, to the options that the policy sets for it.
    """
    if isinstance(policy, wrap._Policy):
        chosen = policy._run_policy(module, set(ignored_modules), {})
        return {part: options for part, options in chosen.items() if part is not module}
    found: dict[Module, dict[str, Any]] = {}

    def note(part: Module, **_options: object) -> Module:
        found[part] = {}
        return part

    wrap._recursive_wrap(
        module,
        auto_wrap_policy=policy,
        wrapper_cls=note,
        ignored_modules=set(ignored_modules),
        ignored_params=set(ignored_parameters),
        only_wrap_children=True,
    )
    return found


def wrapped_apart_for_precision(strategy: FSDPStrategy) -> tuple[type[Module], ...]:
    """Tell which kinds of parts torch wraps by themselves under mixed precision, such as batch norm.

    Uses ``_module_classes_to_ignore`` of ``torch.distributed.fsdp.MixedPrecision``, which ``_auto_wrap`` reads.

    Args:
        strategy: The running strategy.

    Returns:
        The classes; none without mixed precision.
    """
    precision = strategy.mixed_precision_config
    return () if precision is None else tuple(precision._module_classes_to_ignore)


# -- ModelParallelStrategy ---------------------------------------------------------------------------------------------


# Any: the options are those of torch.utils.checkpoint.checkpoint.
def checkpointing_in_place(part: nn.Module, options: Mapping[str, Any]) -> None:
    """Let a part forget its activations and compute them again for its backward pass, without wrapping it.

    Uses ``torch.distributed._composable.checkpoint``: the only way that changes no name.

    Args:
        part: The part.
        options: Keyword arguments of ``torch.utils.checkpoint.checkpoint``.
    """
    from torch.distributed._composable.checkpoint_activation import checkpoint

    checkpoint(part, **options)


# Any: as above.
def checkpointing_wrapper(part: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """Wrap a part so that it forgets its activations and computes them again for its backward pass.

    Uses ``torch.distributed.algorithms._checkpoint.checkpoint_wrapper``, which has no public name; it keeps the names
    of a state dict as they are.

    Args:
        part: The part.
        options: Keyword arguments of ``checkpoint_wrapper``.

    Returns:
        The wrapper.
    """
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    return checkpoint_wrapper(part, **options)


def offloading_wrapper(part: nn.Module) -> nn.Module:
    """Wrap a part so that its activations wait for its backward pass in the memory of the CPU.

    Uses ``torch.distributed.algorithms._checkpoint.checkpoint_wrapper``, as :func:`checkpointing_wrapper` does.

    Args:
        part: The part.

    Returns:
        The wrapper.
    """
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import offload_wrapper

    return offload_wrapper(part)


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def nested(flat: dict[str, Any], paths: Mapping[str, tuple[str | int, ...]]) -> dict[str, Any]:
    """Give a state its dicts and lists back, which torch flattens when it saves shards.

    Uses ``torch.distributed.checkpoint._nested_dict.unflatten_state_dict``: it knows how torch flattened them.

    Args:
        flat: Values by the keys under which torch stored them.
        paths: Where each stood.

    Returns:
        The state.
    """
    from torch.distributed.checkpoint._nested_dict import unflatten_state_dict

    return unflatten_state_dict(flat, dict(paths))


def saves_model_parallel_shards(strategy: Strategy) -> bool:
    """Tell whether a strategy saves every process's shards to a folder, and not all weights to one file.

    Uses ``ModelParallelStrategy._save_distributed_checkpoint``, which has no public name.

    Args:
        strategy: The strategy of the running Trainer.

    Returns:
        Whether it does.
    """
    return isinstance(strategy, ModelParallelStrategy) and strategy._save_distributed_checkpoint


# -- torch's distributed checkpoints ---------------------------------------------------------------------------------

#: The file that tells which tensor is in which shard: ``torch.distributed.checkpoint.filesystem._metadata_fn``.
SHARD_INDEX: Final = ".metadata"

_INDEX: Final = "torch.distributed.checkpoint.metadata"
#: What torch pickles into it, beside the types of tensors: ``_StorageInfo``, ``_MEM_FORMAT_ENCODING`` and
#: ``torch.serialization._get_layout`` have no public names.
SHARD_INDEX_CLASSES: Final = frozenset(
    {
        (_INDEX, "BytesStorageMetadata"),
        (_INDEX, "ChunkStorageMetadata"),
        (_INDEX, "Metadata"),
        (_INDEX, "MetadataIndex"),
        (_INDEX, "StorageMeta"),
        (_INDEX, "TensorProperties"),
        (_INDEX, "TensorStorageMetadata"),
        (_INDEX, "_MEM_FORMAT_ENCODING"),
        ("pathlib", "PosixPath"),
        ("pathlib", "WindowsPath"),
        ("pathlib._local", "PosixPath"),
        ("pathlib._local", "WindowsPath"),
        ("torch", "Size"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
    }
)
