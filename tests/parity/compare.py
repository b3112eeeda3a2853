"""Compares random cases with the peer and prints what came out: ``make parity N=5000``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from case_timeline import timeline
from peer_faults import Fault, met_by
from random_cases import random_case
from side_by_side import differences, train_both

MOST_LEFT_OUT = 0.1
"""The share of the cases that may be left out for faults of the peer."""
FEWEST_FOR_A_SHARE = 200
"""Of fewer cases the share says nothing."""


@dataclass(frozen=True)
class Comparison:
    """What became of one random case."""

    number: int
    faults: tuple[Fault, ...]
    """The faults of the peer by which it is left out."""
    differences: tuple[str, ...]


def compare(number: int, folder: Path) -> Comparison:
    """Train a random case with both, unless a fault of the peer stands in the way."""
    case = random_case(number)
    faults = tuple(met_by(case))
    if faults:
        return Comparison(number, faults, ())
    mine, theirs = train_both(case, folder / str(number))
    found = differences(mine, theirs)
    expected = timeline(case).depths
    if not mine.error and tuple(mine.depths) != expected:
        # The faults are told from this timeline.
        found.append(f"depths: {expected} by the case, ours {mine.depths}")
    return Comparison(number, (), tuple(found))


def summary(comparisons: Sequence[Comparison]) -> str:
    """Count the cases: equal, left out for each fault of the peer, different."""
    different = [comparison for comparison in comparisons if comparison.differences]
    left_out = [comparison for comparison in comparisons if comparison.faults]
    equal = len(comparisons) - len(left_out) - len(different)
    share = len(left_out) / len(comparisons)
    lines = [
        f"{len(comparisons)} cases: {equal} equal, {len(different)} different, {len(left_out)} left out ({share:.1%})"
    ]
    by_fault = Counter(fault for comparison in left_out for fault in comparison.faults)
    lines += [f"{count:8} left out for: {fault.value}" for fault, count in by_fault.most_common()]
    for comparison in different:
        lines += [f"case {comparison.number} differs:", *(f"    {line}" for line in comparison.differences[:5])]
    return "\n".join(lines)


def is_good(comparisons: Sequence[Comparison]) -> bool:
    """Tell whether nothing differs and not too much was left out."""
    left_out = sum(bool(comparison.faults) for comparison in comparisons)
    if any(comparison.differences for comparison in comparisons):
        return False
    return len(comparisons) < FEWEST_FOR_A_SHARE or left_out <= MOST_LEFT_OUT * len(comparisons)


def main(arguments: Sequence[str]) -> int:
    """Compare as many random cases as wanted, on all processors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="how many cases")
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first case; a number is always one case"
    )
    options = parser.parse_args(arguments)
    numbers = range(options.first, options.first + options.count)
    comparisons = []
    for comparison in _compared(numbers):
        comparisons.append(comparison)
        if comparison.differences or len(comparisons) % 100 == 0:
            sys.stderr.write(f"{len(comparisons)} of {len(numbers)}\n")
    sys.stdout.write(f"{summary(comparisons)}\n")
    return 0 if is_good(comparisons) else 1


def _compared(numbers: Sequence[int]) -> Iterator[Comparison]:
    workers = min(os.cpu_count() or 1, len(numbers))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        yield from pool.map(_compare_in_a_folder, numbers, chunksize=5)


def _quiet() -> None:
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _compare_in_a_folder(number: int) -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        return compare(number, Path(folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
