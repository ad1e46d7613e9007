"""How many places the map has that a Keras layer gives out, axis by axis, from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Size = int | None
Sizes = tuple[Size, ...]

# Keras 1's words for what is "kernel_size", "pool_size", "strides" and so on today; some have one for each axis.
_WINDOW = ("kernel_size", "pool_size", "filter_length", "pool_length")
_WINDOWS = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_STRIDES = ("strides", "subsample", "subsample_length", "stride")
_DILATION = ("dilation_rate", "atrous_rate")
_POOLED = frozenset({"pool_size", "pool_length"})  # a pooling without strides takes its window's


def windowed(config: Mapping[str, Any], sizes: Sizes) -> Sizes:
    """Of a convolution or a pooling."""
    window = _window(config, len(sizes))
    if window is None:
        return (None,) * len(sizes)
    strides = _numbers(config, _STRIDES, len(sizes)) or (window if _POOLED & config.keys() else (1,) * len(sizes))
    dilation = _numbers(config, _DILATION, len(sizes)) or (1,) * len(sizes)
    padding = _padding(config)
    found: list[Size] = []
    for size, width, stride, step in zip(sizes, window, strides, dilation, strict=True):
        lost = {"valid": 1, "full": -1}.get(padding, 0) * (width - 1) * step
        found.append(None if size is None else -(-(size - lost) // stride))
    return tuple(found)


def transposed(config: Mapping[str, Any], sizes: Sizes) -> Sizes:
    """Of a transposed convolution. Keras 1 has its whole output said."""
    window, said = _window(config, len(sizes)), config.get("output_shape")
    if isinstance(said, (list, tuple)):
        places = tuple(said[2:] if config.get("dim_ordering") == "th" else said[1:-1])
        return places if len(places) == len(sizes) else (None,) * len(sizes)
    if window is None:
        return (None,) * len(sizes)
    strides = _numbers(config, _STRIDES, len(sizes)) or (1,) * len(sizes)
    dilation = _numbers(config, _DILATION, len(sizes)) or (1,) * len(sizes)
    extra = _numbers(config, ("output_padding",), len(sizes))
    same = _padding(config) == "same"
    found: list[Size] = []
    for axis, size in enumerate(sizes):
        reach, stride = (window[axis] - 1) * dilation[axis] + 1, strides[axis]
        if size is None:
            found.append(None)
        elif extra is None:
            found.append(size * stride + (0 if same else max(reach - stride, 0)))
        else:
            found.append((size - 1) * stride + reach - (2 * (reach // 2) if same else 0) + extra[axis])
    return tuple(found)


def padded(config: Mapping[str, Any], sizes: Sizes) -> Sizes:
    """Of ZeroPadding, which adds on both sides."""
    edges = _edges(config.get("padding"), len(sizes))
    return tuple(size and edge and size + edge[0] for size, edge in zip(sizes, edges, strict=True))


def cropped(config: Mapping[str, Any], sizes: Sizes) -> Sizes:
    """Of Cropping, which takes away on both sides."""
    edges = _edges(config.get("cropping"), len(sizes))
    return tuple(size and edge and size - edge[0] for size, edge in zip(sizes, edges, strict=True))


def grown(config: Mapping[str, Any], sizes: Sizes) -> Sizes:
    """Of UpSampling, which repeats each place."""
    factors = _numbers(config, ("size", "length"), len(sizes)) or (2,) * len(sizes)
    return tuple(size and size * factor for size, factor in zip(sizes, factors, strict=True))


def said(config: Mapping[str, Any], sizes: Sizes) -> Sizes:
    """Of Resizing, CenterCrop and adaptive poolings, which say the size."""
    if "height" in config and len(sizes) == 2:
        return config["height"], config.get("width")
    return _numbers(config, ("output_size",), len(sizes)) or (None,) * len(sizes)


def unchanged(_: Mapping[str, Any], sizes: Sizes) -> Sizes:
    """Of a layer that keeps every place."""
    return sizes


def _padding(config: Mapping[str, Any]) -> Any:
    return config.get("padding") or config.get("border_mode") or "valid"


def _window(config: Mapping[str, Any], rank: int) -> tuple[int, ...] | None:
    apart = (tuple(int(config[name]) for name in names) for names in _WINDOWS if all(name in config for name in names))
    return _numbers(config, _WINDOW, rank) or next((window for window in apart if len(window) == rank), None)


def _numbers(config: Mapping[str, Any], names: tuple[str, ...], rank: int) -> tuple[int, ...] | None:
    """One number for each axis, where one may be given for all; None where there is none."""
    value = next((config[name] for name in names if config.get(name) is not None), None)
    if isinstance(value, (list, tuple)):
        value = value * rank if len(value) == 1 else value
        return tuple(int(each) for each in value) if len(value) == rank else None
    return None if value is None else (int(value),) * rank


def _edges(value: Any, rank: int) -> list[tuple[int] | None]:
    """What both sides of each axis come to: one number for all, one for each side of an axis, a pair for each axis."""
    if isinstance(value, int):
        return [(2 * value,)] * rank
    if not isinstance(value, (list, tuple)):
        return [None] * rank
    if len(value) == 2 * rank and all(isinstance(each, int) for each in value):
        return [(sum(value[2 * axis : 2 * axis + 2]),) for axis in range(rank)]
    if len(value) != rank:
        return [None] * rank
    return [(2 * each,) if isinstance(each, int) else (sum(each),) for each in value]
