"""The layers of a network as a table for people."""

from __future__ import annotations

from ..layers import Layer, layers
from ..verbs.sources import Source, input_shape
from ..words import table

HEAD = ("layer", "kind", "output", "values", "activation", "also called")
VALUES = HEAD.index("values")


def listing(network: Source, size: tuple[int, int]) -> str:
    """A line for each layer, in the order in which they compute, for images of this height and width."""
    lines = [HEAD, *(_row(layer) for layer in layers(network.model, input_shape(network.model, size)))]
    return "\n".join(
        [
            f"{network.what}, for images of {size[0]} x {size[1]} (height x width).",
            "Outputs are height x width x channels. A Keras name includes the activation; NAME:pre is before it.",
            "",
            *table(lines, right=(VALUES,)),
        ]
    )


def _row(layer: Layer) -> tuple[str, ...]:
    shape = list(layer.shape)
    if len(shape) >= 3:  # as Keras writes it
        shape.append(shape.pop(-3))
    output = " x ".join(map(str, shape))
    return layer.name, layer.kind, output, str(layer.size), layer.activation or "-", ", ".join(layer.others)
