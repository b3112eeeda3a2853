"""Shows the phase in the Trainer's progress bar, whichever it is: rich, tqdm, or a user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from phasewire.adapters.shadows import shadow

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ProgressBar

    from phasewire.app.watching.standing import Standing

__all__ = ["PhaseInBar"]

#: What is put in front of the words.
_KEY: Final = "phase"
_METHOD: Final = "get_metrics"

# Any: what Lightning gives a progress bar to show.
Metrics = dict[str, Any]


class PhaseInBar:
    """Adds the phase to what a progress bar shows, as long as a fit runs.

    ``ProgressBar.get_metrics`` is the public method by which a bar asks for what it shows beside itself. It is shadowed
    on the instance, so that bars of any class keep all they do. A metric of the user that is called ``phase`` wins.

    Args:
        trainer: The Trainer.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self._bar: ProgressBar | None = trainer.progress_bar_callback
        self._shown: _Shown | None = None
        self._take_off: Callable[[], None] | None = None

    def show(self, standing: Standing) -> None:
        """Show where the run stands.

        Args:
            standing: Where it stands.
        """
        if self._bar is None:
            return
        if self._shown is None:
            self._shown = _Shown(self._bar.get_metrics)
            self._take_off = shadow(self._bar, _METHOD, self._shown)
        self._shown.text = f"{standing.depth}/{standing.final_depth}" + (
            f" until {standing.ends}" if standing.ends else ""
        )

    def remove(self) -> None:
        """Leave the bar as it was."""
        if self._take_off is not None:
            self._take_off()
        self._shown = self._take_off = None


class _Shown:
    """What a bar asks instead of its own method; an object, because a function of a function cannot be pickled."""

    def __init__(self, own: Callable[..., Metrics]) -> None:
        self.text = ""
        self._own = own

    def __call__(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Metrics:
        """Give the phase, and what the bar gives itself."""
        return {_KEY: self.text, **self._own(trainer, pl_module)}
