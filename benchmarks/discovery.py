"""What a run pays for plug-ins that it does not use, beside the peer: ``python benchmarks/discovery.py``.

A hundred distributions are laid into a folder, each with one adapter: eighty that import at once, ten that take a
second, ten that fail. Then fits of one batch run in fresh processes, in turns: with none of them on the path, with one
of the good adapters mapped, and with all of them there and none mapped. Printed are the plug-in modules that were
imported and the median seconds of ``fit``, the start of Python and the imports of Lightning left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

GOOD, SLOW, BROKEN = 80, 10, 10
SLOW_SECONDS: Final = 1.0
TIME_LIMIT_SECONDS: Final = 300
KITS: Final = {"Phasewire": ("phasewire.app", "phasewire.adapters"), "FTS": ("finetuning_scheduler",) * 2}

RUN: Final = """
import importlib, json, logging, sys, time, warnings
warnings.simplefilter("ignore")
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
import lightning.pytorch as pl
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


def fit(site: Path | None, package: str, adapter: str) -> dict[str, float]:
    """Fit once in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": "" if site is None else str(site)}
    with tempfile.TemporaryDirectory() as folder:
        finished = subprocess.run(  # noqa: S603  # this file's own script
            [sys.executable, "-c", RUN, package, adapter],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_SECONDS,
            check=True,
        )
    measured: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="fits of each kind")
    repeats = parser.parse_args().repeats
    cases = [("no plug-in installed", False, ""), ("one of 100 used", True, "bench0"), ("none of 100 used", True, "")]
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as work:
        sites = {}
        for kit, (_, adapters) in KITS.items():
            sites[kit] = Path(work, kit)
            sites[kit].mkdir()
            install(sites[kit], adapters if kit == "Phasewire" else f"{adapters}.strategy_adapters")
        for _ in range(repeats):
            for name, installed, adapter in cases:
                for kit, (package, _) in KITS.items():
                    measured = fit(sites[kit] if installed else None, package, adapter)
                    results.setdefault((name, kit), []).append(measured)
    table = Table(title=f"Median of {repeats} fits in fresh processes; 10 plug-ins take {SLOW_SECONDS:g} s to import")
    for heading in ("", *(f"{kit}: {what}" for what in ("imported", "seconds of fit") for kit in KITS)):
        table.add_column(heading, justify="right" if heading else "left")
    for name, _, _ in cases:
        imported = [f"{max(each['imported'] for each in results[name, kit]):.0f}" for kit in KITS]
        seconds = [f"{statistics.median(each['seconds'] for each in results[name, kit]):.2f}" for kit in KITS]
        table.add_row(name, *imported, *seconds)
    Console().print(table)


if __name__ == "__main__":
    main()
