"""Where the parameters of a ``TransformerBridge`` are in the Hugging Face model that it wraps.

A bridge puts its components in place of the model's modules, and keeps the modules, and with them the parameter
objects, inside the components. Where the model has one joint projection, for queries, keys and values or for gate and
up, the component has a function that splits it, and computes with the parts. What such a function does is seen by
letting it split numbers that say where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

__all__ = ["INNER", "HFSource", "find_hf_sources", "hf_tensors"]

#: The attribute of a bridge's component that holds the module it took the place of; part of every name behind a bridge.
INNER: Final = "_original_component"


@dataclass(frozen=True, slots=True)
class HFSource:
    """Where the values of a parameter are in the wrapped model's state dict."""

    name: str
    """The tensor's name there."""
    dim: int | None = None
    """The dimension of that tensor along which a part is taken; ``None`` takes the whole."""
    indices: Sequence[int] = ()
    """What is taken along it, in this order: a ``range`` where it is in one piece."""
    transposed: bool = False
    """Whether the parameter is the transpose of what is taken."""

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """Take the parameter's values out of the model's tensor.

        Args:
            tensor: The tensor called :attr:`name`.

        Returns:
            The values; a view where possible.
        """
        part = tensor if self.dim is None else _taken(tensor, self.dim, self.indices)
        return part.T if self.transposed else part

    def put(self, values: torch.Tensor, tensor: torch.Tensor) -> None:
        """Write the parameter's values into the model's tensor: the inverse of :meth:`take`.

        Args:
            values: The parameter's values.
            tensor: The tensor called :attr:`name`.
        """
        part = values.T if self.transposed else values
        with torch.no_grad():
            if self.dim is None:
                tensor.copy_(part)
            elif isinstance(self.indices, range):
                _taken(tensor, self.dim, self.indices).copy_(part)
            else:
                tensor.index_copy_(self.dim, torch.tensor(self.indices, device=tensor.device), part.to(tensor.dtype))


def hf_tensors(model: nn.Module) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Give the state dict of a wrapped model under the names it had before the bridge, tied ones included.

    Args:
        model: The bridge's ``original_model``.

    Returns:
        Name to the very tensor, a parameter or buffer; and the names that were not there before the bridge.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    components = {name for name, module in modules.items() if _inner(module) is not None}
    found: dict[str, torch.Tensor] = {}
    added = []
    for key, tensor in nn.Module.state_dict(model, keep_vars=True).items():
        steps = key.split(".")
        # What a component has beside the module it took the place of is none of the model's.
        if any(".".join(steps[:at]) in components and steps[at] != INNER for at in range(1, len(steps))):
            continue
        name = ".".join(step for step in steps if step != INNER)
        owner = modules[".".join(steps[:-1])]
        # The bridge gives an output layer without a bias one of zeros, as a buffer: in no Linear is it one otherwise.
        if isinstance(owner, nn.Linear) and not isinstance(tensor, nn.Parameter) and steps[-1] == "bias":
            added.append(name)
        else:
            found[name] = tensor
    return found, tuple(added)


def find_hf_sources(
    components: Iterable[nn.Module], tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[int, HFSource], dict[int, list[int]]]:
    """Find where parameters and buffers are in the wrapped model.

    Args:
        components: The bridge and all it consists of.
        tensors: The tensors of the model, by name; of tied ones the first name counts.

    Returns:
        By identity: tensor to source; and each joint projection to the parts it was split into.
    """
    in_model: dict[int, str] = {}
    for name, tensor in tensors.items():
        in_model.setdefault(id(tensor), name)
    sources = {key: HFSource(name) for key, name in in_model.items()}
    joint: dict[int, list[int]] = {}
    for component in components:
        for part, whole, where in _split_by(component, in_model):
            if where is not None and id(whole) in in_model:
                dim, indices, transposed = where
                sources[id(part)] = HFSource(in_model[id(whole)], dim, indices, transposed)
            joint.setdefault(id(whole), []).append(id(part))
    return sources, joint


_Where = tuple[int, Sequence[int], bool]


def _split_by(
    component: nn.Module, in_model: Mapping[int, str]
) -> Iterator[tuple[nn.Parameter, nn.Parameter, _Where | None]]:
    """Give each parameter that a component split off, the one it was split from, and what it is of it."""
    inner = _inner(component)
    splitters = [value for name, value in vars(component).items() if name.startswith("split_") and callable(value)]
    if inner is None or not splitters:
        return
    targets = list(_split_off(component, in_model))
    for split in splitters:
        wholes = _parameters_of(inner)
        probes = [
            _splits_of(split, inner, wholes, numbers)
            for numbers in (_which(wholes), _positions(wholes, 0), _positions(wholes, 1))
        ]
        if len(probes[0]) != len(targets):
            continue
        for target, which, rows, columns in zip(targets, *probes, strict=True):
            for name, part in target.named_parameters():
                whole = _whole(which.get(name), wholes)
                if whole is not None:
                    yield part, whole, _read(rows[name], columns[name], whole)


