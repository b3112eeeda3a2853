"""A checksum of a tensor tells its bits, however they lie in memory."""

from __future__ import annotations

import pytest
import torch

from phasewire.app.phases.checksums import can_be_summed, checksum_of

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.uint8, torch.bool, torch.complex64]


def ones(dtype: torch.dtype, size: int) -> torch.Tensor:
    return torch.ones(size).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 7, 1024, 200_001])
@pytest.mark.parametrize(
    "view",
    [
        lambda tensor: tensor,
        lambda tensor: tensor[1:],
        lambda tensor: tensor[::2],
        lambda tensor: tensor[:1].expand(6),
        lambda tensor: tensor[1:].view(-1, 1)[::3].T,
    ],
    ids=["whole", "with an offset", "every other", "expanded", "turned"],
)
def test_a_view_of_any_type_and_size_has_one(dtype, size, view):
    tensor = ones(dtype, size)
    part = view(tensor) if size else tensor
    assert can_be_summed(part)
    before = checksum_of(part)
    assert before == checksum_of(part)
    if part.numel():
        part.untyped_storage().fill_(0)
        assert before != checksum_of(part)


def test_the_real_and_the_imaginary_part_of_one_tensor_have_one_each():
    """A module keeps the angles of its rotary embedding so."""
    turns = torch.polar(torch.ones(512, 32), torch.rand(512, 32, generator=torch.Generator().manual_seed(0)))
    real, imaginary = checksum_of(turns.real), checksum_of(turns.imag)
    turns[3, 4] = 0.5
    assert real != checksum_of(turns.real)
    assert imaginary != checksum_of(turns.imag)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_changed_bit_in_any_block_shows(rows, place):
    values = torch.zeros(rows * 2048 + 5)
    before = checksum_of(values)
    values[int(place * (values.numel() - 1))] = 1e-30
    assert before != checksum_of(values)
