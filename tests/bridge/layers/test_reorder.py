"""Numbers are moved and never changed, whatever they are, wherever they go."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.layers.reorder import write_permuted

TYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
]


def bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy()


def any_bits(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """All patterns of bits there are: infinities, NaNs with whatever they carry, -0, subnormal numbers."""
    top = 2 if dtype == torch.bool else 256
    drawn = np.random.default_rng(0).integers(0, top, prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(drawn).view(dtype).view(shape)


def kernel_order(rank: int) -> tuple[int, ...]:
    return (rank - 1, rank - 2, *range(rank - 2))


shapes = st.lists(st.integers(1, 4), max_size=3).flatmap(
    lambda window: st.tuples(*map(st.just, window), st.integers(1, 70), st.integers(1, 600))
)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, dtype=st.sampled_from(TYPES))
def test_a_kernel_of_any_type_and_shape_keeps_every_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    source, order = any_bits(shape, dtype), kernel_order(len(shape))
    target = torch.empty([shape[axis] for axis in order], dtype=dtype)
    write_permuted(target, source, order)
    np.testing.assert_array_equal(bits(target), bits(source.permute(order)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8], ids=str)
@pytest.mark.parametrize(
    "shape", [(700, 9000), (5000, 300), (3, 3, 260, 700), (7, 7, 33, 513), (2, 3, 2, 9, 1030), (1, 300_000)], ids=str
)
def test_so_does_one_of_many_blocks_with_a_rest(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    source, order = any_bits(shape, dtype), kernel_order(len(shape))
    target = torch.empty([shape[axis] for axis in order], dtype=dtype)
    write_permuted(target, source, order)
    np.testing.assert_array_equal(bits(target), bits(source.permute(order)))


@pytest.mark.parametrize("where", ["steps", "from", "channels-last", "another type"])
def test_memory_that_does_not_lie_in_one_piece_and_other_types_are_written_too(where: str) -> None:
    source = torch.arange(3 * 3 * 20 * 40, dtype=torch.float32).view(3, 3, 20, 40)
    target = torch.zeros(40, 20, 3, 3)
    if where == "steps":
        target = torch.zeros(40, 20, 3, 6)[..., ::2]
    elif where == "from":
        source = torch.arange(3 * 3 * 20 * 80, dtype=torch.float32).view(3, 3, 20, 80)[..., ::2]
    elif where == "channels-last":
        target = target.contiguous(memory_format=torch.channels_last)
    else:
        target = target.double()
    write_permuted(target, source, (3, 2, 0, 1))
    assert torch.equal(target, source.permute(3, 2, 0, 1).to(target.dtype))


@pytest.mark.parametrize("shape", [(3, 3, 0, 4), (3, 3, 4, 0), (0, 5), (1, 1, 1, 1)], ids=str)
def test_empty_kernels_and_those_of_one_number_are_written(shape: tuple[int, ...]) -> None:
    source, order = torch.ones(shape), kernel_order(len(shape))
    target = torch.zeros([shape[axis] for axis in order])
    write_permuted(target, source, order)
    assert torch.equal(target, source.permute(order))


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1), (1, 0, 2)], ids=str)
def test_an_order_that_is_no_kernels_is_written_too(order: tuple[int, ...]) -> None:
    source = torch.arange(24.0).view(2, 3, 4)
    target = torch.zeros([source.shape[axis] for axis in order])
    write_permuted(target, source, order)
    assert torch.equal(target, source.permute(order))


def test_tensors_of_inference_mode_and_others_are_written_in_turn() -> None:
    source = torch.arange(9.0 * 20 * 40).view(3, 3, 20, 40)
    for mode in (True, False, True):
        with torch.inference_mode(mode):
            target = torch.zeros(40, 20, 3, 3)
            write_permuted(target, source, (3, 2, 0, 1))
            assert torch.equal(target, source.permute(3, 2, 0, 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_kernel_goes_to_a_gpu_in_one_piece() -> None:
    source = any_bits((3, 3, 64, 64), torch.float32)
    target = torch.zeros(64, 64, 3, 3, device="cuda")
    write_permuted(target, source, (3, 2, 0, 1))
    np.testing.assert_array_equal(bits(target.cpu()), bits(source.permute(3, 2, 0, 1)))
