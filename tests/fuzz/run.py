"""Fuzzes the readers with atheris, guided by the coverage of our code: ``make fuzz``, or this file with a target.

Every target begins with its seeds in ``tests/fuzz/seeds``, and keeps what leads further in ``.cache/fuzz``. What a
target could not stand is written there as ``crash-*``: mend it, and copy the file to the seeds, which
``tests/fuzz/test_seeds.py`` replays.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOUND = Path(".cache", "fuzz")


def fuzz(target: str, seconds: int) -> None:
    """Fuzz one target in this process; it ends with the process."""
    import atheris

    with atheris.instrument_imports(include=["phasewire", "yaml"]):
        import fuzz_targets

    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", "-timeout=20", "-max_len=4096", f"-artifact_prefix={found}/"]
    options.append(f"-dict={HERE / 'tokens.dict'}")
    folders = [str(found), str(HERE / "seeds" / target)]
    atheris.Setup([sys.argv[0], *options, *folders], lambda data: fuzz_targets.run(target, data))
    atheris.Fuzz()


def main() -> int:
    """Fuzz one target, or all of them one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", help="one target; all by default")
    parser.add_argument("--seconds", type=int, default=600, help="in all")
    given = parser.parse_args()
    targets = sorted(folder.name for folder in (HERE / "seeds").iterdir())
    if given.target:
        fuzz(given.target, given.seconds)
    share = str(max(1, given.seconds // len(targets)))
    failed = [
        target
        for target in targets
        if subprocess.run(
            [sys.executable, __file__, target, "--seconds", share], env=os.environ, check=False
        ).returncode
    ]
    print(f"Targets with findings: {', '.join(failed) or 'none'}. They lie in {FOUND}.")  # noqa: T201  # a script
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
