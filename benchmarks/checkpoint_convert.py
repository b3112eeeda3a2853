"""What converting a checkpoint costs: ``python benchmarks/checkpoint_convert.py``.

A Lightning checkpoint of a made-up decoder is written to a temporary folder. Its module has split projections, which
the naming "joint" stores as one, transposed as GPT-2 has them or not. It is converted to that naming, as ``.ckpt`` and
as ``.safetensors``, and back, each in a process of its own, in turns with a copy of the same file, which is flushed to
the disk as a conversion is. Printed are the seconds, the speed beside that of copying, and by how much the memory of
the process grew: private memory, without the mapped input, whose pages the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import torch
from measuring import show

from phasewire.adapters.tensor_layout import Layout
from phasewire.adapters.tensor_pieces import Piece

TIME_LIMIT_SECONDS: Final = 900
WIDTH: Final = 2048
#: Three projections of WIDTH x WIDTH, their joint one's output, and a feed-forward layer four times as wide.
BYTES_OF_A_LAYER: Final = 4 * (4 * WIDTH * WIDTH + 8 * WIDTH * WIDTH)

CONVERT: Final = """
import json, sys, threading, time
from phasewire.app.convert import convert
source, target, to = sys.argv[1:]

def private():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) * 1024

def watch():
    global peak
    while not over:
        peak = max(peak, private())
        time.sleep(0.002)

before = peak = private()
over = False
watcher = threading.Thread(target=watch)
watcher.start()
begun = time.perf_counter()
convert(source, target, to)
seconds = time.perf_counter() - begun
over = True
watcher.join()
print(json.dumps({"seconds": seconds, "grown": max(peak, private()) - before}))
"""
COPY: Final = """
import json, os, shutil, sys, time
begun = time.perf_counter()
shutil.copyfile(sys.argv[1], sys.argv[2])
with open(sys.argv[2], "rb+") as file:
    os.fsync(file)
print(json.dumps({"seconds": time.perf_counter() - begun, "grown": 0}))
"""


def write_checkpoint(path: Path, layers: int, *, transposed: bool) -> int:
    """Write the checkpoint, and give the bytes of its largest tensor in either naming."""
    state: dict[str, torch.Tensor] = {}
    pieces: dict[str, Piece] = {}
    for layer in range(layers):
        for at, part in enumerate("qkv"):
            name = f"model.layers.{layer}.{part}.weight"
            state[name] = torch.rand(WIDTH, WIDTH)
            pieces[name] = Piece(f"h.{layer}.attn.weight", int(transposed), ((at * WIDTH, WIDTH),), transposed)
        for part, width in (("o", WIDTH), ("up", 4 * WIDTH), ("down", 4 * WIDTH)):
            name = f"model.layers.{layer}.{part}.weight"
            state[name] = torch.rand(width, WIDTH)
            pieces[name] = Piece(f"h.{layer}.{part}.weight")
    record = {"format": 1, "parameter_names": "module", "namings": {"joint": Layout(pieces).to_plain()}, "tied": {}}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.0", "phasewire": record}, path)
    return 4 * 4 * WIDTH * WIDTH


def measured(script: str, *arguments: str | Path) -> dict[str, float]:
    """Run a script in a process of its own."""
    finished = subprocess.run(  # noqa: S603  # this file's own script
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_SECONDS,
        check=True,
    )
    result: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return result


def in_turns(cases: dict[str, tuple[Path, Path, str]], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Convert files, each in turns with copies of it."""
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for name, (source, target, to) in cases.items():
            results.setdefault(name, []).append(measured(CONVERT, source, target, to))
            target.unlink()
            copied = source.with_name("copy")
            results.setdefault(f"copy of {source.suffix}", []).append(measured(COPY, source, copied))
            copied.unlink()
    return results


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.1, help="size of the checkpoint")
    parser.add_argument("--repeats", type=int, default=3, help="times each")
    parser.add_argument("--transposed", action="store_true", help="store projections transposed, as GPT-2 does")
    parser.add_argument("--folder", type=Path, help="where to write; by default where temporary files go")
    options = parser.parse_args()
    layers = -int(-options.gigabytes * 1e9 // BYTES_OF_A_LAYER)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        work = Path(folder)
        given, stored, plain = work / "in.ckpt", work / "joint.safetensors", work / "out.ckpt"
        largest = write_checkpoint(given, layers, transposed=options.transposed)
        size = given.stat().st_size
        joined = {
            ".ckpt, split, to .safetensors, joint": (given, work / "a.safetensors", "joint"),
            ".ckpt, split, to .ckpt, joint": (given, work / "b.ckpt", "joint"),
        }
        results = in_turns(joined, options.repeats)
        measured(CONVERT, given, stored, "joint")
        given.unlink()  # no more than two files are there at a time
        split = {".safetensors, joint, to .ckpt, split": (stored, plain, "canonical")}
        results |= in_turns(split, options.repeats)
    seconds = {name: statistics.median(each["seconds"] for each in runs) for name, runs in results.items()}
    rows = []
    for name, runs in results.items():
        copying = seconds[name if name.startswith("copy") else f"copy of {(joined | split)[name][0].suffix}"]
        grown = max(each["grown"] for each in runs)
        rows.append(
            [
                name,
                f"{seconds[name]:.2f}",
                f"{size / 1e9 / seconds[name]:.2f}",
                f"{copying / seconds[name]:.2f}",
                f"{grown / 1e6:.0f} MB",
            ]
        )
    title = f"{size / 1e9:.2f} GB, largest tensor {largest / 1e6:.0f} MB, median of {options.repeats}"
    show(title, ["", "seconds", "GB/s", "beside copying", "memory grew by"], rows)


if __name__ == "__main__":
    main()
