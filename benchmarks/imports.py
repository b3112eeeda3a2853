"""What importing costs, and making a callback from config.yaml, beside the peer: ``python benchmarks/imports.py``.

Both import in processes of their own, in turns, after Lightning is imported and one pydantic model is built: first the
package, and then, measured from the same beginning, the callback. Listed
are also the modules that must not be imported by it: optional libraries, those of the command line, and plug-ins.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import measuring
from measuring import KITS, Results, Row, in_process, median

CONFIG: Final = Path(__file__).parents[1] / "config.yaml"
#: What an import must not bring along.
UNWANTED: Final = ("typer", "rich", "jinja2", "transformer_lens", "transformers", "safetensors", "jsonargparse")

IMPORT: Final = """
import json, sys, time
import lightning.pytorch, pydantic
class Model(pydantic.BaseModel):
    a: int = 1
Model()
before, unwanted = set(sys.modules), set(sys.argv[3:])
begun, found = time.process_time(), []
for statement in sys.argv[1:3]:
    exec(statement)
    seconds = time.process_time() - begun
    found.append({"seconds": seconds, "unwanted": sorted((set(sys.modules) - before) & unwanted)})
print(json.dumps(found))
"""

CONTAINER: Final = """
import json, statistics, sys, time, warnings
warnings.simplefilter("ignore")
import yaml
from phasewire.containers import Container
path = sys.argv[1]
text = open(path).read()

def scheduler():
    container = Container()
    container.config.from_yaml(path)
    return container.scheduler()

def seconds(run):
    run()
    each = []
    for _ in range(30):
        begun = time.process_time()
        run()
        each.append(time.process_time() - begun)
    return statistics.median(each)

floor = seconds(Container) + seconds(lambda: yaml.load(text, Loader=yaml.CSafeLoader))
print(json.dumps({"scheduler": seconds(scheduler), "floor": floor}))
"""


#: Of the package, and of the callback.
_WHAT: Final = ("", ", which imports all that a fit needs")
_NOTES: Final = (
    "Names are imported when they are asked for.",
    (
        "The mark is for the package. What is imported here are modules that any fit with the callback needs: ours, "
        "Lightning's and pydantic's; none of a plug-in."
    ),
)


def _statements(package: str) -> tuple[str, str]:
    return f"import {package}", f"from {package} import FinetuningScheduler"


def measure(given: argparse.Namespace) -> Results:
    """Measure the imports in turns, and the container."""
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for _ in range(given.repeats + 1):
        for package in KITS.values():
            found.setdefault(package, []).append(in_process(IMPORT, *_statements(package), *UNWANTED))
    # The first one may have written bytecode.
    seconds = {
        package: [median(run[at]["seconds"] for run in runs[1:]) for at in range(2)] for package, runs in found.items()
    }
    results = Results()
    for at, statement in enumerate(_statements(KITS["Phasewire"])):
        ours, peer = (seconds[package][at] for package in KITS.values())
        unwanted = sorted({module for run in found[KITS["Phasewire"]] for module in run[at]["unwanted"]})
        results.rows.append(
            Row(
                f"`{statement}`{_WHAT[at]}",
                ours,
                "s",
                "at most 0.05 s; nothing optional, no plug-in, no library of the command line",
                ours <= 0.05 and not unwanted,
                peer=peer,
                note=f"imported: {', '.join(unwanted)}" if unwanted else _NOTES[at],
            )
        )
    milliseconds = {what: 1000 * seconds for what, seconds in in_process(CONTAINER, CONFIG).items()}
    results.rows.append(
        Row(
            "`Container()`, config.yaml read, `container.scheduler()`",
            milliseconds["scheduler"],
            "ms",
            "under 8 ms",
            milliseconds["scheduler"] < 8,
            floor=milliseconds["floor"],
            note="The floor is a bare container and libyaml alone with the same file.",
        )
    )
    return results


if __name__ == "__main__":
    measuring.main(__doc__ or "", measure, repeats=3)
