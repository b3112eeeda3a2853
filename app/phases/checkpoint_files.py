"""The files of checkpoint callbacks: where those of an earlier run are, and which of them are of use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from phasewire.app.atomic_save import is_local
from phasewire.app.lightning_seams import last_saved
from phasewire.app.name_claims import NameClaims
from phasewire.app.phases.pending_saves import finish_saves, saves_files_later
from phasewire.app.trainer_attributes import callbacks_of

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.fabric.plugins import CheckpointIO

__all__ = ["FileNames", "may_be_replaced", "newest_link", "relocated"]


class FileNames:
    """The names of the files that a checkpoint callback saves, beside other runs that save in the same folder.

    Lightning looks whether a name is free, and saves a while later. Two runs that do so at once would take one name,
    and restore each other's weights.
    """

    def __init__(self) -> None:
        self._claims = NameClaims()
        self._there_before: frozenset[str] = frozenset()
        self._own: set[str] = set()
        self._awaited: set[str] = set()
        self._warned = False

    def begin(self, folder: str | os.PathLike[str] | None) -> None:
        """Note what is there when a fit begins.

        Args:
            folder: The folder of the callback.
        """
        local = folder is not None and is_local(folder) and Path(folder).is_dir()
        self._there_before = frozenset(os.listdir(folder) if local else ())  # noqa: PTH208  # their names alone
        self._warned = False

    def is_free(
        self,
        path: str | os.PathLike[str],
        trainer: pl.Trainer,
        exists: Callable[[], bool],
        *,
        is_saved: Callable[[], bool],
    ) -> bool:
        """Tell whether a name can be taken, and keep it for this process until :meth:`release`; call it on all ranks.

        Args:
            path: The name.
            trainer: The running Trainer.
            exists: Whether the file is there and must stay.
            is_saved: Whether this run has saved a file of that name.

        Returns:
            Whether it is free.
        """
        name = os.fspath(path)
        if trainer.strategy.reduce_boolean_decision(name in self._awaited, all=False):
            return False
        refused = trainer.is_global_zero and not self._claims.claim(name)
        taken = trainer.strategy.reduce_boolean_decision(refused, all=False)
        if not taken and not exists():
            self._own.add(name)
            return True
        self._claims.release(name)
        if taken or (self._is_foreign(name, trainer) and not is_saved()):
            self._warn(name)
        return False

    def release(self, checkpoint_io: CheckpointIO) -> None:
        """Let other processes have the names whose files are saved now, or never will be.

        Args:
            checkpoint_io: That of the strategy: a name whose file it writes later is kept until the file is there.
        """
        later = saves_files_later(checkpoint_io)
        self._awaited = {name for name in self._claims.held if later and not Path(name).exists()}
        for name in self._claims.held:
            if name not in self._awaited:
                self._claims.release(name)

    def end(self, checkpoint_io: CheckpointIO) -> None:
        """Let other processes have all names, when the files are there.

        Args:
            checkpoint_io: That of the strategy.
        """
        if self._awaited:
            with suppress(Exception):  # the plugin raises it again when the Trainer is torn down
                finish_saves(checkpoint_io)
        self._awaited = set()
        self._claims.release()

    def _is_foreign(self, name: str, trainer: pl.Trainer) -> bool:
        if not trainer.is_global_zero or name in self._own or Path(name).name in self._there_before:
            return False
        callbacks = (callback for callback in callbacks_of(trainer) if isinstance(callback, ModelCheckpoint))
        return not any(
            name in (last_saved(callback), callback.last_model_path, *callback.best_k_models) for callback in callbacks
        )

    def _warn(self, name: str) -> None:
        if self._warned:
            return
        self._warned = True
        rank_zero_warn(
            f"Another run saves checkpoints in the same folder, at the same time: {name} is not this run's. This run "
            "gives its file another name, so nothing is lost; but give each run a folder of its own "
            "(FTSCheckpoint(dirpath=...)), lest one resumes from a checkpoint of the other."
        )


# Any: the values of a callback's state are of several types.
def relocated(state: Mapping[str, Any], folder: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Find the files that the state of a checkpoint callback names, where its folder was moved.

    Args:
        state: The state of a ``ModelCheckpoint``.
        folder: The folder that the callback writes to now.

    Returns:
        The state, with every file that is gone but stands in the folder under its name named there. Paths hold no "..":
        Lightning removes what seems to be below the folder, and a file may name any path.
    """

    def found(path: str) -> str:
        path = os.path.abspath(path) if path and is_local(path) else path  # noqa: PTH100  # Path keeps ".."
        if not path or folder is None or Path(path).exists():
            return path
        moved = Path(folder) / Path(path).name
        return str(moved) if moved.exists() else path

    paths = ("best_model_path", "kth_best_model_path", "last_model_path")
    named = {key: found(state[key]) for key in paths if key in state}
    models = {found(path): score for path, score in state.get("best_k_models", {}).items()}
    return {**state, **named, "best_k_models": models}


def newest_link(folder: str | os.PathLike[str], files: Iterable[str]) -> str:
    """Find the newest symbolic link in a folder that points to one of some files.

    Args:
        folder: The folder of the links.
        files: Where they may point to.

    Returns:
        The link; empty if there is none.
    """
    wanted = list(files)
    links = [path for path in Path(folder).iterdir() if _links_to(path, wanted)] if Path(folder).is_dir() else []
    return str(max(links, key=lambda path: path.lstat().st_mtime_ns)) if links else ""


def may_be_replaced(path: str | os.PathLike[str], files: Iterable[str], trainer: pl.Trainer) -> bool:
    """Tell whether a file can be written over without a loss; call it on all ranks.

    Args:
        path: A file that exists.
        files: The best checkpoints of the run.
        trainer: The running Trainer.

    Returns:
        Whether it is a link to one of the run's own checkpoints, or holds the very weights that would be saved now: it
        is of this step, and they are the same bit by bit.
    """
    present = trainer.strategy.lightning_module_state_dict()
    answer = trainer.is_global_zero and (_links_to(path, files) or _holds(path, trainer.global_step, present))
    return bool(trainer.strategy.broadcast(answer))


def _links_to(link: str | os.PathLike[str], files: Iterable[str]) -> bool:
    return Path(link).is_symlink() and os.path.realpath(link) in map(os.path.realpath, files)


def _holds(path: str | os.PathLike[str], step: int, weights: Mapping[str, Any]) -> bool:
    if not Path(path).is_file():
        return False  # remote, or a folder of shards
    try:
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception:  # noqa: BLE001  # whatever it is, it is not known to be ours, and stays
        return False
    saved = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(saved, dict) or checkpoint.get("global_step") != step or saved.keys() != weights.keys():
        return False
    return all(_same(saved[name], value) for name, value in weights.items())


def _same(saved: object, present: object) -> bool:
    if isinstance(saved, torch.Tensor) and isinstance(present, torch.Tensor):
        return saved.dtype == present.dtype and torch.equal(saved, present.cpu())
    return type(saved) is type(present) and not isinstance(saved, torch.Tensor) and bool(saved == present)
