"""What is done to a run: to its files, its process, its metrics and its clock."""

from __future__ import annotations

import ctypes
import errno
import io
import itertools
import os
import pickle
import resource
import shutil
import signal
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.callbacks import Callback

from fault_scene import JOB, Scene
from resuming import STEPS_PER_EPOCH, Moment, Outcome

EVERY_STEP = replace(JOB, recovery={"every_n_train_steps": 1})
BY_EPOCHS = replace(
    JOB,
    schedule={
        0: {"params": ["head.*"], "max_transition_epoch": 2},
        1: {"params": ["layers.[12].*"], "max_transition_epoch": 4},
        2: {"params": ["layers.0.*"], "max_transition_epoch": 6},
    },
    epoch_transitions_only=True,
    val_losses=(),  # the real ones
)
LINKING = replace(JOB, checkpoint={"save_last": "link"})


#: Seconds after which a process that waits for another one must have stopped.
MOST_SECONDS = 30


class FireError(Exception):
    """What goes wrong in the code of others."""


def nothing(scene: Scene) -> None:
    """Do nothing: the fault lies in the job."""


def fail(scene: Scene) -> None:
    raise FireError("the disk is on fire")


# -- saving --------------------------------------------------------------------------------------------------------


def fill_disk(scene: Scene) -> None:
    """Leave no room in the file system of the run."""
    _fill(scene, 0)


