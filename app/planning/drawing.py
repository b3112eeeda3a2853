"""Plans drawn into files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from phasewire.adapters.errors import ConfigError, did_you_mean
from phasewire.app.atomic_save import draft_of
from phasewire.app.drawing import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phasewire.app.planning.values import Plan

__all__ = ["PlanFiles"]

_KINDS: Final = (".html", ".png", ".svg")
_DOTS_PER_INCH: Final = 150


class PlanFiles:
    """Draws a plan into files.

    Args:
        files: The files to write; their suffixes say how.

    Raises:
        ConfigError: A suffix is not known, or matplotlib is not installed.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        for file in files:
            if file.suffix.lower() not in _KINDS:
                raise ConfigError(
                    f"A plan cannot be drawn as {file.suffix or 'a file without a suffix'}. "
                    f"{did_you_mean(file.suffix, _KINDS)}".rstrip(),
                    where=f"--out {file}",
                    remedy="Name a file that ends with .svg, .png or .html.",
                )
        # What cannot be drawn is better known before the work is done.
        require_matplotlib("--out")
        self._files = tuple(files)

    def write(self, plan: Plan, schedule: str) -> tuple[Path, ...]:
        """Draw a plan.

        Args:
            plan: The plan.
            schedule: What to call the schedule.

        Returns:
            The files, each of which now holds the plan; it is there whole, or as it was.

        Raises:
            ConfigError: A file cannot be written.
        """
        for file in self._files:
            content = _drawn(plan, schedule, file.suffix.lower())
            try:
                with draft_of(file) as draft:
                    draft.write(content)
            except OSError as error:
                raise ConfigError(
                    f"The file cannot be written: {error.strerror or error}.",
                    where=f"--out {file}",
                    remedy="Choose another place.",
                ) from error
        return self._files


def _drawn(plan: Plan, schedule: str, kind: str) -> bytes:
    from phasewire.app.planning.figure import DARK, LIGHT, plan_figure

    if kind != ".html":
        return _saved(plan_figure(plan, schedule), kind)
    from phasewire.app.planning.page import plan_page

    light, dark = (_saved(plan_figure(plan, schedule, colours, titled=False), ".svg") for colours in (LIGHT, DARK))
    # Names in Python may hold half of a pair, which no encoding has.
    return plan_page(plan, schedule, light=light, dark=dark).encode(errors="replace")


def _saved(figure: Figure, kind: str) -> bytes:
    import matplotlib as mpl

    # One plan gives the same file each time.
    # Any: each format has metadata of its own.
    metadata: dict[str, Any] = {"Date": None} if kind == ".svg" else {}
    buffer = BytesIO()
    style: dict[Any, Any] = {"svg.hashsalt": "phasewire", "svg.fonttype": "path", "text.parse_math": False}
    with mpl.rc_context(style), warnings.catch_warnings():
        # Names may be in a script that the font does not have; the rest of the picture is as it should be.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format=kind[1:], dpi=_DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()
