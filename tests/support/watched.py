"""What a run leaves for those who watch it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def events_in(folder: Path) -> list[dict[str, Any]]:
    """Read the record of a run as any program would: line by line, as JSON."""
    return [json.loads(line) for line in (folder / "phasewire_run.jsonl").read_text().splitlines()]
