"""What is sharded in a module, and the parameters by which it goes on being trained (FSDP2 and tensor parallel)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from phasewire.adapters.lightning_seams import unwrapped_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["class_name", "named_parts", "reshard", "sharded_parts"]


def reshard(module: nn.Module) -> None:
    """Let every part that ``fully_shard`` shards show its sharded parameters, which are what the optimizer holds.

    A forward pass without a backward pass, as in validation or of a frozen part, leaves a part whole. What is thawed or
    given to an optimizer then is a copy that the next forward pass throws away: it would silently not be trained.

    Args:
        module: The module; nothing happens where nothing is sharded so.
    """
    for part in sharded_parts(module):
        part.reshard()


# Any: FSDPModule is a class that fully_shard mixes into the part's own, so a type checker knows only one of them.
def sharded_parts(module: nn.Module) -> Iterator[Any]:
    """Give the parts of a module, itself among them, that ``fully_shard`` shards.

    Args:
        module: The module.

    Yields:
        The parts, those that hold others first.
    """
    from torch.distributed.fsdp import FSDPModule

    yield from (part for part in module.modules() if isinstance(part, FSDPModule))


def class_name(module: nn.Module) -> str:
    """Name the class of a module as its author did: ``fully_shard`` gives it one that is called ``FSDP...``.

    Args:
        module: The module.

    Returns:
        The name of the class that was sharded, or of the module's own.
    """
    from torch.distributed.fsdp import FSDPModule

    kind = type(module)
    if FSDPModule in kind.__bases__:
        (kind,) = (base for base in kind.__bases__ if base is not FSDPModule)
    return kind.__name__


def named_parts(module: nn.Module) -> dict[str, nn.Module]:
    """Name the parts of a module as they are called where nothing is wrapped; of a wrapped one, give the wrapper.

    Args:
        module: The module; it has the empty name.

    Returns:
        Name to part, those that hold others first.
    """
    parts: dict[str, nn.Module] = {}
    for name, part in module.named_modules():
        parts.setdefault(unwrapped_name(name), part)
    return parts
