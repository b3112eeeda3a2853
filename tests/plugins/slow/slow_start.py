"""Slow to import, and leaves a line in a file when it is imported."""

import os
import time
from pathlib import Path

from phasewire.adapters import StrategyAdapter

with Path(os.environ["SLOW_START_LOG"]).open("a") as log:
    log.write(f"{os.getpid()}\n")
time.sleep(0.01)


class SlowAdapter(StrategyAdapter):
    """Does what every adapter does."""