def fill_disk_after_one_checkpoint(scene: Scene) -> None:
    """Leave room for one checkpoint and a half."""
    _fill(scene, scene.best.stat().st_size * 3 // 2)


def _fill(scene: Scene, room: int) -> None:
    ballast = os.open(scene.run / "ballast", os.O_CREAT | os.O_WRONLY)
    size = 1 << 16
    while size:
        try:
            os.write(ballast, bytes(size))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017
            size //= 2
    os.ftruncate(ballast, os.fstat(ballast).st_size - room)
    os.close(ballast)
    scene.spoil(scene.run / "ballast")


def limit_file_size(size: int) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        scene.note_before()  # nothing more can be written
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        scene.at_end(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return act


def limit_open_files(scene: Scene) -> None:
    scene.note_before()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    scene.at_end(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
    free = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))


def failing(name: str) -> Callable[[Scene], None]:
    """Let a call of the operating system fail from now on."""

    def act(scene: Scene) -> None:
        works, number = getattr(os, name), {"fsync": errno.EIO, "replace": errno.EBUSY}[name]

        def fails(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        scene.at_end(lambda: setattr(os, name, works))
        setattr(os, name, fails)

    return act


def forbid_writing(scene: Scene) -> None:
    folders = [scene.run / "best", scene.run / "recovery"]
    for folder in folders:
        folder.chmod(0o500)
        scene.at_end(lambda folder=folder: folder.chmod(0o700))
    drop_rights()


def forbid_writing_to_run(scene: Scene) -> None:
    scene.run.chmod(0o500)
    scene.at_end(lambda: scene.run.chmod(0o700))
    drop_rights()


def forbid_reading_best(scene: Scene) -> None:
    scene.best.chmod(0)
    scene.at_end(lambda path=scene.best: path.chmod(0o600))
    drop_rights()


def drop_rights() -> None:
    """Let permissions hold for this process, even if it is root's: it gives up the capabilities to override them."""
    if os.geteuid() == 0:
        # struct __user_cap_header_struct, and two of __user_cap_data_struct: capset(2)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.capget(header, data):
            raise OSError(ctypes.get_errno(), "capget")
        data[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, in the effective set
        if libc.capset(header, data):
            raise OSError(ctypes.get_errno(), "capset")


def remount_read_only(scene: Scene) -> None:
    from fault_processes import mount

    scene.note_before()
    mount(None, scene.run, flags="remount read-only")
    scene.at_end(lambda: mount(None, scene.run, flags="remount"))


def put_file_for_folder(scene: Scene) -> None:
    folder = scene.run / "recovery"
    for path in folder.iterdir():
        scene.spoil(path)
    scene.note_before()
    shutil.rmtree(folder)
    folder.write_text("a file")
    scene.at_end(folder.unlink)


def put_unpicklable(scene: Scene) -> None:
    class Odd(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"function": lambda: None}

    scene.trainer.callbacks.append(Odd())


def half_written(number: int, name: str) -> Callable[[Scene], None]:
    """Send a signal when half of the checkpoint of that number is written."""

    def act(scene: Scene) -> None:
        save, calls = torch.save, itertools.count()

        def replaced(checkpoint: Any, file: Any) -> None:
            if next(calls) == number:
                whole = io.BytesIO()
                save(checkpoint, whole)
                file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
                file.flush()
                scene.note_before()
                os.kill(os.getpid(), getattr(signal, name))
            save(checkpoint, file)

        torch.save = replaced

    return act


def exhaust_memory(scene: Scene) -> None:
    add = torch.optim.Optimizer.add_param_group

    def fails(*_: Any) -> None:
        raise MemoryError

    torch.optim.Optimizer.add_param_group = fails  # type: ignore[method-assign]  # for the rest of this process
    scene.at_end(lambda: setattr(torch.optim.Optimizer, "add_param_group", add))


# -- files ---------------------------------------------------------------------------------------------------------


def truncate(path: Path, part: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def flip_bit(path: Path, member: str) -> None:
    """Flip one bit in the middle of a member of the archive."""
    with path.open("r+b") as file:
        _flip_bit_at(file, _middle_of(file, member))


def flip_bit_of_shard(folder: Path, name: str) -> None:
    """Flip one bit in the middle of a tensor in a folder of shards."""
    index = pickle.loads((folder / ".metadata").read_bytes())  # noqa: S301  # the test has written it
    place = next(info for at, info in index.storage_data.items() if at.fqn == name)
    with (folder / place.relative_path).open("r+b") as file:
        file.seek(place.offset)
        archive = io.BytesIO(file.read(place.length))
        _flip_bit_at(file, place.offset + _middle_of(archive, "data/0"))


def _middle_of(file: IO[bytes], member: str) -> int:
    with zipfile.ZipFile(file) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(member) and info.file_size)
        with archive.open(info):
            return (archive.fp.tell() if archive.fp else 0) + info.file_size // 2


def _flip_bit_at(file: IO[bytes], place: int) -> None:
    file.seek(place)
    byte = file.read(1)[0]
    file.seek(place)
    file.write(bytes([byte ^ 4]))


def truncate_best(part: float) -> Callable[[Scene], None]:
    return lambda scene: truncate(scene.spoil(scene.best), part)


def flip_bit_of_best(member: str) -> Callable[[Scene], None]:
    return lambda scene: flip_bit(scene.spoil(scene.best), member)


def replace_best_by_folder(scene: Scene) -> None:
    path = scene.spoil(scene.best)
    path.unlink()
    path.mkdir()
    (path / "something").write_text("of the user")


def delete_best(scene: Scene) -> None:
    scene.spoil(scene.best).unlink()


def replace_best_by_text(scene: Scene) -> None:
    scene.spoil(scene.best).write_text("<html>404</html>")


def replace_best_by_other(kind: str) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        path = scene.spoil(scene.best)
        checkpoint = torch.load(path, weights_only=True)
        if kind == "module":
            checkpoint["state_dict"] = {"other.weight": torch.ones(3)}
        else:
            checkpoint["callbacks"] = {}
        torch.save(checkpoint, path)

    return act


def delete_run(scene: Scene) -> None:
    for path in scene.run.rglob("*"):
        scene.spoil(path)
    shutil.rmtree(scene.run)


def truncate_newest(scene: Scene) -> None:
    truncate(scene.spoil(scene.recovery[0]), 0.5)


def flip_bit_of_newest(scene: Scene) -> None:
    flip_bit(scene.spoil(scene.recovery[0]), "data/0")


def replace_newest_by_folder(scene: Scene) -> None:
    path = scene.spoil(scene.recovery[0])
    path.unlink()
    path.mkdir()


def delete_newest(scene: Scene) -> None:
    scene.spoil(scene.recovery[0]).unlink()


# -- the process ---------------------------------------------------------------------------------------------------


def send(name: str) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        scene.note_before()
        os.kill(os.getpid(), getattr(signal, name))

    return act


@dataclass(frozen=True)
class OnRank:
    """Acts in one of several processes."""

    rank: int
    act: Callable[[Scene], None]
    ends: int | None
    """How that process ends: its exit code, the negative number of a signal, or ``None`` if it stays stopped."""
    says: tuple[str, ...] = ()
    """What its error says, if it ends with one."""
    otherwise: Callable[[Scene], None] = nothing
    """What is done in the others."""

    def __call__(self, scene: Scene) -> None:
        (self.act if scene.trainer.global_rank == self.rank else self.otherwise)(scene)


def log_together_and_fail(scene: Scene) -> None:
    """Log a metric that all processes must reduce together when somebody asks for it, and fail before that."""
    scene.trainer.lightning_module.log("late", 1.0, sync_dist=True)
    fail(scene)


def be_elsewhere(scene: Scene) -> None:
    """Log that metric, too, and take part in nothing until the run of the first process is over."""
    scene.trainer.lightning_module.log("late", 1.0, sync_dist=True)
    deadline = time.monotonic() + MOST_SECONDS
    while not scene.has_ended(rank=0) and time.monotonic() < deadline:
        time.sleep(0.01)


# -- metrics and the clock -----------------------------------------------------------------------------------------


def lose_numbers(scene: Scene) -> None:
    scene.trainer.lightning_module._val_losses = [float("nan")]


def has_best_of_before(outcome: Outcome) -> bool:
    """Whether the best checkpoint is that of before the last epoch, in which the metric was no number."""
    losses = JOB.val_losses[: outcome.trainer.global_step // STEPS_PER_EPOCH - 1]
    best = min(range(len(losses)), key=losses.__getitem__)
    name = f"epoch={best}-step={STEPS_PER_EPOCH * (best + 1)}.ckpt"
    return Path(outcome.trainer.checkpoint_callback.best_model_path).name == name


def poison_weights(scene: Scene) -> None:
    with torch.no_grad():
        scene.trainer.lightning_module.head.weight.fill_(float("nan"))


def is_finite(outcome: Outcome) -> bool:
    return all(bool(value.isfinite().all()) for value in outcome.module.state_dict().values())


def were_restored_finite(outcome: Outcome) -> bool:
    """Whether the weights were not finite at the end of phase 0, and finite in every batch of the next ones."""
    finite = outcome.knife.seen.finite
    in_batches = [value for (hook, step), value in finite.items() if hook == "batch starts" and step >= 4]
    return not finite["epoch saved", 4] and len(in_batches) == 8 and all(in_batches)


def log_nothing(*, from_epoch: int, to_epoch: int = 99) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        module = scene.trainer.lightning_module
        log = module.log

        def unless_missing(name: str, *arguments: Any, **options: Any) -> None:
            missing = from_epoch <= module.current_epoch < to_epoch
            log("another_loss" if missing else name, *arguments, **options)

        module.log = unless_missing

    return act


def turn_clock_back_and_kill(scene: Scene) -> None:
    turn_clock_back(scene)
    scene.knife.act_next(Moment("epoch saved", 0), send("SIGKILL"))


def turn_clock_back(scene: Scene) -> None:
    """Let the clock go back by an hour at every look, and date every file by it."""
    now, looks = time.time(), itertools.count(1)
    replace_file = os.replace
    time.time = lambda: now - 3600 * next(looks)  # type: ignore[assignment]  # for the rest of this process

    def dated(source: Any, target: Any) -> None:
        if not os.path.islink(source):  # noqa: PTH114 - what is given may be text
            os.utime(source, (time.time(),) * 2)
        replace_file(source, target)

    os.replace = dated