def _split_off(component: nn.Module, in_model: Mapping[int, str]) -> Iterator[nn.Module]:
    """Give the modules in a component's own sub-components that the wrapped model does not have."""
    for name, child in component.named_children():
        inner = _inner(child)
        if name == INNER or inner is None:
            continue
        parameters = list(inner.parameters())
        if parameters and not any(id(parameter) in in_model for parameter in parameters):
            yield inner


_Owned = tuple[nn.Module, str, nn.Parameter]


def _parameters_of(module: nn.Module) -> list[_Owned]:
    return [
        (owner, name, parameter)
        for owner in module.modules()
        for name, parameter in nn.Module.named_parameters(owner, recurse=False)
        if parameter.is_floating_point()
    ]


def _which(wholes: list[_Owned]) -> list[torch.Tensor]:
    """Number the parameters from 1: a split that makes something up makes zeros."""
    return [_full_of(whole, torch.tensor(float(at))) for at, (_, _, whole) in enumerate(wholes, start=1)]


def _positions(wholes: list[_Owned], dim: int) -> list[torch.Tensor]:
    positions = []
    for _, _, whole in wholes:
        along = min(dim, whole.dim() - 1)
        shape = [-1 if at == along else 1 for at in range(whole.dim())]
        positions.append(_full_of(whole, torch.arange(whole.shape[along], dtype=torch.float32).reshape(shape)))
    return positions


def _full_of(like: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Expand numbers to a parameter's shape, without its memory. float32 holds positions up to 16 million."""
    return numbers.to(like.device).expand(like.shape)


def _splits_of(
    split: Callable[[nn.Module], Sequence[nn.Module]],
    inner: nn.Module,
    wholes: list[_Owned],
    numbers: list[torch.Tensor],
) -> list[dict[str, torch.Tensor]]:
    devices = list({whole.device for _, _, whole in wholes if whole.device.type == "cuda"})
    # The layers that a split makes are initialised at random before they are filled.
    with torch.no_grad(), _filled_with(wholes, numbers), torch.random.fork_rng(devices):
        parts = split(inner)
        return [{name: p.detach().cpu() for name, p in part.named_parameters()} for part in parts]


@contextmanager
def _filled_with(wholes: list[_Owned], numbers: list[torch.Tensor]) -> Iterator[None]:
    """Put other parameters in place of some, and those back afterwards."""
    try:
        for (owner, name, _), values in zip(wholes, numbers, strict=True):
            nn.Module.register_parameter(owner, name, nn.Parameter(values, requires_grad=False))
        yield
    finally:
        for owner, name, parameter in wholes:
            nn.Module.register_parameter(owner, name, parameter)


def _whole(which: torch.Tensor | None, wholes: list[_Owned]) -> nn.Parameter | None:
    """Give the parameter that a part was split from, unless it was made up or put together."""
    if which is None or which.numel() == 0 or not bool((which == which.flatten()[0]).all()):
        return None
    number = int(which.flatten()[0])
    return wholes[number - 1][2] if number > 0 else None


def _read(rows: torch.Tensor, columns: torch.Tensor, whole: nn.Parameter) -> _Where | None:
    """Tell which rows or columns a part is, from the positions that the split left in it."""
    shapes = (rows.dim(), whole.dim())
    if shapes == (1, 1):
        return 0, _compact(rows), False
    if shapes != (2, 2):
        return None
    if _is_counting(columns, dim=1, upto=whole.shape[1]) and _is_constant(rows, dim=1):
        return 0, _compact(rows[:, 0]), False
    if _is_counting(rows, dim=1, upto=whole.shape[0]) and _is_constant(columns, dim=1):
        return 1, _compact(columns[:, 0]), True
    return None


def _is_counting(numbers: torch.Tensor, *, dim: int, upto: int) -> bool:
    return numbers.shape[dim] == upto and bool((numbers == torch.arange(upto, dtype=numbers.dtype)).all())


def _is_constant(numbers: torch.Tensor, *, dim: int) -> bool:
    return bool((numbers == numbers.narrow(dim, 0, 1)).all())


def _compact(positions: torch.Tensor) -> Sequence[int]:
    listed = [int(position) for position in positions.tolist()]
    in_one_piece = range(listed[0], listed[0] + len(listed))
    return in_one_piece if listed == list(in_one_piece) else tuple(listed)


def _taken(tensor: torch.Tensor, dim: int, indices: Sequence[int]) -> torch.Tensor:
    if isinstance(indices, range):
        return tensor.narrow(dim, indices.start, len(indices))
    return tensor.index_select(dim, torch.tensor(indices, device=tensor.device))


def _inner(module: nn.Module) -> nn.Module | None:
    """Give the module that a component took the place of; ``None`` for a module that is no component."""
    return dict(module.named_children()).get(INNER)
