"""Kills processes that train, each at another moment, and resumes what they leave.

Started as a script, by ``tests/app/resume/test_killed_processes.py``: the killed processes are forks of it, so that
Lightning is imported once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resuming import Job, Moment, Outcome, differences

JOB = Job(
    {
        0: {"params": ["head.*"], "max_transition_epoch": 2},
        1: {"params": ["layers.[12].*"]},
        2: {"params": ["layers.0.*"], "max_transition_epoch": 6},
    },
    val_losses=(3.0, 2.0, 1.0, 4.0, 4.0, 0.5),
    lr_scheduler="lambda by step",
    recovery={"every_n_epochs": 1, "save_top_k": 1},
)
MOMENTS = [
    Moment("batch starts", 5),
    Moment("before step", 8),
    Moment("validation ends", 3),
    Moment("epoch saved", 1),
    Moment("restoring", 0),
    Moment("thawing", 1),
    Moment("thawed", 0),
]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_call(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Kill instead of the call of that number, from 0."""
    calls = iter(range(number + 1))

    def replaced(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            kill()
        return function(*arguments, **options)

    return replaced


def half_written(number: int, save: Callable[..., Any]) -> Callable[..., Any]:
    """Write half of the checkpoint of that number, and kill."""
    calls = iter(range(number + 1))

    def replaced(checkpoint: dict[str, Any], file: io.BufferedWriter) -> None:
        if next(calls) == number:
            whole = io.BytesIO()
            save(checkpoint, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            kill()
        save(checkpoint, file)

    return replaced


# Two files are saved in an epoch that is the best so far: the best and the one for recovery.
SAVES: dict[str, Callable[[], None]] = {
    "the best is half written": lambda: setattr(torch, "save", half_written(2, torch.save)),
    "the recovery is half written": lambda: setattr(torch, "save", half_written(5, torch.save)),
    "the best is written": lambda: setattr(os, "fsync", before_call(8, os.fsync)),
    "the best is on the disk": lambda: setattr(os, "replace", before_call(2, os.replace)),
    "the recovery is on the disk": lambda: setattr(os, "replace", before_call(5, os.replace)),
    "the best replaces an older one": lambda: setattr(os, "remove", before_call(0, os.remove)),
}


def killed(start: Callable[[], object]) -> bool:
    """Run something in a fork of this process, which must kill itself."""
    child = os.fork()
    if child == 0:
        try:
            start()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def problems_after(name: str, folder: Path, whole: Outcome, start: Callable[[], object]) -> list[str]:
    """Say what is wrong with what a killed process leaves, and with the run that goes on from it."""
    if not killed(start):
        return [f"{name}: nothing was killed"]
    found: list[str] = []
    for path in folder.rglob("*.ckpt"):
        torch.load(path, weights_only=True)
    newest = max((folder / "recovery").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    resumed = JOB.start(folder, seed=99, ckpt_path=newest)
    found += differences(whole.everything(), resumed.everything())
    found += differences(whole.best_files(), resumed.best_files())
    found += [f"{path} is left" for path in folder.rglob("*draft*")]
    return [f"{name}: {problem}" for problem in found]


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # a fork has no threads
    whole = JOB.start(folder / "whole")
    problems = []
    for number, moment in enumerate(MOMENTS):
        place = folder / f"moment {number}"
        problems += problems_after(
            str(moment), place, whole, lambda place=place, moment=moment: JOB.start(place, cut=moment, kills=True)
        )
    for name, prepare in SAVES.items():
        place = folder / name
        problems += problems_after(
            name, place, whole, lambda place=place, prepare=prepare: (prepare(), JOB.start(place))
        )
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
