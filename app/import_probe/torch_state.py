"""What importing a module does to the process, found out in a process of its own.

Run as a program, it imports one module and tells on its last line, as JSON, what that changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Final

import torch

__all__ = ["ImportReport", "differences", "import_report", "torch_state"]

_TIME_LIMIT: Final = 300  # seconds; an import that takes longer is reported as one that does not end
_ANSWER: Final = "phasewire import report: "


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did."""

    error: str | None = None
    """Why it failed; ``None`` when it did not."""
    absent: bool = False
    """Whether a new process cannot find the module, as with one that a test defines."""
    changes: tuple[str, ...] = ()
    """What it changed in torch for the whole process, one sentence part each."""


def torch_state() -> dict[str, str]:
    """Give what torch keeps for the whole process and an import could change.

    Returns:
        The name of each setting, and its value as text.
    """
    return {
        "the default dtype": str(torch.get_default_dtype()),
        "the default device": str(torch.get_default_device()),
        "whether gradients are recorded": str(torch.is_grad_enabled()),
        "the deterministic algorithms": str(
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
        ),
        "the number of threads": str((torch.get_num_threads(), torch.get_num_interop_threads())),
        "the precision of float32 products": torch.get_float32_matmul_precision(),
        "the random state": str(hash(torch.get_rng_state().numpy().tobytes())),
        "anomaly detection": str(torch.is_anomaly_enabled()),
        "the settings of cuDNN": str((torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)),
    }


def differences(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Compare two states.

    Args:
        before: What :func:`torch_state` gave.
        after: What it gave later, in the same process.

    Returns:
        What changed, with the old and the new value where a person can read them.
    """
    return tuple(
        name if name == "the random state" else f"{name} (from {value} to {after[name]})"
        for name, value in before.items()
        if after[name] != value
    )


def import_report(module_name: str) -> ImportReport:
    """Import a module in a new process, with the path of this one.

    Args:
        module_name: Its dotted name.

    Returns:
        What happened. A module that ends its process, in whatever way, is reported as failed.
    """
    command = [sys.executable, "-m", "phasewire.app.adapter_checks.torch_state", module_name]
    path = os.pathsep.join(folder for folder in sys.path if folder)
    try:
        finished = subprocess.run(  # noqa: S603  # this Python, and a module that is about to be imported here too
            command,
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return ImportReport(error=f"The import did not end within {_TIME_LIMIT} seconds.")
    answers = [line for line in finished.stdout.splitlines() if line.startswith(_ANSWER)]
    if not answers:
        said = finished.stderr.strip().splitlines()[-1:] or ["It said nothing."]
        return ImportReport(error=f"The import ended the process with code {finished.returncode}. {said[0]}")
    answer = json.loads(answers[-1].removeprefix(_ANSWER))
    return ImportReport(answer["error"], answer["absent"], tuple(answer["changes"]))


def _imported_here(module_name: str) -> ImportReport:
    # What every adapter imports comes first: only what the module itself does is to be seen.
    import_module("phasewire.adapters.base")
    before = torch_state()
    try:
        import_module(module_name)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # it is reported, whatever it is
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        return ImportReport(f"{type(error).__name__}: {error}", absent=missing)
    return ImportReport(changes=differences(before, torch_state()))


if __name__ == "__main__":
    report = _imported_here(sys.argv[1])
    answer = {"error": report.error, "absent": report.absent, "changes": report.changes}
    sys.stdout.write(f"\n{_ANSWER}{json.dumps(answer)}\n")
