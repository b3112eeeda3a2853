"""The main job: transfer learning on real data, wired by ``demo.yaml`` and the container.

A small convolutional network is pretrained on the handwritten digits 0-4 and then tuned to 5-9 from ten labels a digit,
in three ways: backbone frozen, everything at once, and thawed phase by phase. The three have the same data, labels,
starting weights, optimizer, epochs and steps; each is measured on test images by its own best checkpoint, which is the
one with the lowest loss on validation images.

Each way has one learning rate for all that it trains. The three were chosen alike: seven rates from 0.001 to 0.1, ten
seeds that the demo does not show, and the lowest mean validation loss of the best checkpoint; the test images were not
looked at. ``benchmarks/demo_learning_rates.py`` in the repository does it again. What else is in ``demo.yaml`` (size of
the network, pretraining, labels, epochs, an equal share of them for each phase) was set once, after a prototype with
other seeds that did print test accuracies, and not tuned since.
"""

from phasewire.app.demo.data import DigitsDataModule
from phasewire.app.demo.job import BEST_CHECKPOINT, DemoJob, new_run_folder, report_of
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
    "report_of",
    "results_table",
    "summarize",
]
