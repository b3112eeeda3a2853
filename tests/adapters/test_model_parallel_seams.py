"""Fails when a private name of Lightning or torch changes that ``adapters/lightning_seams.py`` uses."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from phasewire.adapters.lightning_seams import (
    checkpointing_in_place,
    checkpointing_wrapper,
    nested,
    offloading_wrapper,
    saves_model_parallel_shards,
    unwrapped_name,
)

# -- names -------------------------------------------------------------------------------------------------------------


def compiled(part: nn.Module) -> nn.Module:
    return torch.compile(part, backend="eager")


def checkpointed(part: nn.Module) -> nn.Module:
    return checkpointing_wrapper(part, {})


@pytest.mark.parametrize("wrap", [compiled, checkpointed, offloading_wrapper])
def test_a_name_without_what_a_wrapper_puts_in_is_that_of_the_unwrapped_part(wrap) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    names = [name for name, _ in module.named_parameters()]
    module[1] = wrap(module[1])
    wrapped = [name for name, _ in module.named_parameters()]

    assert wrapped != names
    assert [unwrapped_name(name) for name in wrapped] == names


def test_a_name_that_only_resembles_a_wrappers_stays() -> None:
    assert unwrapped_name("my_orig_mod.weight") == "my_orig_mod.weight"


# -- ModelParallelStrategy ---------------------------------------------------------------------------------------------


class CountsCalls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x).relu()


def in_place(part: nn.Module) -> nn.Module:
    checkpointing_in_place(part, {"preserve_rng_state": False})
    return part


@pytest.mark.parametrize(("wrap", "calls"), [(in_place, 2), (checkpointed, 2), (offloading_wrapper, 1)])
def test_a_checkpointed_part_computes_its_activations_again(wrap, calls: int) -> None:
    part, x = CountsCalls(), torch.ones(1, 2)
    part(x).sum().backward()
    gradient = part.layer.weight.grad.clone()
    part.zero_grad()
    part.calls = 0

    wrap(part)(x).sum().backward()

    assert part.calls == calls
    assert torch.equal(part.layer.weight.grad, gradient)


def test_whether_a_strategy_saves_shards_is_told() -> None:
    assert saves_model_parallel_shards(ModelParallelStrategy())
    assert not saves_model_parallel_shards(ModelParallelStrategy(save_distributed_checkpoint=False))
    assert not saves_model_parallel_shards(SingleDeviceStrategy("cpu"))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning")
def test_a_state_that_torch_flattened_is_nested_again(tmp_path) -> None:
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    state = {"a": {"x.y": {"n": torch.ones(2)}, "groups": [{"lr": torch.tensor(0.1), "names": ["p"]}, {"lr": 0.5}]}}
    save(state, checkpoint_id=tmp_path)
    metadata = FileSystemReader(tmp_path).read_metadata()
    flat = {
        key: torch.empty(stored.size) if hasattr(stored, "size") else None
        for key, stored in metadata.state_dict_metadata.items()
    }
    load(flat, checkpoint_id=tmp_path)

    found = nested(flat, metadata.planner_data)

    assert torch.equal(found["a"]["x.y"]["n"], torch.ones(2))
    assert found["a"]["groups"] == state["a"]["groups"]
