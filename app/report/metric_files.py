"""Reads what loggers left beside a run: the ``metrics.csv`` of Lightning's CSVLogger, and TensorBoard's event files."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["StepValues", "read_metric_files"]

#: Name of a metric to its values, each with the step it was logged at.
StepValues = Mapping[str, list[tuple[int, float]]]

_CSV_NAME: Final = "metrics.csv"
_EVENT_FILES: Final = "events.out.tfevents.*"
#: What tells the place of a value, and is none.
_PLACES: Final = frozenset({"epoch", "step"})
#: What Phasewire logs itself; the record holds it too.
_OWN: Final = "phasewire/"


def read_metric_files(folders: Iterable[Path]) -> tuple[StepValues, list[str]]:
    """Read all metrics in some folders.

    Args:
        folders: Where to look, the newest first: of an older one counts what comes before. One that is not there is
            passed over.

    Returns:
        The values, and remarks for the reader of the report.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    remarks: list[str] = []
    for folder in dict.fromkeys(folders):
        for values in (_of_csv(folder / _CSV_NAME, remarks), _of_events(folder, remarks)):
            for name, points in values.items():
                if name not in _PLACES and not name.startswith(_OWN):
                    found[name] = _before(found.get(name, []), points)
    return found, remarks


def _before(newer: list[tuple[int, float]], older: list[tuple[int, float]]) -> list[tuple[int, float]]:
    first = min((step for step, _ in newer), default=None)
    return [point for point in older if first is None or point[0] < first] + newer


def _of_csv(path: Path, remarks: list[str]) -> StepValues:
    values: dict[str, list[tuple[int, float]]] = defaultdict(list)
    if not path.is_file():
        return values
    nowhere = 0
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                step = _number(row.get("step"))
                if step is not None and not math.isfinite(step):
                    nowhere += 1
                    continue
                for name, text in row.items():
                    value = _number(text)
                    if step is not None and value is not None and name is not None:
                        values[name].append((int(step), value))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        remarks.append(f"{path.name} could not be read: {error}")
    if nowhere:
        lines, are = ("lines", "are") if nowhere > 1 else ("line", "is")
        remarks.append(f"{nowhere} {lines} of {path.name} {are} left out, whose step is no finite number.")
    return values


def _of_events(folder: Path, remarks: list[str]) -> StepValues:
    if not folder.is_dir() or not any(folder.glob(_EVENT_FILES)):
        return {}
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
    except ModuleNotFoundError:
        remarks.append(
            "There are event files of TensorBoard, which is not installed, so what they hold of single steps is not "
            "shown. Install it with: pip install 'phasewire[tensorboard]'"
        )
        return {}
    try:
        events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
        events.Reload()
        return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()[SCALARS]}
    except Exception as error:  # noqa: BLE001  # TensorBoard tells nowhere what it raises for a file that is damaged
        remarks.append(f"The event files of TensorBoard could not be read: {type(error).__name__}: {error}")
        return {}


def _number(text: str | None) -> float | None:
    with suppress(ValueError, TypeError):
        return float(text or "")
    return None
