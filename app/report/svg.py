"""Draws with matplotlib, and makes its SVG fit into a page: colours by CSS, ids of its own, text as text."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from phasewire.app.drawing import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BAND", "GRID", "SERIES", "TEXT", "drawn_svg", "readable"]

#: Colours that stand for those of the page. matplotlib writes them into style attributes, where CSS takes over.
TEXT: Final = "#010203"
GRID: Final = "#020304"
BAND: Final = "#030405"
SERIES: Final = tuple(f"#0405{number:02x}" for number in range(8))

_CSS: Final = MappingProxyType(
    {
        TEXT: "currentColor",
        GRID: "var(--grid)",
        BAND: "var(--band)",
        **{colour: f"var(--s{number})" for number, colour in enumerate(SERIES)},
    }
)
_FONT: Final = "DejaVu Sans"
_POINTS_PER_INCH: Final = 72
_TAG: Final = re.compile(r"<[^>]+>")
_ID: Final = re.compile(r'\bid="([^"]+)"')
_REFERENCE: Final = re.compile(r'(url\(|href=")#')
_COLOUR: Final = re.compile(r"#0[1-4]0[2-5][0-9a-f]{2}")
#: More decimals than can be seen, which would make up half of a page.
_DECIMALS: Final = re.compile(r"(\d\.\d\d)\d+")
_FAMILY: Final = re.compile(rf"'{_FONT}'[^;\"]*")


def drawn_svg(draw: Callable[[Axes, int], None], *, width: int, height: int, prefix: str) -> str:
    """Draw one plot.

    Args:
        draw: Draws on the axes that it is given, for a width.
        width: The width at which text has the size of the page's own, in CSS pixels.
        height: The height, in the same.
        prefix: Makes the ids of the picture its own among those of a page; letters, digits and hyphens.

    Returns:
        An ``<svg>`` element whose width and height are left to CSS.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_style(prefix)), warnings.catch_warnings():
        # Names may be in any script. The browser has the fonts; here they only lack a width.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        # A plot of a single point, or of very long names, is drawn as well as it can be.
        warnings.filterwarnings("ignore", r".*[Tt]ight.?layout|constrained_layout not applied", UserWarning)
        figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")
        draw(figure.subplots(), width)
        file = io.StringIO()
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    return _for_a_page(file.getvalue(), prefix)


def readable(name: str, *, longest: int = 40) -> str:
    """Make a name fit for a plot.

    Args:
        name: Any text.
        longest: How many characters there is room for.

    Returns:
        One line of printable characters, cut off in the middle if it is long.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    half = longest // 2
    return line if len(line) <= longest else f"{line[:half]}\N{HORIZONTAL ELLIPSIS}{line[-half:]}"


# Any: matplotlib lists its 300 keys in a type of its own.
def _style(prefix: str) -> dict[Any, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": prefix,
        "text.parse_math": False,  # a dollar sign in a name is one
        "font.family": [_FONT],
        "font.size": 12,
        "axes.labelsize": 12,
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
        "legend.fontsize": 11,
        "text.color": TEXT,
        "axes.edgecolor": GRID,
        "axes.labelcolor": TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": GRID,
        "xtick.labelcolor": TEXT,
        "ytick.color": GRID,
        "ytick.labelcolor": TEXT,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
    }


def _for_a_page(svg: str, prefix: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    opening = re.search(r'viewBox="[^"]+"', svg)
    box = opening[0] if opening else ""
    body = svg[svg.index(">") + 1 :]

    def adapted(tag: re.Match[str]) -> str:
        text = _ID.sub(rf'id="{prefix}-\1"', tag[0])
        text = _REFERENCE.sub(rf"\1#{prefix}-", text)
        text = _COLOUR.sub(lambda colour: _CSS.get(colour[0], colour[0]), text)
        return _DECIMALS.sub(r"\1", _FAMILY.sub("var(--sans)", text))

    return f'<svg {box} aria-hidden="true" focusable="false">{_TAG.sub(adapted, body)}'.strip()
