"""Puts methods of ours in the place of a strategy's own while a Trainer runs.

``tests/app/test_seam_call_order.py`` records the order in which Lightning 2.6.6 calls the methods that are shadowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from phasewire.adapters.shadows import shadow

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

__all__ = ["StrategySeam"]

P = ParamSpec("P")
R = TypeVar("R")


class StrategySeam:
    """Shadows methods of one strategy instance until the strategy is torn down.

    Lightning calls these methods on the instance, on every path on which a checkpoint is written or read while a
    Trainer runs, and calls ``setup`` once the module is complete (after its ``setup`` and ``configure_model``) and
    before it is wrapped and optimizers are made. ``teardown`` is the one method that Lightning also calls after an
    exception, so the methods are put back there; ``on_fit_end`` and the callbacks' ``teardown`` come later.

    Seams and shadows of other tools may be stacked on one strategy; each takes off its own.

    Args:
        strategy: The strategy of the running Trainer.
        replacements: Name of a method of the strategy, other than ``teardown``, to what is called instead.

    Raises:
        AttributeError: The strategy has no method of that name.
    """

    # Any: the replaced methods have different signatures and results.
    def __init__(self, strategy: Strategy, replacements: Mapping[str, Callable[..., Any]]) -> None:
        self.strategy = strategy
        self.setup: Callable[..., Any] = strategy.setup
        self.save_checkpoint: Callable[..., Any] = strategy.save_checkpoint
        self.remove_checkpoint: Callable[..., Any] = strategy.remove_checkpoint
        self.load_checkpoint: Callable[..., Any] = strategy.load_checkpoint
        self.load_model_state_dict: Callable[..., Any] = strategy.load_model_state_dict
        self.load_optimizer_state_dict: Callable[..., Any] = strategy.load_optimizer_state_dict
        self.lightning_module_state_dict: Callable[..., Any] = strategy.lightning_module_state_dict
        self._teardown = strategy.teardown
        self._removed = False
        self._at_removal: list[Callable[[], None]] = []
        # Made before the first is put on: a method that is not there leaves the strategy as it was.
        shadows = {name: self._shadow(name, replacement) for name, replacement in replacements.items()}
        shadows["teardown"] = self._tear_down
        self._take_off = [shadow(strategy, name, replacement) for name, replacement in shadows.items()]

    @property
    def is_removed(self) -> bool:
        """Whether the strategy has its own methods again."""
        return self._removed

    def at_removal(self, act: Callable[[], None]) -> None:
        """Do something else when the methods are put back: the last that is given, first.

        Args:
            act: What to do, once.
        """
        self._at_removal.append(act)

    def remove(self) -> None:
        """Put back what was there before; does nothing the second time."""
        self._removed = True
        while self._at_removal:
            self._at_removal.pop()()
        for take_off in self._take_off:
            take_off()

    def _shadow(self, name: str, replacement: Callable[P, R]) -> Callable[P, R]:
        original: Callable[P, R] = getattr(self.strategy, name)

        # A tool that took this shadow for the strategy's own method may put it back when the run is over.
        def until_removed(*args: P.args, **kwargs: P.kwargs) -> R:
            return (original if self._removed else replacement)(*args, **kwargs)

        return until_removed

    def _tear_down(self) -> None:
        # Removed first, so that stacked shadows come off in the reverse of the order they were put on.
        self.remove()
        self._teardown()
