"""Keras's convolutions of any rank, channels last, as sums over the positions of the window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..source import Array, Shape

# Keras 1's names of the same things.
KERAS_1_KEYS = {
    "strides": ("subsample", "subsample_length"),
    "dilation_rate": ("atrous_rate",),
    "padding": ("border_mode",),
}


def convolution(inputs: Array, weights: Mapping[str, Array], config: Mapping[str, Any]) -> Array:
    """Conv1D, Conv2D and Conv3D; the kernel (window, in / groups, out) tells the number of groups."""
    kernel = weights["kernel"]
    groups = inputs.shape[-1] // kernel.shape[-2]

    def product(part: Array, weight: Array) -> Array:
        by_group = part.reshape(-1, groups, weight.shape[0]).swapaxes(0, 1)
        sums = by_group @ weight.reshape(weight.shape[0], groups, -1).swapaxes(0, 1)
        return sums.swapaxes(0, 1).reshape(*part.shape[:-1], -1)

    sums = sum(product(part, kernel[at]) for at, part in _windows(inputs, kernel.shape[:-2], config))
    return _biased(np.asarray(sums), weights)


def depthwise(inputs: Array, weights: Mapping[str, Array], config: Mapping[str, Any]) -> Array:
    """DepthwiseConv1D and 2D: channel c of the input gives channels c * multiplier + m."""
    kernel = weights["depthwise_kernel"] if "depthwise_kernel" in weights else weights["kernel"]
    parts = _windows(inputs, kernel.shape[:-2], config)
    sums = np.asarray(sum(part[..., None] * kernel[at] for at, part in parts))
    return _biased(sums.reshape(*sums.shape[:-2], -1), weights)


def separable(inputs: Array, weights: Mapping[str, Array], config: Mapping[str, Any]) -> Array:
    """SeparableConv1D and 2D: a depthwise convolution, then one of a single position, then the bias."""
    between = depthwise(inputs, {"kernel": weights["depthwise_kernel"]}, config)
    pointwise = weights["pointwise_kernel"]
    return _biased(between @ pointwise.reshape(pointwise.shape[-2:]), weights)


def transposed(inputs: Array, weights: Mapping[str, Array], config: Mapping[str, Any]) -> Array:
    """Conv1DTranspose, 2D and 3D: each input spreads over a window of the output, and sums are cut to size.

    What "same" cuts off is halved, the larger half behind; what lacks is zero, behind (the bias comes last).
    """
    kernel = weights["kernel"]  # (window, out, in)
    window, sizes = kernel.shape[:-2], inputs.shape[1:-1]
    strides, dilation = geometry(config, len(window))
    reach = [(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)]
    full = [(size - 1) * stride + width for size, stride, width in zip(sizes, strides, reach, strict=True)]
    spread = np.zeros((inputs.shape[0], *full, kernel.shape[-2]), inputs.dtype)
    for at in np.ndindex(*window):
        starts = [index * step for index, step in zip(at, dilation, strict=True)]
        ends = [start + (size - 1) * stride + 1 for start, size, stride in zip(starts, sizes, strides, strict=True)]
        spread[_box(starts, ends, strides)] += inputs @ kernel[at].T
    lengths = _transposed_lengths(sizes, strides, reach, config)
    same = option(config, "padding", "valid") == "same"
    cuts = [max((size - length) // 2, 0) if same else 0 for size, length in zip(full, lengths, strict=True)]
    result = np.zeros((inputs.shape[0], *lengths, kernel.shape[-2]), inputs.dtype)
    kept = spread[_box(cuts, [cut + length for cut, length in zip(cuts, lengths, strict=True)], [1] * len(cuts))]
    result[tuple(slice(size) for size in kept.shape)] = kept
    return _biased(result, weights)


def geometry(config: Mapping[str, Any], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The strides and the dilation, one of each for every axis."""
    return each(option(config, "strides", 1), rank), each(option(config, "dilation_rate", 1), rank)


def option(config: Mapping[str, Any], key: str, default: Any) -> Any:
    """A value of a layer's configuration, also under the name that Keras 1 gave it."""
    found = (config[name] for name in (key, *KERAS_1_KEYS.get(key, ())) if config.get(name) is not None)
    return next(found, default)


def each(value: Any, rank: int) -> tuple[int, ...]:
    """One number for every axis, where one may be given for all."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * rank


def same_padding(size: int, stride: int, reach: int) -> tuple[int, int]:
    """What "same" adds before and behind: as much as the size needs, the larger half behind."""
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def _windows(inputs: Array, window: Shape, config: Mapping[str, Any]) -> Iterator[tuple[Shape, Array]]:
    """For every position of the window, the inputs that lie there, one for each output."""
    strides, dilation = geometry(config, len(window))
    reach = [(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)]
    sizes = inputs.shape[1:-1]
    padding = option(config, "padding", "valid")
    edges = [(0, 0)] * len(window)
    if padding == "same":
        edges = [same_padding(*axis) for axis in zip(sizes, strides, reach, strict=True)]
    elif padding == "causal":
        edges = [(width - 1, 0) for width in reach]
    padded = np.pad(inputs, [(0, 0), *edges, (0, 0)])
    lasts = [size - width for size, width in zip(padded.shape[1:-1], reach, strict=True)]
    for at in np.ndindex(*window):
        starts = [index * step for index, step in zip(at, dilation, strict=True)]
        yield at, padded[_box(starts, [start + last + 1 for start, last in zip(starts, lasts, strict=True)], strides)]


def _box(starts: list[int], ends: list[int], steps: list[int] | Shape) -> tuple[slice, ...]:
    return (slice(None), *(slice(*edges) for edges in zip(starts, ends, steps, strict=True)))


def _transposed_lengths(sizes: Shape, strides: Shape, reach: list[int], config: Mapping[str, Any]) -> list[int]:
    same = option(config, "padding", "valid") == "same"
    extra = config.get("output_padding")
    if extra is None:
        return [
            size * stride if same else (size - 1) * stride + max(width, stride)
            for size, stride, width in zip(sizes, strides, reach, strict=True)
        ]
    return [
        (size - 1) * stride + (width % 2 if same else width) + more
        for size, stride, width, more in zip(sizes, strides, reach, each(extra, len(sizes)), strict=True)
    ]


def _biased(sums: Array, weights: Mapping[str, Array]) -> Array:
    return sums + weights["bias"] if "bias" in weights else sums
