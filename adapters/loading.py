"""Finds out whether a module takes a state dict, without loading any of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Misfit", "misfit_of"]

_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a module refuses a state dict."""

    missing: tuple[str, ...]
    """Names of the module that the state dict does not have."""
    unexpected: tuple[str, ...]
    """Names that only the state dict has."""
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """Each tensor of another shape, with that in the state dict and that in the module."""
    error: Exception
    """What the module said."""

    def described(self, shown: Callable[[str], str]) -> str:
        """Put it into words.

        Args:
            shown: How to show a name of the module.

        Returns:
            A part of a sentence.
        """
        shapes = [f"{shown(name)} has the shape {given}, and {own} in the module" for name, given, own in self.shapes]
        parts = [
            f"missing {_listed(map(shown, self.missing))}" if self.missing else "",
            f"unexpected {_listed(map(shown, self.unexpected))}" if self.unexpected else "",
            _listed(shapes),
        ]
        return "; ".join(filter(None, parts)) or str(self.error)


# Any: a state dict holds tensors, and whatever modules keep as their extra state.
def misfit_of(module: nn.Module, state: Mapping[str, Any] | None, *, strict: bool) -> Misfit | None:
    """Tell whether a module takes a state dict.

    Where names and shapes are not the module's, it is asked itself: it may have hooks that know of older names.

    Args:
        module: The module.
        state: The state dict; ``None`` where the checkpoint has none.
        strict: Whether missing and unexpected names are refused.

    Returns:
        What is wrong, or ``None``. In either case nothing was loaded.
    """
    state = {} if state is None else state
    own = module.state_dict()
    missing = tuple(name for name in own if name not in state)
    unexpected = tuple(name for name in state if name not in own)
    shapes = tuple(_other_shapes(own, state))
    if not (missing or unexpected or shapes):
        return None
    try:
        with _CopyingNothing():
            module.load_state_dict(state, strict=strict)
    except Exception as error:  # noqa: BLE001  # whatever the module raises is why it does not take the state
        return Misfit(missing if strict else (), unexpected if strict else (), shapes, error)
    return None


class _CopyingNothing(TorchFunctionMode):
    """Lets a module go through the motions: every check is made, and no tensor changes."""

    # Any, and so the exceptions: torch hands over whatever function was called, and what it was called with.
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run what torch was asked for, unless it is to copy into a tensor."""
        return args[0] if func is Tensor.copy_ else func(*args, **(kwargs or {}))


def _other_shapes(
    own: Mapping[str, Any], state: Mapping[str, Any]
) -> Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    for name, value in own.items():
        given = state.get(name)
        if isinstance(value, Tensor) and isinstance(given, Tensor) and given.shape != value.shape:
            yield name, tuple(given.shape), tuple(value.shape)


def _listed(items: Iterable[str]) -> str:
    listed = list(items)
    more = f" and {len(listed) - _MOST_SHOWN} more" if len(listed) > _MOST_SHOWN else ""
    return ", ".join(listed[:_MOST_SHOWN]) + more
