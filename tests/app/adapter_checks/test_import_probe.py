"""Imports in other processes: each begins in the same state, and whatever one does, the others are answered."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from phasewire.app.import_probe import ImportProber, ImportReport

#: What modules do when they are imported, and what is reported of it.
MODULES = {
    "changes_torch": ("import torch; torch.manual_seed(7)", ImportReport(changes=("the random state",))),
    "raises": ("raise LookupError('no licence')", ImportReport(error="LookupError: no licence")),
    "exits_at_once": (
        "import os, sys; print('so long', file=sys.stderr, flush=True); os._exit(4)",
        ImportReport(error="The import ended the process with code 4. so long"),
    ),
    "dies": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        ImportReport(error="The import ended the process with code -9. It said nothing."),
    ),
    "needs_another": (
        "import phasewire_no_such_module",
        ImportReport(error="ModuleNotFoundError: No module named 'phasewire_no_such_module'"),
    ),
    "prints_an_answer": ('print(\'{"error": "mine"}\', flush=True)', ImportReport()),
    "reads_the_questions": ("import sys; assert sys.stdin.read() == ''", ImportReport()),
    "leaves_a_process": (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3)'])",
        ImportReport(),
    ),
    "changes_nothing": ("import torch; assert torch.initial_seed() != 7", ImportReport()),
}


def write(folder: Path, name: str, source: str) -> None:
    (folder / f"{name}.py").write_text(source)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", MODULES)
def test_what_an_import_does_is_reported(name: str, here: Path, prober: ImportProber) -> None:
    source, expected = MODULES[name]
    write(here, name, source)
    report = prober.report(name)
    file = str(here / f"{name}.py") if expected.error is None else None
    assert report == ImportReport(expected.error, expected.absent, expected.changes, file)


def test_a_module_that_is_nowhere_is_told_from_one_that_fails(here: Path, prober: ImportProber) -> None:
    assert prober.report("phasewire_no_such_module").absent
    write(here, "fails", "import phasewire_no_such_module")
    assert not prober.report("fails").absent


def test_an_import_that_does_not_end_is_ended_with_what_it_started(here: Path, prober: ImportProber) -> None:
    write(
        here,
        "hangs",
        "import os, time, pathlib\nos.fork()\n"
        "pathlib.Path(__file__).with_name(str(os.getpid())).touch()\ntime.sleep(600)\n",
    )
    assert prober.report("hangs", time_limit=1) == ImportReport(error="The import did not end within 1 seconds.")
    started = [int(file.name) for file in here.iterdir() if file.name.isdigit()]
    assert len(started) == 2
    deadline = time.monotonic() + 20
    while any(map(is_running, started)):
        assert time.monotonic() < deadline, "a process that was started by the module goes on"
        time.sleep(0.02)


def test_a_module_is_imported_once_however_often_it_is_asked_about(here: Path, prober: ImportProber) -> None:
    write(here, "counts", "import pathlib; pathlib.Path(__file__).with_name('log').open('a').write('imported ')")
    assert prober.report("counts") is prober.report("counts")
    assert (here / "log").read_text() == "imported "


def test_without_forks_each_module_has_a_process_of_its_own(here: Path) -> None:
    # Python imports this module by itself when it starts. What an adapter needs takes seconds, and these need nothing.
    stand_in = "sys.modules['phasewire.adapters.base'] = sys"
    write(here, "sitecustomize", f"import os, sys; del os.fork; {stand_in}")
    for name in ("exits_at_once", "changes_torch"):
        write(here, name, MODULES[name][0])
    prober = ImportProber()
    try:
        assert prober.report("exits_at_once") == MODULES["exits_at_once"][1]
        assert prober.report("changes_torch").changes == MODULES["changes_torch"][1].changes
    finally:
        prober.close()


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z" and os.getpid() != process
