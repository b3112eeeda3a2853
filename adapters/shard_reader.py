"""Reads folders of shards without running what may be in them.

torch reads the index of such a folder, and the values in it that are no tensors, with ``pickle``, which runs any code
that a file asks for. Here the index may name the classes that indexes are made of and no others, the values are read
only if ``torch.load(weights_only=True)`` takes them, and the index may name no file outside of the folder.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import StorageMeta

from phasewire.adapters.checksums import FileSlice, damaged_member
from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.lightning_seams import SHARD_INDEX, SHARD_INDEX_CLASSES
from phasewire.adapters.unpickling import refused_by_torch

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
    from torch.futures import Future

__all__ = ["ShardReader", "reading_shards"]

_CHANGED = (
    "The index tells which tensor stands in which file of the folder. Another program has changed it since it was "
    "written, or it is damaged; nothing was loaded. Use another checkpoint of the run, or a copy of this one."
)


class ShardReader(FileSystemReader):
    """Reads the shards of one folder.

    Args:
        folder: The folder.
        unsafe: Let values in it be any object, which may run code while it is read.
    """

    def __init__(self, folder: Path, *, unsafe: bool = False) -> None:
        super().__init__(folder)
        self._folder = folder
        self._unsafe = unsafe

    # Any: torch's own signature.
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ANN401
        """Read the index.

        Args:
            args: None.
            kwargs: The ``rank`` of which the index is asked for; there is one for all.

        Returns:
            The index.

        Raises:
            CheckpointError: It is no index, or names a file outside of the folder.
        """
        path = self._folder / SHARD_INDEX
        try:
            with path.open("rb") as file:
                metadata: Metadata = _IndexUnpickler(file).load()
            files = {storage.relative_path for storage in metadata.storage_data.values()}
        except OSError as error:
            raise CheckpointError(
                f"The index of the shards cannot be read: {error.strerror or error}.",
                where=str(path),
                remedy="Give a folder that is whole.",
            ) from error
        except Exception as error:  # bytes that were changed make anything
            raise CheckpointError(
                f"This is no index of shards ({type(error).__name__}: {error}).", where=str(path), remedy=_CHANGED
            ) from error
        outside = next((file for file in files if PurePath(file).name != file), None)
        if outside is not None:
            raise CheckpointError(
                f"The index names {outside!r}, which is no file in the folder.", where=str(path), remedy=_CHANGED
            )
        metadata.storage_meta = getattr(metadata, "storage_meta", None) or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what a process wants of the shards, once its checksums are found to be right.

        Args:
            plan: What it wants.
            planner: Takes what is read.

        Returns:
            A future that is done.

        Raises:
            CheckpointError: What was read does not have the checksum that it was written with.
        """
        self._require_undamaged(plan)
        checking = cast("LoadPlanner", _CheckingPlanner(planner))
        return super().read_data(plan, planner if self._unsafe else checking)

    def _require_undamaged(self, plan: LoadPlan) -> None:
        # torch puts what it writes one after the other, each as an archive of its own.
        wanted: dict[str, dict[tuple[int, int], str]] = {}
        for item in plan.items:
            place = self.storage_data[item.storage_index]
            wanted.setdefault(place.relative_path, {})[place.offset, place.length] = item.storage_index.fqn
        for name, parts in wanted.items():
            with (self._folder / name).open("rb") as file:
                for (begin, length), tensor in parts.items():
                    if damaged_member(io.BufferedReader(FileSlice(file, begin, length))) is not None:
                        raise CheckpointError(
                            f"The shards are damaged: {tensor!r} does not have the checksum that it was written with.",
                            where=str(self._folder / name),
                            remedy="Give another checkpoint, such as an earlier one or a copy, and have a look at the "
                            "disk.",
                        )


class _IndexUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  # a class, a function or a dtype
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in SHARD_INDEX_CLASSES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


class _CheckingPlanner:
    """A planner that is given bytes only when they hold tensors and plain values."""

    def __init__(self, planner: LoadPlanner) -> None:
        self._planner = planner

    # Any: whatever the planner has.
    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._planner, name)

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        try:
            torch.load(value, weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{read_item.dest_index.fqn} is more than tensors and plain values: {refused_by_torch(error) or error}",
                remedy="If you trust the folder, give the Trainer weights_only=False beside ckpt_path.",
            ) from error
        value.seek(0)
        self._planner.load_bytes(read_item, value)


@contextmanager
def reading_shards(folder: Path) -> Iterator[None]:
    """Make one error of what fails on any process while shards are read.

    Args:
        folder: The folder, for messages.

    Raises:
        CheckpointError: They cannot be read.
    """
    try:
        yield
    except CheckpointException as error:  # no Exception, so that nothing else would take it for one
        causes = "; ".join(f"rank {rank}: {failure[0]}" for rank, failure in error.failures.items())
        raise CheckpointError(
            f"The shards cannot be read ({causes}).",
            where=str(folder),
            remedy="Give a folder that is whole and was saved with this module.",
        ) from error
