"""Shards whose bytes changed since they were written are refused as they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from fault_injections import flip_bit_of_shard
from phasewire.adapters import CheckpointError
from phasewire.adapters.shard_reader import ShardReader, reading_shards

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

WEIGHT = torch.arange(3000.0)


def save(folder: Path) -> None:
    dcp.save({"weight": WEIGHT, "bias": torch.ones(3), "lr": 0.1}, checkpoint_id=folder, no_dist=True)


def load(folder: Path, *names: str) -> dict[str, torch.Tensor]:
    state = {name: torch.zeros_like({"weight": WEIGHT, "bias": torch.ones(3)}[name]) for name in names}
    with reading_shards(folder):
        dcp.load(state, storage_reader=ShardReader(folder), no_dist=True)
    return state


def test_shards_that_are_whole_are_read(tmp_path):
    save(tmp_path)
    read = load(tmp_path, "weight", "bias")
    assert torch.equal(read["weight"], WEIGHT)
    assert read["bias"].tolist() == [1, 1, 1]


def test_torch_itself_loads_a_shard_with_a_flipped_bit(tmp_path):
    # If it no longer does, the comparison is of no use.
    save(tmp_path)
    flip_bit_of_shard(tmp_path, "weight")
    state = {"weight": torch.zeros(3000)}
    dcp.load(state, checkpoint_id=tmp_path, no_dist=True)
    assert not torch.equal(state["weight"], WEIGHT)


def test_a_shard_with_a_flipped_bit_is_refused_with_the_file_and_the_tensor(tmp_path):
    save(tmp_path)
    flip_bit_of_shard(tmp_path, "weight")
    with pytest.raises(CheckpointError, match=r"distcp: The shards are damaged: 'weight' .* earlier one or a copy"):
        load(tmp_path, "weight")
    assert load(tmp_path, "bias")["bias"].tolist() == [1, 1, 1]  # only what is wanted is looked at


def test_shards_saved_without_checksums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        save(tmp_path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load(tmp_path, "weight")["weight"], WEIGHT)
