"""BatchNorm over the batches of all processes together, and on one that it is not to remember."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise(model: nn.Module) -> None:
    """Let every BatchNorm of a model, in place, take its batch statistics over all processes.

    Names, classes and weights stay as they are. PyTorch's SyncBatchNorm computes the same on CUDA alone.
    """
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.forward = partial(_forward, layer)  # type: ignore[method-assign]


@contextmanager
def untracked(model: nn.Module) -> Iterator[None]:
    """For a batch that is computed twice: running statistics see it once, and move by no share of it here."""
    tracked = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in tracked]
    for layer in tracked:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(tracked, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count


class _Sum(Function):
    """The sum over all processes, in whose gradient each has a share as large."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _forward(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What the layer makes of x (N, C, ...): in evaluation as ever, in training by the statistics of all."""
    if not layer.training:
        return type(layer).forward(layer, x)
    axes = [axis for axis in range(x.ndim) if axis != 1]
    values = x.float()  # the sums of many half-precision numbers are no half-precision numbers
    total = _Sum.apply(torch.cat([values.sum(axes), values.new_full((1,), x.numel() / x.shape[1])]))
    mean, count = total[:-1] / total[-1], total[-1].detach()
    centred = values - _along(mean, x)
    variance = _Sum.apply(centred.square().sum(axes)) / count
    _remember(layer, mean.detach(), variance.detach() * count / (count - 1))
    normal = centred * _along(torch.rsqrt(variance + layer.eps), x)
    if layer.affine:
        normal = normal * _along(layer.weight, x) + _along(layer.bias, x)
    return normal.to(x.dtype)


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Values (C) beside x (N, C, ...)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))


def _remember(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics, where the layer keeps them, as PyTorch does: by the unbiased variance."""
    if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
        return
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
    share = layer.momentum
    if share is None:  # the mean over all batches so far
        share = 1 / int(layer.num_batches_tracked) if layer.num_batches_tracked is not None else 0.0
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), share)
    layer.running_var.lerp_(variance.to(layer.running_var.dtype), share)
