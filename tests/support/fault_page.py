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


def place_of(fault: Fault) -> str:
    """Where the run goes on."""
    words = {
        "newest": "the newest checkpoint",
        "earlier": "an earlier checkpoint",
        "before": "the newest from before the fault",
        "start": "the start",
    }
    return " or ".join(words[word] for word in fault.goes_on.split() if word != "or") or "nowhere: both end"


def with_table(page: str) -> str:
    """Give a page with the table of now between its marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
