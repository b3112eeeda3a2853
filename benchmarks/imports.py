"""What importing costs, and making a callback from config.yaml, beside the peer: ``python benchmarks/imports.py``.

Each import runs in a process of its own, in turns, after Lightning is imported and one pydantic model is built. Listed
are also the modules that must not be imported by it: optional libraries, those of the command line, and plug-ins.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import measuring
from measuring import Results, Row, in_process, median

CONFIG: Final = Path(__file__).parents[1] / "config.yaml"
#: What an import must not bring along.
UNWANTED: Final = ("typer", "rich", "jinja2", "transformer_lens", "transformers", "safetensors", "jsonargparse")

IMPORT: Final = """
import json, sys, time
import lightning.pytorch, pydantic
class Model(pydantic.BaseModel):
    a: int = 1
Model()
before = set(sys.modules)
begun = time.process_time()
exec(sys.argv[1])
seconds = time.process_time() - begun
new = set(sys.modules) - before
print(json.dumps({"seconds": seconds, "unwanted": sorted(new & set(sys.argv[2:]))}))
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


_NOTES: Final = {
    "package": "Names are imported when they are asked for.",
    "callback": "The mark is for the package. What is imported here are modules that any fit with the callback needs: "
    "ours, Lightning's and pydantic's; none of a plug-in.",
}


def measure(given: argparse.Namespace) -> Results:
    """Measure the imports in turns, and the container."""
    statements = {
        "package": ("import phasewire.app", "import finetuning_scheduler"),
        "callback": (
            "from phasewire.app import FinetuningScheduler",
            "from finetuning_scheduler import FinetuningScheduler",
        ),
    }
    found: dict[str, list[dict[str, object]]] = {}
    for _ in range(given.repeats + 1):
        for pair in statements.values():
            for statement in pair:
                found.setdefault(statement, []).append(in_process(IMPORT, statement, *UNWANTED))
    # The first one may have written bytecode.
    seconds = {statement: median(float(str(each["seconds"])) for each in runs[1:]) for statement, runs in found.items()}
    results = Results()
    for name, (ours, peer) in statements.items():
        unwanted = sorted({str(module) for each in found[ours] for module in list(each["unwanted"])})  # type: ignore[call-overload]  # a list
        results.rows.append(
            Row(
                f"`{ours}`" if name == "package" else f"`{ours}`, which imports all that a fit needs",
                seconds[ours],
                "s",
                "at most 0.05 s; nothing optional, no plug-in, no library of the command line",
                seconds[ours] <= 0.05 and not unwanted,
                peer=seconds[peer],
                note=f"imported: {', '.join(unwanted)}" if unwanted else _NOTES[name],
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
