"""A plan as a page that needs no network: the picture, and the table of all phases."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final

from phasewire.app.drawing import page_environment
from phasewire.app.planning.columns import phase_columns
from phasewire.app.planning.words import phase_count, remarks, share_text, summary

if TYPE_CHECKING:
    from phasewire.app.planning.values import Plan

__all__ = ["plan_page"]

_MOST_ROWS: Final = 2000


def plan_page(plan: Plan, schedule: str, *, light: bytes, dark: bytes) -> str:
    """Write a plan as HTML.

    Args:
        plan: The plan.
        schedule: What to call the schedule.
        light: Its picture, as an SVG file.
        dark: The same, for those who read light text on a dark page.

    Returns:
        A whole page.
    """
    columns = phase_columns(plan, most=_MOST_ROWS)
    template = page_environment("phasewire.app.planning").get_template("plan.html.j2")
    return template.render(
        plan=plan,
        schedule=schedule,
        count=phase_count(len(plan.phases)),
        thawed=share_text(plan.phases[-1].thawed, plan.total),
        summary=summary(plan),
        remarks=remarks(plan),
        columns=columns,
        rows=list(zip(*(column.cells for column in columns), strict=True)),
        # As pictures and not as elements, so that the two do not share ids, and nothing in them can be more than drawn.
        light=_data_url(light),
        dark=_data_url(dark),
    )


def _data_url(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{b64encode(svg).decode()}"
