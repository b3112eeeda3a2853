"""Injects every fault of the table, each in processes of its own, and writes down what came of it.

``python fault_runs.py FOLDER [ID ...]``, by ``tests/faults/test_faults.py``. All are forks of this process, so that
torch and Lightning are imported once: one trains and is hit, the next looks at what is left, and goes on.
"""

from __future__ import annotations

import gc
import json
import os
import re
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fault_processes import WrongEndError, can_mount
from fault_scene import JOB, Scene, said, step_of
from fault_table import FAULTS, Case, Fault
from fault_watch import Watching
from resuming import Job, Moment, Outcome

#: Seconds until a process counts as one that does not end.
TIME_LIMIT = 60


def in_a_fork(work: Callable[[], Any], printed: Path) -> tuple[Any, int | None]:
    """Do something in a process of its own, which writes what it prints to a file.

    Returns:
        What it gave, as JSON holds it, and how it ended: its exit code, the negative number of the signal that ended
        it, or ``None`` when it did not end in time.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        _work_and_end(work, printed, writing)
    os.close(writing)
    answer = b""
    deadline = time.monotonic() + TIME_LIMIT
    with os.fdopen(reading, "rb") as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = os.read(pipe.fileno(), 1 << 16)
            if not part:
                break
            answer += part
        else:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None, None
    _, status = os.waitpid(child, 0)
    return json.loads(answer) if answer else None, os.waitstatus_to_exitcode(status)


def _work_and_end(work: Callable[[], Any], printed: Path, writing: int) -> None:
    code = 0
    try:
        out = os.open(printed, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        answer = work()
    except SystemExit as error:
        traceback.print_exc()
        code, answer = 3, said(error)
    except WrongEndError as error:
        code, answer = 4, said(error)
    except BaseException as error:  # noqa: BLE001 - it is told, whatever it is
        traceback.print_exc()
        code, answer = 1, said(error)
    os.write(writing, json.dumps(answer).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


ENDINGS = {"whole": (0,), "error": (1,), "exit": (3,), "killed": (-signal.SIGKILL,)}


def problems_of(fault: Fault, case: Case, folder: Path, whole: Outcome) -> list[str]:
    """Inject a fault, and say what does not hold afterwards."""
    folder.mkdir(parents=True)
    scene = Scene(folder, fault.job, whole)
    ends, place = case.ends or fault.ends, case.goes_on or fault.goes_on

    def train() -> list[str]:
        outcome = fault.train(scene, case.moment, case.act)
        return [problem for also in fault.also if ends == "whole" for problem in also(scene, outcome)]

    answer, code = in_a_fork(train, folder / "hit.txt")
    printed = (folder / "hit.txt").read_text()
    found = []
    if code not in ENDINGS[ends]:
        found.append(f"ended with {code}, not as {ends}: {answer}; {printed[-2000:]}")
    elif ends == "whole" and answer:
        found += answer
    text = answer if ends == "error" and isinstance(answer, str) else printed
    patterns = (*fault.says, *case.says)
    found += [f"does not say {pattern!r}: {text[-2000:]}" for pattern in patterns if not re.search(pattern, text)]

    def look() -> list[str]:
        left = scene.lost() + ([] if ends == "killed" else scene.drafts())
        left += [problem for claim in (*fault.claims, *case.claims) for problem in claim(scene)]
        return left + (scene.go_on(place, leaves_draft=case.leaves_draft) if place else [])

    after, code = in_a_fork(look, folder / "after.txt")
    found += after if code == 0 else [f"what is left cannot be looked at: {after}"]
    where = f"{case.moment.hook} {case.moment.calls_before}: " if case.moment else ""
    return [f"{where}{problem}" for problem in found]


def warm_up(folder: Path) -> None:
    """Do once what every fork would do again: import, and look at objects that are there to stay."""
    JOB.start(folder, cut=Moment("epoch saved", 2))
    JOB.start(folder, ckpt_path=max((folder / "recovery").glob("*.ckpt"), key=step_of))
    gc.collect()
    gc.freeze()  # else a collection in a fork would copy all of the memory


def main(folder: Path, *wanted: str) -> None:
    torch.set_num_threads(1)  # a fork has no threads
    # A shell lets what it starts in the background ignore it, and the forks would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.filterwarnings("ignore", ".*(tensorboardX|LeafSpec|does not have many workers|logging interval).*")
    mounts = can_mount()
    warm_up(folder / "warm")
    wholes: dict[str, Outcome] = {}

    def whole_of(job: Job) -> Outcome:
        undisturbed = replace(job, adapter=None, schedule=job.schedule or JOB.schedule)
        key = repr(undisturbed)
        if key not in wholes:
            wholes[key] = undisturbed.start(folder / f"whole{len(wholes)}" / "run", knife=Watching())
        return wholes[key]

    results: dict[str, Any] = {}
    for fault in FAULTS:
        if wanted and fault.id not in wanted:
            continue
        if fault.needs == "mounts" and not mounts:
            results[fault.id] = {"skipped": "no process may have mounts of its own here"}
            continue
        begun = time.process_time() + sum(os.times()[2:4])
        problems = [
            problem
            for number, case in enumerate(fault.cases)
            for problem in problems_of(fault, case, folder / fault.id / str(number), whole_of(fault.job))
        ]
        seconds = time.process_time() + sum(os.times()[2:4]) - begun
        results[fault.id] = {"problems": problems, "cases": len(fault.cases), "seconds": seconds}
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
