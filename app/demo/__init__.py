"""The main job: transfer learning on real data, wired by ``demo.yaml`` and the container.

A small convolutional network is pretrained on the handwritten digits 0-4 and then tuned to 5-9 from ten labels a digit,
in three ways: backbone frozen, everything at once, and thawed phase by phase. The three have the same data, labels,
starting weights, optimizer, epochs and steps; each is measured on test images by its own best checkpoint, which is the
one with the lowest loss on validation images.

TODO how the learning rates were chosen.
"""

from phasewire.app.demo.data import DigitsDataModule
from phasewire.app.demo.job import BEST_CHECKPOINT, DemoJob, new_run_folder
from phasewire.app.demo.model import DigitsClassifier
from phasewire.app.demo.report import RunResult, Spread, WaySummary, results_table, summarize
from phasewire.app.demo.wiring import DemoWiring

__all__ = [
    "BEST_CHECKPOINT",
    "DemoJob",
    "DemoWiring",
    "DigitsClassifier",
    "DigitsDataModule",
    "RunResult",
    "Spread",
    "WaySummary",
    "new_run_folder",
    "results_table",
    "summarize",
]
