"""Runs that take more than one process, or a file system of their own."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from lightning.pytorch.strategies import DDPStrategy

from fault_injections import MOST_SECONDS, OnRank
from fault_scene import JOB, Injecting, Scene, best_weights, differences, said
from fault_watch import Seen
from resuming import Job, Moment, Outcome

Act = Callable[[Scene], Any]

GROUP_TIMEOUT_SECONDS = 3

# From <sched.h> and <sys/mount.h>.
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 16384, 1 << 18


class RunError(Exception):
    """What a process that was not hit ended with."""


class WrongEndError(BaseException):
    """A process did not end as it should have."""


# -- a file system of its own --------------------------------------------------------------------------------------


def mount(kind: str | None, place: Path, *, flags: str = "", options: str = "") -> None:
    """Call mount(2)."""
    number = {
        "": 0,
        "private": MS_REC | MS_PRIVATE,
        "remount": MS_REMOUNT,
        "remount read-only": MS_REMOUNT | MS_RDONLY,
    }[flags]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(place), kind and kind.encode(), ctypes.c_ulong(number), options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {place}")


def enter_mount_namespace() -> None:
    """Let what this process mounts be seen by no other; without privileges, as root of a user namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) and libc.unshare(CLONE_NEWNS | CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    mount(None, Path("/"), flags="private")


def can_mount() -> bool:
    """Whether this machine lets a process have mounts of its own."""
    child = os.fork()
    if child == 0:
        with suppress(OSError):
            enter_mount_namespace()
            mount("tmpfs", Path("/mnt"), options="size=64k")
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def train_on_small_disk(scene: Scene, moment: Moment | None, act: Act) -> Outcome:
    """Train in a small file system, and leave its files where the other processes look."""
    enter_mount_namespace()
    kept = scene.folder / "kept"
    scene.run.mkdir(parents=True)
    mount("tmpfs", scene.run, options="size=2m")
    try:
        return scene.train(moment, act)
    finally:
        scene.close()
        (scene.run / "ballast").unlink(missing_ok=True)
        shutil.copytree(scene.run, kept)
        ctypes.CDLL(None).umount(os.fsencode(scene.run))
        shutil.copytree(kept, scene.run, dirs_exist_ok=True)


def train_after(scene: Scene, moment: Moment | None, act: Act) -> Outcome:
    """Act on the empty folder of the run, and train."""
    scene.run.mkdir(parents=True)
    scene.note_before()
    act(scene)
    return scene.train(moment, lambda _: None)


# -- several processes ---------------------------------------------------------------------------------------------


def _fork(work: Callable[[], object], log: Path) -> int:
    child = os.fork()
    if child == 0:
        _work_and_end(work, log)
    return child


def _work_and_end(work: Callable[[], object], log: Path) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
        log.write_text(said(error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(children: list[int], *, are_stopped: Callable[[list[int]], bool] | None = None) -> dict[int, int | None]:
    """Wait for processes; those that do not end in time, or stay stopped when the others ended, have no code."""
    codes: dict[int, int | None] = {}
    deadline = time.monotonic() + MOST_SECONDS
    while len(codes) < len(children) and time.monotonic() < deadline:
        for child in children:
            if child not in codes:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    codes[child] = os.waitstatus_to_exitcode(status)
        left = [child for child in children if child not in codes]
        if are_stopped is not None and codes and left and are_stopped(left):
            break
        time.sleep(0.01)
    for child in children:
        if child not in codes:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            codes[child] = None
    return codes


class TwoProcessJob(Job):
    """A job of two processes, which see the same rows, so that it trains what one process would."""

    def start(self, folder: Path, **options: Any) -> Any:
        if "RANK" in os.environ:
            strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=GROUP_TIMEOUT_SECONDS))
            job = Job(**{**vars(self), "trainer": {"strategy": strategy, "devices": 2}})
            return job.start(folder, **options)
        told = folder.parent / "told.pt"

        def rank_work() -> None:
            outcome = self.start(folder, **options)
            if outcome.trainer.global_rank == 0:
                best = outcome.trainer.checkpoint_callback.best_model_path
                torch.save(Told(outcome.everything(), best, outcome.knife.seen), told)

        codes, errors = in_two_processes(rank_work, folder.parent)
        if any(codes):
            raise RunError(f"{codes}: {errors}")
        return torch.load(told, weights_only=False)


@dataclass
class Told:
    """What the first process told of its run."""

    all: dict[str, Any]
    best: str
    seen: Seen

    @property
    def trainer(self) -> Any:
        return SimpleNamespace(checkpoint_callback=SimpleNamespace(best_model_path=self.best))

    @property
    def knife(self) -> Any:
        return SimpleNamespace(seen=self.seen)

    def everything(self) -> dict[str, Any]:
        return dict(self.all)


DDP = TwoProcessJob(**vars(JOB))


def in_two_processes(work: Callable[[], object], folder: Path) -> tuple[list[int | None], list[str]]:
    """Do something in two processes that find each other, as torchrun starts them.

    Returns:
        The exit code of each, ``None`` where it had to be killed; and what each was told to end with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children, logs = [], [folder / f"rank{rank}.txt" for rank in (0, 1)]
    for rank, log in enumerate(logs):
        log.unlink(missing_ok=True)
        environment = _environment(rank, port)

        def joined(environment: Mapping[str, str] = environment) -> None:
            os.environ.update(environment)
            work()

        children.append(_fork(joined, log))
    codes = _wait(children, are_stopped=_are_stopped)
    return [codes[child] for child in children], [log.read_text() if log.exists() else "" for log in logs]


def _environment(rank: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "faults",
    }


def _are_stopped(children: list[int]) -> bool:
    """Whether processes that have not been waited for live only because they were stopped."""
    return all(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "T" for child in children)


def train_in_two_processes(scene: Scene, moment: Moment | None, act: OnRank) -> None:
    """Train in two processes, of which one is hit.

    Raises:
        WrongEndError: One of the others did not end by itself, within the limit and with an error; or the one that is
            hit ended in another way than its fault tells.
        RunError: What the others ended with.
    """
    codes, errors = in_two_processes(lambda: scene.train(moment, act), scene.folder)
    wrong = [
        f"process {rank} ended with {code}, not {expected} (None: not within {MOST_SECONDS} seconds): {error}"
        for rank, (code, error) in enumerate(zip(codes, errors, strict=True))
        for expected in [act.ends if rank == act.rank else 1]
        if code != expected or (expected == 1 and not error)
    ]
    hit, others = errors[act.rank], [error for rank, error in enumerate(errors) if rank != act.rank]
    wrong += [f"process {act.rank} does not say {text!r}: {hit}" for text in act.says if not re.search(text, hit)]
    if wrong:
        raise WrongEndError("\n".join(wrong))
    raise RunError("\n".join(others))


def train_two_runs(scene: Scene, moment: Moment | None, act: Act) -> None:
    """Start two runs in one folder, that go through their epochs side by side.

    Raises:
        RunError: One did not end as it would have alone.
    """
    step = multiprocessing.get_context("fork").Barrier(2)
    seeds = (0, 1)

    class Together(Injecting):
        def reached(self, hook: str) -> None:
            if hook in ("epoch starts", "validation ends", "epoch saved"):
                step.wait(MOST_SECONDS)
            super().reached(hook)

    def run(seed: int) -> None:
        alone = scene.job.start(scene.folder / f"alone {seed}", seed=seed)
        together = scene.job.start(scene.run, seed=seed, knife=Together(scene, moment, act))
        found = differences(dict(alone.module.state_dict()), dict(together.module.state_dict()))
        found += differences(best_weights(alone), best_weights(together))
        step.wait(MOST_SECONDS)
        resumed = scene.job.start(scene.run, ckpt_path=together.trainer.checkpoint_callback.best_model_path)
        found += differences(dict(alone.module.state_dict()), dict(resumed.module.state_dict()))
        if found:
            raise RunError("\n".join(found))

    logs = [scene.folder / f"run{seed}.txt" for seed in seeds]
    codes = _wait([_fork(lambda seed=seed: run(seed), log) for seed, log in zip(seeds, logs, strict=True)])
    if any(code != 0 for code in codes.values()):
        raise RunError("\n".join(log.read_text() for log in logs if log.exists()) or f"{codes}")
