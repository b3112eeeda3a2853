"""Reports what goes wrong while a checkpoint is read or written: which one, why, and what to do."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from phasewire.adapters.errors import CheckpointError, PhasewireError
from phasewire.adapters.unpickling import is_of_torch, refused_by_torch

__all__ = ["readable", "writable"]


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
    except pickle.UnpicklingError as error:
        if not is_of_torch(path, error):
            raise _unreadable("torch.save has not written it", path) from error
        raise CheckpointError(
            f"The checkpoint holds more than tensors and plain values: {refused_by_torch(error)}",
            where=path,
            remedy="None of it was loaded, because reading such objects may run code. If you trust the file, give "
            "weights_only=False to the Trainer beside ckpt_path, name their classes by "
            "torch.serialization.add_safe_globals([...]), or set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1.",
        ) from error
    except Exception as error:
        raise _unreadable(f"{type(error).__name__}: {error}", path) from error


def _unreadable(reason: str, path: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint cannot be read ({reason}).",
        where=path,
        remedy="Give a checkpoint that is there and whole. Between phases it is the best one; it must stay until the "
        "run is over.",
    )


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
