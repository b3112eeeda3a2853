"""The functions of ``adapters/lightning_seams.py`` do with private names of Lightning and torch what they say."""

from __future__ import annotations

# -- FSDP1 ---------------------------------------------------------------------------------------------------------
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.precision import FSDPPrecision
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from fsdp_on_cpu import EXPECTED_WARNINGS, CPUFSDPStrategy, fsdp_on_cpu
from fsdp_parts import strategy, train
from phasewire.adapters.lightning_seams import (
    SHARDS_METADATA,
    flat_parameters,
    forget_post_backward_hooks,
    name_before_wrapping,
    saves_shards,
    uncompiled,
    wrapped_apart_for_precision,
)
from seam_recorder import leaving_no_process_group

pytestmark = [pytest.mark.filterwarnings(each) for each in EXPECTED_WARNINGS]


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    with leaving_no_process_group(), fsdp_on_cpu():
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
        yield


def nested() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 1))


# torch's compiler imports what torch itself deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_module_is_found_in_its_wrapper() -> None:
    module = nn.Linear(2, 2)
    assert uncompiled(torch.compile(module)) is module
    assert uncompiled(module) is module


@pytest.mark.parametrize("orig", [True, False])
@pytest.mark.usefixtures("one_process")
def test_flat_parameters_are_found_with_the_names_of_before(orig: bool) -> None:
    module = nested()
    before = [name for name, _ in module.named_parameters()]
    # Names within a unit begin at the unit, so an outer unit shows whether they are joined.
    model = FullyShardedDataParallel(module, auto_wrap_policy=ModuleWrapPolicy({nn.Linear}), use_orig_params=orig)
    units = {name: held for name, _, held in flat_parameters(model)}
    assert units == {
        "0.0": ["0.0.weight", "0.0.bias"],
        "0.1": ["0.1.weight", "0.1.bias"],
        "1": ["1.weight", "1.bias"],
    }
    assert [name for held in units.values() for name in held] == before
    if not orig:
        flat = [parameter for _, parameter, _ in flat_parameters(model)]
        assert all(ours is theirs for ours, theirs in zip(flat, model.parameters(), strict=True))
    (whole,) = flat_parameters(FullyShardedDataParallel(nested(), use_orig_params=orig))
    assert whole[0] == ""
    assert whole[2] == before


@pytest.mark.usefixtures("one_process")
def test_names_lose_what_wrappers_put_in() -> None:
    module = nested()
    before = [name for name, _ in module.named_modules()]
    module[0] = FullyShardedDataParallel(checkpoint_wrapper(module[0]), use_orig_params=True)
    model = FullyShardedDataParallel(module, use_orig_params=True)
    found = [name_before_wrapping(name) for name, _ in model.named_modules()]
    assert list(dict.fromkeys(found)) == before
    names = [name_before_wrapping(name) for name, _ in model.named_parameters()]
    assert names == [name for name, _ in nested().named_parameters()]


@pytest.mark.parametrize("forget", [True, False])
@pytest.mark.usefixtures("one_process")
def test_a_frozen_unit_without_a_root_above_it_keeps_its_hook_until_that_is_forgotten(forget: bool) -> None:
    """This is what torch 2.13 does; when it does so no longer, the function is not needed."""
    frozen = nn.Linear(2, 2).requires_grad_(requires_grad=False)
    first, head = (FullyShardedDataParallel(part, use_orig_params=True) for part in (frozen, nn.Linear(2, 1)))
    model = nn.Sequential(first, head)
    model(torch.ones(1, 2)).sum().backward()
    for parameter in first.parameters():
        parameter.requires_grad = True
    if forget:
        forget_post_backward_hooks(model)
        model(torch.ones(1, 2)).sum().backward()
        assert all(parameter.grad is not None for parameter in first.parameters())
    else:
        with pytest.raises(AssertionError, match="_post_backward_hook_state"):
            model(torch.ones(1, 2)).sum().backward()


def test_a_strategy_tells_whether_it_saves_shards(tmp_path: Path) -> None:
    assert saves_shards(CPUFSDPStrategy(state_dict_type="sharded"))
    assert not saves_shards(CPUFSDPStrategy())
    with leaving_no_process_group(), fsdp_on_cpu():
        train(tmp_path, strategy(orig=True, kind="sharded"), devices=1)
    assert (tmp_path / "epoch=0.ckpt" / SHARDS_METADATA).is_file()


def test_mixed_precision_wraps_batch_norm_apart() -> None:
    running = CPUFSDPStrategy(mixed_precision=MixedPrecision(param_dtype=torch.bfloat16))
    assert issubclass(nn.BatchNorm1d, wrapped_apart_for_precision(running))
    running = CPUFSDPStrategy(mixed_precision=MixedPrecision(_module_classes_to_ignore=[nn.LayerNorm]))
    assert wrapped_apart_for_precision(running) == (nn.LayerNorm,)
    # Lightning asks for mixed precision of some kind in any case.
    assert isinstance(CPUFSDPStrategy().precision_plugin, FSDPPrecision)
    assert issubclass(nn.BatchNorm1d, wrapped_apart_for_precision(CPUFSDPStrategy()))
