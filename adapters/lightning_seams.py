"""Where adapters touch private names of Lightning or torch, for lightning 2.6.6 and torch 2.13.0.

Each function says which private name it uses and why no public one serves.
``tests/adapters/test_model_parallel_seams.py`` fails when one of them changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.strategies import ModelParallelStrategy

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy
    from torch import nn

__all__ = [
    "checkpointing_in_place",
    "checkpointing_wrapper",
    "nested",
    "offloading_wrapper",
    "saves_model_parallel_shards",
    "unwrapped_name",
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
