"""Keeps the best checkpoints that a checkpoint to resume from still names.

A checkpoint callback removes a best checkpoint as soon as it has saved a better one. The newest checkpoint of another
callback, or ``last.ckpt``, may be older than that: it still names the removed file, and a run that resumes from it
would have nothing to restore when a phase ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import ModelCheckpoint

from phasewire.app.atomic_save import is_local
from phasewire.app.lightning_seams import last_saved
from phasewire.app.trainer_attributes import callbacks_of

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = ["KeptFiles"]

Remove = Callable[[str], object]


class KeptFiles:
    """Puts off the removal of files until no checkpoint to resume from names them.

    Those are, of every checkpoint callback, the file it saved last and the one it calls last; and the one that the fit
    resumed from, until every other callback has saved one of its own.
    """

    def __init__(self) -> None:
        self._trainer: pl.Trainer | None = None
        self._best: ModelCheckpoint | None = None
        self._named_in: dict[str, frozenset[str]] = {}
        self._put_off: dict[str, str] = {}
        self._best_so_far: set[str] = set()
        self._origin: str | None = None
        self._resumed_from: str | None = None
        self._saved: set[str] = set()

    @property
    def put_off(self) -> list[str]:
        """The files that are still there and are to be removed, as a checkpoint that is being saved records them."""
        # A file gives way to a better one before the better one is saved, and is removed after.
        return sorted((self._best_so_far | self._put_off.keys()) - self._named_now() - {self._origin or ""})

    def begin(self, trainer: pl.Trainer, best: ModelCheckpoint | None) -> None:
        """Act when a fit begins; before, every file is removed at once.

        Args:
            trainer: The Trainer that fits.
            best: The callback whose files are kept.
        """
        self._trainer, self._best = trainer, best

    def resume(self, checkpoint: str | os.PathLike[str], put_off: Iterable[str]) -> None:
        """Act when training resumes, the state of the callbacks restored.

        Args:
            checkpoint: What the fit resumed from.
            put_off: :attr:`put_off`, when it was saved.
        """
        self._origin = self._resumed_from = _key(checkpoint)
        named = self._named_in[self._resumed_from] = self._named_now()
        self._best_so_far.update(named)
        folder = None if self._best is None or self._best.dirpath is None else _key(self._best.dirpath)
        for path in put_off:
            # As in Lightning: files elsewhere, and the one that was resumed from, are not the run's to remove.
            if os.path.dirname(_key(path)) == folder and _key(path) not in (self._resumed_from, *named):  # noqa: PTH120
                # As it was looked at: "link/../file" is a file beside what the link points to.
                self._put_off[_key(path)] = _key(path)

    def has_saved(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether this run has saved a checkpoint at a place, whatever has become of it.

        Args:
            path: The place.
        """
        return _key(path) in self._saved

    def note_saved(self, path: str | os.PathLike[str], remove: Remove) -> None:
        """Note a checkpoint that was saved just now.

        Args:
            path: Where it is.
            remove: Removes a file.
        """
        self._saved.add(_key(path))
        self._put_off.pop(_key(path), None)
        self._named_in[_key(path)] = self._named_now()
        self._best_so_far.update(self._named_now())
        self.release(remove)

    def remove(self, path: str | os.PathLike[str], remove: Remove) -> None:
        """Remove a file, or put that off.

        Args:
            path: The file.
            remove: Removes a file.
        """
        self._put_off[_key(path)] = os.fspath(path)
        self.release(remove)

    def release(self, remove: Remove, *, is_over: bool = False) -> None:
        """Remove the files that are no longer needed.

        Args:
            remove: Removes a file.
            is_over: The training has come to its end, so that none is needed for a resume.
        """
        resumable = () if is_over else self._resumable()
        needed = frozenset(name for path in resumable for name in self._needed_by(path))
        for key in self._put_off.keys() - needed:
            self._named_in.pop(key, None)
            self._best_so_far.discard(key)
            remove(self._put_off.pop(key))

    def _resumable(self) -> Iterator[str]:
        present = [] if self._trainer is None else callbacks_of(self._trainer)
        callbacks = [callback for callback in present if isinstance(callback, ModelCheckpoint)]
        for callback in callbacks:
            yield from (_key(path) for path in (last_saved(callback), callback.last_model_path) if path)
        others = [callback for callback in callbacks if callback is not self._best] or callbacks
        if self._resumed_from is not None:
            if all(_key(last_saved(callback)) in self._named_in for callback in others):
                self._resumed_from = None
            else:
                yield self._resumed_from

    def _needed_by(self, path: str) -> Iterable[str]:
        linked = _key(os.path.realpath(path)) if is_local(path) and Path(path).is_symlink() else None
        named = self._named_in.get(linked or path, frozenset()) - {path}
        return named if linked is None else named | {linked}

    def _named_now(self) -> frozenset[str]:
        if self._best is None:
            return frozenset()
        return frozenset(_key(path) for path in (self._best.best_model_path, *self._best.best_k_models) if path)


def _key(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path) if is_local(path) and os.fspath(path) else os.fspath(path)  # noqa: PTH100  # no "~"
