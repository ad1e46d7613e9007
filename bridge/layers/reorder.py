"""Axes written in another order, fast: as fast as a few passes over a core's cache allow."""

from __future__ import annotations

import threading
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

# Bytes moved at a time, and the longest rows: a block and its transpose lie in a core's cache together.
BLOCK, ROW, ROW_OF_A_WINDOW = 1 << 20, 16 << 10, 2 << 10
# Types of one and four bytes for which PyTorch transposes in vector registers; others are moved as these are.
FAST = {1: torch.uint8, 4: torch.float32}


def write_permuted(target: Tensor, given: Tensor, order: tuple[int, ...]) -> None:
    """Write `given.permute(order)` into `target`, of that shape.

    PyTorch's own copy walks a kernel in steps that miss the cache, at a fraction of the speed of this: for a
    block of input channels, bring the positions of the window next to each other (rows stay whole), transpose
    that matrix, and write rows. Kernels of any rank have that order, Dense ones without a window, and so do the
    inputs of a Dense layer behind a Flatten.
    """
    last = given.ndim - 1
    kernel = given.ndim > 1 and order == (last, last - 1, *range(last - 1))
    plain = target.is_contiguous() and given.is_contiguous() and given.device.type == "cpu"
    if not (kernel and plain and given.numel()):
        target.copy_(given.permute(order))
        return
    if target.device != given.device:  # one transfer instead of one a block
        target.copy_(_permuted(given, order))
        return
    outputs, inputs, window = given.shape[last], given.shape[last - 1], prod(given.shape[: last - 1])
    width = max(1, min(outputs, (ROW_OF_A_WINDOW if window > 1 else ROW) // given.element_size()))
    step = max(1, BLOCK // (window * width * given.element_size()))
    columns = torch.split(given.view(window, inputs, outputs).transpose(0, 1), width, 2)
    rows = torch.split(target.view(outputs, inputs * window), width)
    for column, row in zip(columns, rows, strict=True):
        places = torch.split(row, step * window, 1)
        for part, place in zip(torch.split(column, step), places, strict=True):
            place.copy_(_transposed(_matrix(part)))


def _matrix(part: Tensor) -> Tensor:
    """(inputs, window, outputs) as a contiguous (inputs * window, outputs), in memory that is used again."""
    if not part.is_contiguous():
        part = _scratch.like(part).copy_(part)
    return part.flatten(0, 1)


def _transposed(matrix: Tensor) -> Tensor:
    """The transpose of a contiguous matrix, contiguous too.

    Shuffling the channels of a single pixel is that transpose: (groups, channels) to (channels, groups). In the
    layout in which a pixel's channels lie together, PyTorch moves eight by eight numbers at a time.
    """
    rows, columns = matrix.shape
    type_ = FAST.get(matrix.element_size())
    if type_ is None:
        return matrix.t().contiguous()
    pixel = matrix.view(type_).view(1, 1, 1, rows * columns).permute(0, 3, 1, 2)
    return F.channel_shuffle(pixel, rows).view(columns, rows).view(matrix.dtype)


class _Scratch(threading.local):
    """Memory for each thread: a fresh block would cost as much as the copying itself."""

    def __init__(self) -> None:
        self._memory = _bytes(0)

    def like(self, other: Tensor) -> Tensor:
        """Memory with the shape and type of `other`."""
        size = other.numel() * other.element_size()
        if self._memory.numel() < size:
            self._memory = _bytes(size)
        return self._memory[:size].view(other.dtype).view(other.shape)


def _bytes(size: int) -> Tensor:
    with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside of it
        return torch.empty(size, dtype=torch.uint8, device="cpu")


_scratch = _Scratch()


def _permuted(given: Tensor, order: tuple[int, ...]) -> Tensor:
    result = given.new_empty([given.shape[axis] for axis in order])
    write_permuted(result, given, order)
    return result
