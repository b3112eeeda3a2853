"""The files of checkpoint callbacks: where those of an earlier run are, and which of them are of use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from phasewire.app.atomic_save import is_local

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = ["may_be_replaced", "newest_link", "relocated"]


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
    if checkpoint.get("global_step") != step or checkpoint.get("state_dict", {}).keys() != weights.keys():
        return False
    return all(_same(checkpoint["state_dict"][name], value) for name, value in weights.items())


def _same(saved: object, present: object) -> bool:
    if isinstance(saved, torch.Tensor) and isinstance(present, torch.Tensor):
        return saved.dtype == present.dtype and torch.equal(saved, present.cpu())
    return type(saved) is type(present) and not isinstance(saved, torch.Tensor) and bool(saved == present)
