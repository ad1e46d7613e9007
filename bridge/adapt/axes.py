"""Which axes of a layer's weight count its inputs and its outputs, by its class or else by its shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from ..errors import BridgeError
from ..naming.names import auto_prefix
from ..source import Array, Shape, Source, key_of

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Outputs:
    """The weight that makes a layer's outputs, and the axes along which they lie in it."""

    weight: str
    axes: Axes

    def along(self, values: Array, shape: Shape) -> Array:
        """One value for each output, in the shape that multiplies the weight."""
        axes = {axis % len(shape) for axis in self.axes}
        return values.reshape([size if axis in axes else 1 for axis, size in enumerate(shape)])


LAST, TRANSPOSED, DEPTHWISE = (-1,), (-2,), (-2, -1)

# Keras class -> the axes of its outputs. The kernel of a depthwise convolution is (height, width, in, multiplier).
KERAS: Mapping[str, Axes] = {
    **dict.fromkeys(("Dense", "Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D"), LAST),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), TRANSPOSED),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), DEPTHWISE),
}
# A convolution's weight is (out, in, ...), a transposed one's (in, out, ...).
TORCH = {LAST: (0,), DEPTHWISE: (0,), TRANSPOSED: (1,)}
BY_ROLE = {"pointwise_kernel": LAST, "depthwise_kernel": DEPTHWISE}

WEIGHTS = ("pointwise_kernel", "depthwise_kernel", "kernel", "weight")  # the first that a layer has
OTHERS = ("bias", "recurrent_kernel")
_PERHAPS_TRANSPOSED = re.compile(r"(?<![a-z])up|trans|deconv|tconv", re.IGNORECASE)


def shapes_of(source: Source, layer: str) -> dict[str, Shape]:
    """The shapes of a layer's weights, as far as those of convolutions and dense layers go."""
    keys = {role: key_of(layer, role) for role in (*WEIGHTS, *OTHERS)}
    return {role: source.stored[key].shape for role, key in keys.items() if key in source}


def weight_of(shapes: Mapping[str, Shape]) -> str | None:
    """The weight of a convolution or dense layer; None for the rest."""
    role = next((role for role in WEIGHTS if role in shapes), None)
    return role if role and "recurrent_kernel" not in shapes and 2 <= len(shapes[role]) <= 5 else None


def kind_of(source: Source, layer: str) -> str | None:
    """The Keras class of a layer as the file says it, or as its automatic name does ("conv2d_transpose_1")."""
    if layer in source.kinds:
        return source.kinds[layer]
    prefix = (auto_prefix(layer.rpartition("/")[2]) or "").replace("_", "")
    return next((kind for kind in KERAS if kind.lower() == prefix), None)


def counts(source: Source, layer: str) -> dict[Axes, int]:
    """How many outputs a layer has, by the axes along which they may lie, the likely ones first; {} for other kinds."""
    shapes = shapes_of(source, layer)
    role = weight_of(shapes)
    if role is None:
        return {}
    shape = shapes[role]
    found = {axes: prod(shape[axis] for axis in axes) for axes in _possible(source, layer, role, len(shape))}
    return {axes: count for axes, count in found.items() if shapes.get("bias", (count,)) == (count,)}


def outputs(source: Source, layer: str, count: int) -> Outputs | None:
    """Where the layer's `count` outputs lie; None where it has another number of them or is of another kind.

    A square kernel lies either way. Without a class it is taken for that of a plain convolution,
    and refused where its even size or its name speaks for a transposed one.
    """
    axes = [axes for axes, found in counts(source, layer).items() if found == count]
    if not axes:
        return None
    shapes = shapes_of(source, layer)
    role = weight_of(shapes) or ""
    if axes[:2] in ([LAST, TRANSPOSED], [(0,), (1,)]) and count > 1:
        kernel = shapes[role][2:] if source.layout == "torch" else shapes[role][:-2]
        if perhaps_transposed(layer, kernel):
            raise BridgeError(
                f"{source.name}: {key_of(layer, role)} is {shapes[role]}, of a convolution or of a transposed one, and "
                f"nothing tells which. Say it in the source's kinds: {{{layer!r}: 'Conv2DTranspose'}} or 'Conv2D'."
            )
    return Outputs(role, axes[0])


def perhaps_transposed(layer: str, window: Shape) -> bool:
    """Whether its even window, or its name, speaks for a transposed convolution."""
    return any(size % 2 == 0 for size in window) or _PERHAPS_TRANSPOSED.search(layer) is not None


def _possible(source: Source, layer: str, role: str, rank: int) -> list[Axes]:
    """The axes on which the outputs can lie, the likely ones first; none for a class that is not known here."""
    kind = kind_of(source, layer)
    if role in BY_ROLE:
        axes = [BY_ROLE[role]]
    elif kind is not None:
        axes = [KERAS[kind]] if kind in KERAS else []
    else:
        axes = [LAST, TRANSPOSED, DEPTHWISE] if rank > 2 else [LAST]
    return list(dict.fromkeys(TORCH[each] for each in axes)) if source.layout == "torch" else axes
