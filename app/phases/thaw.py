"""Freezing a module before its first phase, and what batch norm layers need besides.

A frozen batch norm layer still updates its running statistics in training mode, unless ``track_running_stats`` is off.
Lightning's ``BaseFinetuning.freeze`` turns it off; ``frozen_bn_track_running_stats`` decides whether we do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import nn

__all__ = [
    "BatchNorm",
    "freeze",
    "layers_to_thaw",
    "layers_with_running_stats",
    "named_layers_with_running_stats",
    "resume_running_stats",
]

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


def freeze(module: nn.Module, *, track_running_stats: bool) -> None:
    """Freeze every parameter of a module.

    Args:
        module: The module to freeze.
        track_running_stats: Let frozen batch norm layers go on updating their running statistics.
    """
    for parameter in module.parameters():
        parameter.requires_grad = False
    for layer in layers_with_running_stats(module):
        # A layer without parameters of its own is in no phase, so nothing would ever turn it on again.
        if layer.affine:
            layer.track_running_stats = track_running_stats


def layers_to_thaw(
    module: nn.Module, thawed: Iterable[str], *, name_of: Callable[[str], str] | None = None
) -> list[BatchNorm]:
    """Find the batch norm layers that own parameters and have running statistics.

    Args:
        module: The module whose layers are looked at.
        thawed: Names of parameters; those that the module does not have are passed over.
        name_of: Gives the name of a layer as it stands in those, from that of ``module.named_modules()``; without, the
            names are the module's own, and no other layers are looked at.

    Returns:
        The layers.
    """
    owners = {name.rpartition(".")[0] for name in thawed}
    if name_of is not None:
        return [layer for name, layer in named_layers_with_running_stats(module) if name_of(name) in owners]
    found = (_part(module, name) for name in owners)
    return [part for part in found if isinstance(part, BatchNorm) and part.running_mean is not None]


def resume_running_stats(layers: Iterable[BatchNorm]) -> None:
    """Let batch norm layers update their running statistics again.

    Args:
        layers: Those whose parameters are thawed.
    """
    for layer in layers:
        layer.track_running_stats = True


def _part(module: nn.Module, name: str) -> nn.Module | None:
    try:
        return module.get_submodule(name)
    except AttributeError:
        return None


def layers_with_running_stats(module: nn.Module) -> list[BatchNorm]:
    """Find the batch norm layers that have running statistics.

    Args:
        module: The module whose layers are looked at.

    Returns:
        The layers.
    """
    return [layer for _, layer in named_layers_with_running_stats(module)]


def named_layers_with_running_stats(module: nn.Module) -> Iterator[tuple[str, BatchNorm]]:
    """Find the batch norm layers that have running statistics, with their names.

    Args:
        module: The module whose layers are looked at.

    Yields:
        Name and layer.
    """
    for name, layer in module.named_modules():
        # A layer built with track_running_stats=False has no statistics to track.
        if isinstance(layer, BatchNorm) and layer.running_mean is not None:
            yield name, layer
