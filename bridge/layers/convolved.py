"""Dense layers of a VGG as convolutions, as timm has them, and as Linear layers again: the numbers in other shapes."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt, prod

from ..errors import BridgeError
from ..source import Shape, Source
from .transform import Transform


def as_convolution(source: Source, key: str, transform: Transform, shape: Shape) -> Transform:
    """The transform of a Dense kernel into a convolution over the map that it was flattened from, else over one place.

    Arrays of PyTorch do not say which map that was: of the channels of the convolution before, and square.
    """
    if len(shape) > 2:  # it is one
        return transform
    if source.layout == "keras":
        *places, channels = dict(transform.maps).get(0, (1, 1, shape[0]))
        return replace(transform, view=(shape[1], channels, *places))
    units, values = shape
    channels = _channels_before(source, key) or values
    side = isqrt(values // channels)
    if channels * side**2 != values:
        raise BridgeError(
            f"{source.name}: {key} takes {values} values, which are no square map of {channels} channels. "
            f"Convert from the Keras file."
        )
    return replace(transform, view=(units, channels, side, side))


def as_linear(transform: Transform, shape: Shape) -> Transform:
    """The transform of a convolution as large as its map, or over one place, into a Linear layer's weight."""
    return replace(transform, view=(shape[0], prod(shape[1:])))


def _channels_before(source: Source, key: str) -> int:
    """What the convolution in front gives, if the layer stands right behind one; 0 where it does not."""
    before = 0
    for other, shape in source.shapes.items():
        if other == key:
            break
        if other.endswith("/weight") and len(shape) in (2, 4):
            before = shape[0] if len(shape) == 4 else 0
    return before
