"""Reports what goes wrong while a checkpoint is read or written: which one, why, and what to do."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from phasewire.adapters.errors import CheckpointError, PhasewireError
from phasewire.adapters.unpickling import refused_by_torch

__all__ = ["fitting_optimizer", "readable", "require_dict", "require_optimizer_states", "require_version", "writable"]

_VERSION_KEY: Final = "pytorch-lightning_version"
_MOST_SHOWN: Final = 5
#: How torch 2.13 begins what it says of subclasses of dict and list, which it fills whatever they are allowed to be.
_CANNOT_BE_FILLED: Final = ("Can only SETITEM", "Can only append", "Can only extend")


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Say which checkpoint could not be read, why, and what to do.

    Args:
        path: The checkpoint, for the message.

    Yields:
        While it is read.

    Raises:
        CheckpointError: It could not be read; the cause is chained.
    """
    try:
        yield
    except PhasewireError:
        raise
    except Exception as error:
        refused = refused_by_torch(error)
        if refused and refused.startswith(_CANNOT_BE_FILLED):
            raise CheckpointError(
                f"The checkpoint holds an object that torch reads from no file that is not trusted: {refused}",
                where=path,
                remedy="Keep a plain dict or list in its place, as save_hyperparameters(options=dict(options)) does. "
                "What was saved can be gone on from by fit(ckpt_path=..., weights_only=False), if you trust it.",
            ) from error
        if refused:
            raise CheckpointError(
                f"The checkpoint holds more than tensors and plain values: {refused}",
                where=path,
                remedy="None of it was loaded, because reading such objects may run code. If you trust the file, give "
                "weights_only=False to the Trainer beside ckpt_path, name their classes and functions by "
                "torch.serialization.add_safe_globals([...]), or set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1.",
            ) from error
        # torch's own text on bytes that are no pickle ends in the advice to load them with weights_only=False.
        is_no_pickle = isinstance(error, pickle.UnpicklingError)
        reason = "it is no checkpoint of torch, or damaged" if is_no_pickle else f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"The checkpoint cannot be read ({reason}).",
            where=path,
            remedy="Give a checkpoint that is there and whole. Between phases it is the best one; it must stay until "
            "the run is over.",
        ) from error


def require_dict(content: object, path: str) -> None:
    """Refuse a file that holds something else than a checkpoint.

    Args:
        content: What was read.
        path: The file, for the message.

    Raises:
        CheckpointError: It is no dict.
    """
    if not isinstance(content, dict):
        raise CheckpointError(
            f"The file holds a {type(content).__name__}, and a checkpoint is a dict.",
            where=path,
            remedy="Give a checkpoint that a Trainer has written.",
        )


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def require_version(checkpoint: Mapping[str, Any], path: str) -> None:
    """Refuse what Lightning, which asks every checkpoint for its version, would tell nothing of but that key.

    Args:
        checkpoint: The whole checkpoint, as the adapter gave it back.
        path: The file, for the message.

    Raises:
        CheckpointError: It has no version.
    """
    if _VERSION_KEY not in checkpoint:
        keys = ", ".join(map(repr, list(checkpoint)[:_MOST_SHOWN])) or "nothing"
        raise CheckpointError(
            f"The file is no checkpoint of Lightning: it has no {_VERSION_KEY!r}. It holds: {keys}.",
            where=path,
            remedy="A plain state dict becomes one by 'phasewire checkpoint convert FILE start.ckpt --to canonical'.",
        )


# Any: as above.
def require_optimizer_states(checkpoint: Mapping[str, Any], count: int, path: str | None) -> None:
    """Refuse a checkpoint that has not the state of each optimizer: Lightning loads as many as there are.

    Args:
        checkpoint: The whole checkpoint.
        count: How many optimizers the run has.
        path: The file, for the message; ``None`` when unknown.

    Raises:
        CheckpointError: It has fewer states, or more.
    """
    states = checkpoint.get("optimizer_states") or ()
    if len(states) != count:
        raise CheckpointError(
            f"The checkpoint holds states of {len(states)} optimizers, and the run has {count}: training would go on "
            "from another state than the one it was saved in.",
            where=path,
            remedy="The file was changed after it was written, so use one that is as it was. To start anew from its "
            "weights, load them into the module before fit, without ckpt_path.",
        )


@contextmanager
def fitting_optimizer(path: str | None) -> Iterator[None]:
    """Say which checkpoint has a state that the optimizer cannot take, why, and what to do.

    Args:
        path: The checkpoint, for the message; ``None`` when unknown.

    Yields:
        While the state is given to the optimizer.

    Raises:
        CheckpointError: The optimizer refused it; the cause is chained.
    """
    try:
        yield
    except PhasewireError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"The state of the optimizer cannot be restored ({type(error).__name__}: {error}).",
            where=path,
            remedy="The file was changed after it was written, or configure_optimizers makes another optimizer than "
            "it did then. Use a checkpoint that is as it was written, with the module that wrote it.",
        ) from error


@contextmanager
def writable(path: str) -> Iterator[None]:
    """Say which checkpoint could not be written, why, and what to do.

    Args:
        path: The checkpoint, for the message.

    Yields:
        While it is written.

    Raises:
        CheckpointError: It could not be written; the cause is chained.
    """
    try:
        yield
    except PhasewireError:
        raise
    except Exception as error:
        # torch reports a full disk as "unexpected pos 832 vs 726", with what the system said as the context.
        refused = next((each for each in _chain(error) if isinstance(each, OSError)), None)
        reason = f"{type(error).__name__}: {error}" if refused is None else f"{type(refused).__name__}: {refused}"
        mend = (
            "Remove from the state of the module, the callbacks or the data what cannot be pickled"
            if refused is None
            else "Make room on the disk, or give back the right to write there"
        )
        raise CheckpointError(
            f"The checkpoint cannot be written ({reason}).",
            where=path,
            remedy=f"{mend}. What was saved before is as it was: resume from the newest checkpoint with "
            "fit(ckpt_path=...).",
        ) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
