"""The program that imports modules: for each line of its standard input it writes one, both JSON.

A question names a module, the path to look it up on, and how many seconds it may take. The answer tells what
``ImportReport`` holds; or, of an import that ended its process, the exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import warnings
from collections.abc import Mapping
from threading import Timer
from types import MappingProxyType
from typing import IO, Any, Final, NoReturn

from phasewire.app.import_probe.torch_state import differences, torch_state

__all__ = ["serve"]

# Any: the values are text, numbers, truth values and lists, as JSON has them.
Message = Mapping[str, Any]

_LATE: Final[Message] = MappingProxyType({"late": True})


def serve() -> None:
    """Answer questions until there are no more; where there are no forks, one."""
    # What every adapter imports comes first: only what the module itself does is to be seen.
    importlib.import_module("phasewire.adapters.base")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # What a module prints is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _send(answers, {})
    for line in sys.stdin:
        question = json.loads(line)
        if not hasattr(os, "fork"):
            _imported_here(question, answers)
            return
        _send(answers, _imported_in_a_fork(question))


def _send(answers: IO[str], answer: Message) -> None:
    answers.write(f"{json.dumps(dict(answer))}\n")
    answers.flush()


def _imported_here(question: Message, answers: IO[str]) -> None:
    def give_up() -> None:
        _send(answers, _LATE)
        os._exit(1)

    timer = Timer(question["seconds"], give_up)
    timer.start()
    answer = _imported(question)
    timer.cancel()
    _send(answers, answer)


def _imported_in_a_fork(question: Message) -> Message:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads, and those of BLAS are made for forks
        child = os.fork()
    if child == 0:
        _answer_and_end(question, writing)
    os.close(writing)
    with os.fdopen(reading) as answer:
        if not select.select([reading], [], [], question["seconds"])[0]:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return _LATE
        # One line, not the whole of it: a process that the module left running may hold the other end.
        text = answer.readline()
    _, status = os.waitpid(child, 0)
    told: Message = json.loads(text) if text else {"code": os.waitstatus_to_exitcode(status)}
    return told


def _answer_and_end(question: Message, writing: int) -> NoReturn:
    os.setsid()  # what the module starts ends with it, when it takes too long
    try:
        with os.fdopen(writing, "w") as answer:
            _send(answer, _imported(question))
    finally:
        sys.stderr.flush()
        os._exit(0)


def _imported(question: Message) -> Message:
    name = question["module"]
    sys.path[:] = question["path"]
    importlib.invalidate_caches()
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115  # the module must not read the questions
    before = torch_state()
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # it is reported, whatever it is
        missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        return {"error": f"{type(error).__name__}: {error}", "absent": missing, "changes": [], "file": None}
    return {
        "error": None,
        "absent": False,
        "changes": differences(before, torch_state()),
        "file": getattr(module, "__file__", None),
    }


if __name__ == "__main__":
    serve()
