"""Axes written in another order, fast: as fast as a few passes over a core's cache allow."""

from __future__ import annotations

import threading
from math import prod

import torch
from torch import Tensor

# Numbers moved at a time, and in a row: a block and its transpose lie in a core's cache together.
BLOCK, ROW = 1 << 18, 512


def write_permuted(target: Tensor, given: Tensor, order: tuple[int, ...]) -> None:
    """Write `given.permute(order)` into `target`, of that shape.

    PyTorch's own copy walks a convolution's kernel in steps that miss the cache, at a fraction of the
    speed of this: for a block of input channels, bring the positions of the window next to each other
    (rows stay whole), transpose that matrix, and write rows. Kernels of any rank have that order, and so do
    the inputs of a Dense layer behind a Flatten.
    """
    last = given.ndim - 1
    kernel = given.ndim > 2 and order == (last, last - 1, *range(last - 1))
    if not (kernel and target.is_contiguous() and given.is_contiguous()):
        target.copy_(given.permute(order))
        return
    if target.device != given.device:  # one transfer instead of one a block
        target.copy_(_permuted(given, order))
        return
    outputs, inputs, window = given.shape[last], given.shape[last - 1], prod(given.shape[: last - 1])
    source, result = given.view(window, inputs, outputs), target.view(outputs, inputs, window)
    step = max(1, BLOCK // max(window * min(outputs, ROW), 1))
    for left in range(0, outputs, ROW):
        for top in range(0, inputs, step):
            part = source[:, top : top + step, left : left + ROW].transpose(0, 1)
            rows = _scratch.first(part).copy_(part).flatten(0, 1)
            block = _scratch.second(rows.t()).copy_(rows.t())
            result[left : left + ROW, top : top + step].copy_(block.view(block.shape[0], -1, window))


class _Scratch(threading.local):
    """Two blocks of memory for each thread: fresh ones would cost as much as the copying itself."""

    def __init__(self) -> None:
        self._memory = [_bytes(0), _bytes(0)]

    def first(self, like: Tensor) -> Tensor:
        """The first block, with the shape and type of `like`."""
        return self._block(0, like)

    def second(self, like: Tensor) -> Tensor:
        """The second block, with the shape and type of `like`."""
        return self._block(1, like)

    def _block(self, index: int, like: Tensor) -> Tensor:
        size = like.numel() * like.element_size()
        if self._memory[index].numel() < size:
            self._memory[index] = _bytes(size)
        return self._memory[index][:size].view(like.dtype).view(like.shape)


def _bytes(size: int) -> Tensor:
    with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside of it
        return torch.empty(size, dtype=torch.uint8, device="cpu")


_scratch = _Scratch()


def _permuted(given: Tensor, order: tuple[int, ...]) -> Tensor:
    result = given.new_empty([given.shape[axis] for axis in order])
    write_permuted(result, given, order)
    return result
