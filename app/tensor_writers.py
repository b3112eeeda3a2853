"""Writes files of tensors one tensor at a time, so that no more than one is held in memory.

Neither ``torch.save`` nor the safetensors library does: the one gathers all storages first, and the other takes all
tensors at once. So torch writes a checkpoint without its data, which is then put in its places, with the checksums that
torch would have computed; and the header of a safetensors file, which is JSON, is written here.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.tensor_pieces import copy_into
from phasewire.app.archive_records import CHECKSUM, DataRecord, data_records
from phasewire.app.steady_writer import SteadyWriter

__all__ = ["Pending", "Watch", "write_checkpoint", "write_safetensors"]

#: Is told how many bytes of how many are written.
Watch = Callable[[int, int], None]

_SAFETENSORS_NAMES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
_HEADER_ALIGNMENT: Final = 8
_LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Pending:
    """A tensor that is made when its turn to be written has come."""

    like: Tensor
    """A tensor of its shape and dtype on the meta device."""
    make: Callable[[], Tensor]
    """Makes it."""


def write_safetensors(
    file: io.BufferedWriter,
    tensors: Mapping[str, Tensor | Pending],
    metadata: Mapping[str, str],
    watch: Watch | None = None,
) -> None:
    """Write a file in the safetensors format.

    Args:
        file: An empty file.
        tensors: Name to tensor.
        metadata: What to write beside them.
        watch: Is told, after each tensor, how many bytes of how many are written.

    Raises:
        CheckpointError: The format has no such dtype.
    """
    # As the library does: the largest elements first, so that all stand at a multiple of their size.
    ordered = sorted(tensors.items(), key=lambda item: -_like(item[1]).dtype.itemsize)
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        like = _like(tensor)
        if like.dtype not in _SAFETENSORS_NAMES or like.layout is not torch.strided:
            raise CheckpointError(
                f"{name!r} is a tensor of {like.dtype} ({like.layout}), which the safetensors format does not have.",
                remedy="Write a .ckpt file.",
            )
        begin, end = end, end + _size_of(tensor)
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[like.dtype],
            "shape": list(like.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    file.write(_LENGTH.pack(len(text)) + text)
    writer = SteadyWriter(file)
    done = 0
    for _, tensor in ordered:
        writer.write(_bytes_of(tensor.make() if isinstance(tensor, Pending) else tensor))
        done += _size_of(tensor)
        if watch is not None:
            watch(done, end)


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def write_checkpoint(
    file: io.BufferedWriter,
    path: Path,
    content: dict[str, Any],
    state_key: str,
    *,
    weights_only: bool,
    watch: Watch | None = None,
) -> None:
    """Write what ``torch.save`` would.

    Args:
        file: An empty file.
        path: Where it is.
        content: What to save; among the values under ``state_key`` may be pending tensors.
        state_key: The key of the state dict.
        weights_only: Whether there are only tensors and plain values in it.
        watch: Is told, after each tensor, how many bytes of how many are written.

    Raises:
        CheckpointError: torch does not write as it did when this was made.
    """
    pending: dict[int, Pending] = {}
    hollow: dict[int, Tensor] = {}
    state = copy.copy(content[state_key])  # which keeps what torch has put on it
    for name, value in content[state_key].items():
        if isinstance(value, Pending):
            # Memory that is asked for and never touched is never given.
            empty = torch.empty(value.like.shape, dtype=value.like.dtype)
            state[name] = hollow.setdefault(id(value), empty)
            pending[id(state[name])] = value
    content = {**content, state_key: state}
    with torch.serialization.skip_data():
        torch.save(content, file)
    writer = SteadyWriter(file)
    records = _records(path, tensors := _tensors_in(content), weights_only=weights_only)
    placed = [(tensor, record) for tensor, record in zip(tensors, records, strict=True) if record is not None]
    total = sum(tensor.untyped_storage().nbytes() for tensor, _ in placed)
    checksums: dict[int, int] = {}
    done = 0
    with ThreadPoolExecutor(1) as other_core:
        for tensor, record in placed:
            made = pending.get(id(tensor))
            data = _storage_bytes(tensor) if made is None else _bytes_of(made.make())
            # Both give way to other threads: it is computed while they are written, from memory that is at hand.
            checksum = other_core.submit(zlib.crc32, data) if torch.serialization.get_crc32_options() else None
            writer.write_at(record.begin, data)
            if checksum is not None:
                checksums |= dict.fromkeys(record.checksums, checksum.result())
            done += tensor.untyped_storage().nbytes()
            if watch is not None:
                watch(done, total)
    for place, value in checksums.items():
        file.seek(place)
        file.write(CHECKSUM.pack(value))


def _records(path: Path, tensors: list[Tensor], *, weights_only: bool) -> list[DataRecord | None]:
    """Find where in a file the storages of tensors are to be written; ``None`` for what needs no writing."""
    hollow = torch.load(path, map_location="cpu", mmap=True, weights_only=weights_only)
    mapped = [each.untyped_storage() for each in _tensors_in(hollow)]
    # The file is mapped in one piece, so that storages lie in memory as they do in it.
    addresses = sorted({storage.data_ptr() for storage in mapped if storage.nbytes()})
    records = data_records(path)
    sizes = {storage.data_ptr(): storage.nbytes() for storage in mapped}
    if len(mapped) != len(tensors) or [sizes[each] for each in addresses] != [record.size for record in records]:
        raise CheckpointError(
            "torch writes checkpoints in a way that this release of Phasewire does not know.",
            where=str(path),
            remedy="Write a .safetensors file, or use the versions of torch that Phasewire was tested with.",
        )
    found = dict(zip(addresses, records, strict=True))
    return [found.pop(storage.data_ptr(), None) for storage in mapped]  # once: others share it


class _TensorFinder(pickle.Pickler):
    """Goes through an object as ``torch.save`` does, and notes the tensors."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), protocol=2)
        self.found: list[Tensor] = []

    def reducer_override(self, obj: object) -> Any:  # noqa: ANN401  # NotImplemented is of no type
        """Note a tensor, and put something small in its place."""
        if not isinstance(obj, Tensor):
            return NotImplemented
        self.found.append(obj)
        return str, ()


def _tensors_in(content: object) -> list[Tensor]:
    finder = _TensorFinder()
    finder.dump(content)
    return finder.found


def _like(tensor: Tensor | Pending) -> Tensor:
    return tensor.like if isinstance(tensor, Pending) else tensor


def _size_of(tensor: Tensor | Pending) -> int:
    like = _like(tensor)
    return like.numel() * like.dtype.itemsize


def _bytes_of(tensor: Tensor) -> memoryview:
    """View a tensor as bytes; only one whose elements do not lie there side by side is copied."""
    if not tensor.is_contiguous():
        scattered, tensor = tensor, tensor.new_empty(tensor.shape)
        copy_into(tensor, scattered)
    tensor = tensor.resolve_conj().resolve_neg()
    # Any: to numpy's type stubs an array is no buffer before Python 3.12.
    data: Any = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    return memoryview(data)


def _storage_bytes(tensor: Tensor) -> memoryview:
    data: Any = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()  # Any: as above
    return memoryview(data)
