"""Saves checkpoints so that a file is there whole or not at all, and stays when the machine goes down.

Lightning writes to the system's temporary folder and moves the file from there. Between two file systems a move is a
copy, and a process that is killed while it copies leaves half a checkpoint in place of a whole one.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import torch
from lightning.fabric.plugins import TorchCheckpointIO

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

__all__ = ["AtomicCheckpointIO", "claim_path", "draft_of", "is_local", "replace_link", "saving_atomically"]

_DRAFT_SUFFIX: Final = ".phasewire-draft"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints beside their place, makes sure they are on the disk, and only then renames them.

    Everything else is as in Lightning's own plug-in, remote files included.
    """

    # Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: object = None
    ) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: What to save.
            path: The file to write; its folder is made when it is missing.
            storage_options: Refused by Lightning's plug-in.
        """
        if storage_options is not None or not is_local(path):
            super().save_checkpoint(checkpoint, os.fspath(path), storage_options)
            return
        target = Path(path).expanduser()
        with draft_of(target) as draft:
            torch.save(checkpoint, draft)


@contextmanager
def saving_atomically(strategy: Strategy) -> Iterator[None]:
    """Let a strategy save by :class:`AtomicCheckpointIO`, where it would save by Lightning's default plug-in.

    A plug-in of the user stays: it knows where and how its checkpoints are kept.

    Args:
        strategy: The strategy of the running Trainer.
    """
    plugin = strategy.checkpoint_io
    if type(plugin) is not TorchCheckpointIO:
        yield
        return
    strategy.checkpoint_io = AtomicCheckpointIO()
    try:
        yield
    finally:
        strategy.checkpoint_io = plugin


def is_local(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path names a file of this machine, in the way of the operating system.

    Args:
        path: A path or an address.

    Returns:
        ``False`` for every address, that of a local file included.
    """
    return "://" not in os.fspath(path) and "::" not in os.fspath(path)


def replace_link(link: Path, target: Path) -> None:
    """Make a symbolic link, or a copy where links are not allowed, with no moment at which there is none.

    Args:
        link: The link, which may exist.
        target: The file to point to; the link names it relative to its own folder.
    """
    draft = _draft_path(link)
    try:
        try:
            draft.symlink_to(os.path.relpath(target, link.parent))
        except OSError:
            # Windows has symbolic links for administrators only.
            draft.write_bytes(target.read_bytes())
        draft.replace(link)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_of(target: Path) -> Iterator[BufferedWriter]:
    """Write a file beside its place, make sure it is on the disk, and only then rename it.

    What a process left behind that was killed while it wrote this file is removed.

    Args:
        target: The file; its folder is made when it is missing.

    Yields:
        The file to write to. If the block fails, nothing of it stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    file, path = _new_draft(target)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":
                path.replace(target)  # while it is held: until then another process may take it for left over
        if sys.platform == "win32":
            path.replace(target)  # an open file cannot be renamed
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _new_draft(target: Path) -> tuple[BufferedWriter, Path]:
    """Open a draft and hold it; another process may take it for left over until it is held."""
    while True:
        path = _draft_path(target)
        file = path.open("xb")
        _hold(file)
        if path.exists():
            return file, path
        file.close()


def claim_path(target: Path) -> Path:
    """Give the file that a process locks to claim a name; if it is left over, the next save of the name removes it.

    Args:
        target: The file that will be saved.

    Returns:
        A hidden name beside it.
    """
    return target.with_name(f"{_draft_prefix(target)}claim{_DRAFT_SUFFIX}")


def _draft_path(target: Path) -> Path:
    return target.with_name(f"{_draft_prefix(target)}{uuid.uuid4().hex}{_DRAFT_SUFFIX}")


def _draft_prefix(target: Path) -> str:
    # Lightning takes every file whose name holds "hpc_ckpt_" for a checkpoint to resume from.
    return f".{target.name.replace('_ckpt_', '-ckpt-')}."


def _remove_leftovers(target: Path) -> None:
    """Remove what a process that was killed while it saved this file has left."""
    prefix = _draft_prefix(target)
    for path in target.parent.iterdir():
        if path.name.startswith(prefix) and path.name.endswith(_DRAFT_SUFFIX):
            _remove_if_abandoned(path)


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file last: it stands in the folder, not in the file."""
    with suppress(PermissionError):  # a folder one may write to but not read; Windows, which opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


if sys.platform == "win32":

    def _hold(file: IO[bytes]) -> None:
        """Do nothing: an open file cannot be removed."""

    def _remove_if_abandoned(path: Path) -> None:
        with suppress(OSError):  # it is open
            path.unlink()

else:
    import fcntl

    def _hold(file: IO[bytes]) -> None:
        """Let other processes know that the file is being written, as long as this one lives.

        One that just looks whether it is left over holds it for a moment, and removes it before it lets go.
        """
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)

    def _remove_if_abandoned(path: Path) -> None:
        # An error says that it is being written, or was just removed, or that nobody can tell.
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()  # while it is held: its writer may be about to hold it
