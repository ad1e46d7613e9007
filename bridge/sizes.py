"""The height and width of the map that a Keras layer gives out, from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Size = int | None


def windowed(config: Mapping[str, Any], sizes: tuple[Size, Size]) -> tuple[Size, Size]:
    """Of a convolution or a pooling."""
    kernel = pair(config.get("kernel_size") or config.get("pool_size"), (0, 0))
    if kernel == (0, 0):  # Keras 1
        kernel = (config.get("nb_row", 0), config.get("nb_col", 0))
    pooling = "pool_size" in config
    strides = pair(config.get("strides") or config.get("subsample"), kernel if pooling else (1, 1))
    dilation = pair(config.get("dilation_rate"), (1, 1))
    same = (config.get("padding") or config.get("border_mode")) == "same"

    def size(given: Size, axis: int) -> Size:
        if given is None:
            return None
        reach = 0 if same else (kernel[axis] - 1) * dilation[axis]
        return -(-(given - reach) // strides[axis])

    return size(sizes[0], 0), size(sizes[1], 1)


def transposed(config: Mapping[str, Any], sizes: tuple[Size, Size]) -> tuple[Size, Size]:
    """Of a transposed convolution."""
    if config.get("output_padding") or pair(config.get("dilation_rate"), (1, 1)) != (1, 1):
        return None, None
    kernel, strides = pair(config.get("kernel_size"), (0, 0)), pair(config.get("strides"), (1, 1))
    if kernel == (0, 0):  # Keras 1
        return None, None
    height, width = times(sizes, strides)
    rest = (
        (0, 0) if config.get("padding") == "same" else (max(kernel[0] - strides[0], 0), max(kernel[1] - strides[1], 0))
    )
    return height and height + rest[0], width and width + rest[1]


def with_edges(config: Mapping[str, Any], sizes: tuple[Size, Size]) -> tuple[Size, Size]:
    """Of ZeroPadding2D, which adds on both sides, or Cropping2D, which takes away."""
    sign, edges = (1, config["padding"]) if "padding" in config else (-1, config["cropping"])
    both = [edges] * 2 if isinstance(edges, int) else edges
    height, width = (2 * edge if isinstance(edge, int) else sum(edge) for edge in both)
    return sizes[0] and sizes[0] + sign * height, sizes[1] and sizes[1] + sign * width


def pair(value: Any, default: tuple[int, int]) -> tuple[int, int]:
    """A value for height and one for width, which may be given as one."""
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[1])) if isinstance(value, (list, tuple)) and len(value) == 2 else default


def times(sizes: tuple[Size, Size], factors: tuple[int, int]) -> tuple[Size, Size]:
    """Sizes grown by factors."""
    height, width = (size * factor if size else None for size, factor in zip(sizes, factors, strict=True))
    return height, width
