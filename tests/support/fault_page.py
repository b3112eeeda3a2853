"""Writes the table of faults into docs/reliability.md: ``make reliability``."""

from __future__ import annotations

from pathlib import Path

from fault_table import FAULTS, Fault

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- the table of faults: make reliability -->\n", "<!-- end of the table -->\n"


def table() -> str:
    """The faults as a table in Markdown."""
    rows = ["| Fault | What is injected | Cases | What holds afterwards | Goes on from |", "|---|---|---|---|---|"]
    rows += [
        f"| `{fault.id}` | {fault.injected} | {len(fault.cases)} | {fault.holds} | {place_of(fault)} |"
        for fault in FAULTS
    ]
    cases = sum(len(fault.cases) for fault in FAULTS)
    return "\n".join([f"{len(FAULTS)} faults in {cases} cases:", "", *rows, ""])


WORDS = {
    "newest": "the newest checkpoint",
    "previous": "the checkpoint before the newest, which is refused",
    "before": "the newest checkpoint from before the fault",
    "previous to before": "the one from before that, as its best checkpoint is replaced by now",
    "best": "the best checkpoint",
    "link": "the link to the best checkpoint",
    "start": "the start: nothing was saved",
}


def place_of(fault: Fault) -> str:
    """Where the run goes on."""
    places = [place for place in (case.goes_on or fault.goes_on for case in fault.cases) if place is not None]
    steps: dict[str, list[int]] = {}
    for place in places:
        steps.setdefault(place.kind, []).append(place.step)
    return "; ".join(_words(kind, of_kind, len(places)) for kind, of_kind in steps.items()) or "nowhere: both end"


def _words(kind: str, steps: list[int], cases: int) -> str:
    if kind == "start":
        return WORDS[kind] + (f" ({len(steps)} of {cases} cases)" if len(steps) < cases else "")
    listed = ", ".join(map(str, sorted(set(steps))))
    return f"{WORDS[kind]}, of step {listed}"


def with_table(page: str) -> str:
    """Give a page with the table of now between its marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
