"""What a run pays for plug-ins that it does not use, beside the peer: ``python benchmarks/discovery.py``.

A hundred distributions are laid into a folder, each with one adapter: eighty that import at once, ten that take
0.3 seconds, ten that fail. Then fits of one batch run in fresh processes, in turns: with none of them on the path,
with one of the good adapters mapped, and with all of them there and none mapped. Printed are the plug-in modules that
were imported and the median seconds of ``fit``, the start of Python and the imports of Lightning left out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Final

import measuring
from measuring import QUIET, Results, Row, in_process, median, show

GOOD, SLOW, BROKEN = 80, 10, 10
SLOW_SECONDS: Final = 0.3
KITS: Final = {"Phasewire": ("phasewire.app", "phasewire.adapters"), "FTS": ("finetuning_scheduler",) * 2}

RUN: Final = (
    QUIET
    + """
from lightning.pytorch.demos.boring_classes import BoringModel
kit = importlib.import_module(sys.argv[1])
scheduler = kit.FinetuningScheduler(
    {0: {"params": ["layer.weight"], "max_transition_epoch": 1}},
    epoch_transitions_only=True, restore_best=False, logging_level=logging.ERROR,
    custom_strategy_adapters={"single_device": sys.argv[2]} if sys.argv[2] else None,
)
trainer = pl.Trainer(
    accelerator="cpu", devices=1, max_epochs=1, limit_train_batches=1, limit_val_batches=0, logger=False,
    enable_checkpointing=sys.argv[1].startswith("fine"), enable_progress_bar=False, enable_model_summary=False,
    callbacks=[scheduler],
)
begun = time.perf_counter()
trainer.fit(BoringModel())
seconds = time.perf_counter() - begun
imported = sum(name.startswith("bench_plugin_") for name in sys.modules)
sys.stdout.write("\\n" + json.dumps({"seconds": seconds, "imported": imported}))
"""
)

SCAN: Final = """
import importlib.metadata, json, time
begun = time.perf_counter()
list(importlib.metadata.entry_points(group="finetuning_scheduler.strategy_adapters"))
print(json.dumps(time.perf_counter() - begun))
"""


def install(site: Path, adapters_package: str) -> None:
    """Lay the distributions into a folder, as an installer would."""
    sources = {
        "good": f"from {adapters_package} import StrategyAdapter\n\n\nclass Adapter(StrategyAdapter):\n    pass\n",
        "slow": f"import time\n\ntime.sleep({SLOW_SECONDS})\nfrom {adapters_package} import StrategyAdapter\n",
        "broken": "raise OSError('a library is missing')\n",
    }
    kinds = ["good"] * GOOD + ["slow"] * SLOW + ["broken"] * BROKEN
    for number, kind in enumerate(kinds):
        module = f"bench_plugin_{number}"
        (site / f"{module}.py").write_text(sources[kind])
        information = site / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bench-plugin-{number}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(
            f"[finetuning_scheduler.strategy_adapters]\nbench{number} = {module}:Adapter\n"
        )


def measure(given: argparse.Namespace) -> Results:
    """Fit in turns, and compare with what the scan of the metadata itself takes."""
    cases = [("no plug-in installed", False, ""), ("one of 100 used", True, "bench0"), ("none of 100 used", True, "")]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    scans: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        sites = {}
        for kit, (_, adapters) in KITS.items():
            sites[kit] = Path(work, kit)
            sites[kit].mkdir()
            install(sites[kit], adapters if kit == "Phasewire" else f"{adapters}.strategy_adapters")
        for _ in range(given.repeats):
            for name, installed, adapter in cases:
                for kit, (package, _) in KITS.items():
                    path = {"PYTHONPATH": str(sites[kit]) if installed else ""}
                    found.setdefault((name, kit), []).append(in_process(RUN, package, adapter, environment=path))
            scans.append(in_process(SCAN, environment={"PYTHONPATH": str(sites["Phasewire"])}))
    show(
        f"Median of {given.repeats} fits in fresh processes; 10 plug-ins take {SLOW_SECONDS:g} s to import",
        ["", *(f"{kit}: {what}" for what in ("imported", "seconds of fit") for kit in KITS)],
        [
            [
                name,
                *(f"{max(each['imported'] for each in found[name, kit]):.0f}" for kit in KITS),
                *(f"{median(each['seconds'] for each in found[name, kit]):.2f}" for kit in KITS),
            ]
            for name, _, _ in cases
        ],
    )
    seconds = {key: median(each["seconds"] for each in runs) for key, runs in found.items()}
    scan = median(scans)
    none, unused, used = (seconds[name, "Phasewire"] for name in ("no plug-in installed", cases[2][0], cases[1][0]))
    imported = max(each["imported"] for each in found[cases[2][0], "Phasewire"])
    return Results(
        rows=[
            Row(
                f"fit of one batch, 100 plug-ins installed, {what}",
                ours,
                "s",
                "at most 1.2 x a fit with none installed, and the scan of the metadata",
                ours <= 1.2 * none + scan and not imported,
                peer=seconds[case, "FTS"],
                floor=none + scan,
                note=f"A fit with none installed takes {none:.3f} s, and to read the entry points of all distributions "
                f"{scan:.3f} s, which is their sum, the floor. The peer waits for the {SLOW} slow plug-ins.",
            )
            for what, ours, case in (("none used", unused, cases[2][0]), ("one used", used, cases[1][0]))
        ]
    )


if __name__ == "__main__":
    measuring.main(__doc__ or "", measure)
