"""Convolutions whose class the file does not say and which only a module could tell: a converted file has a guess."""

from __future__ import annotations

from ..adapt.axes import perhaps_transposed
from ..options import shortened
from ..source import Source
from .layouts import kind_of_weights

GUESSED = (
    "{layers}: the file does not say the class, and a {kind} of one channel has the shapes of other convolutions, "
    "too. It is written as a {kind}'s; bridge.load into the module itself would tell."
)
TURNED = (
    "{layers}: the file does not say the class, and Keras 1 stored a transposed convolution in another order. It is "
    "written as a {kind}'s; bridge.load into the module itself would tell."
)


def guessed(source: Source) -> list[str]:
    """A sentence for each kind that is taken for granted, with the layers that are."""
    found: dict[tuple[str, str], list[str]] = {}
    for layer, shapes in source.layers.items() if source.layout == "keras" else ():
        kernel, kind = shapes.get("kernel", ()), kind_of_weights(shapes, None) or ""
        if layer in source.kinds or len(kernel) not in (3, 4, 5) or not kind.rstrip("123D").endswith("Conv"):
            continue
        if kernel[-1] == 1 < kernel[-2] and ("bias" not in shapes or kind.startswith("Depthwise")):
            found.setdefault((GUESSED, kind), []).append(layer)
        elif _old(source) and kernel[-1] == kernel[-2] > 1 and perhaps_transposed(layer, kernel[:-2]):
            found.setdefault((TURNED, kind), []).append(layer)
    return [text.format(layers=shortened(layers), kind=kind) for (text, kind), layers in found.items()]


def _old(source: Source) -> bool:
    return source.format.startswith("keras-h5") and (source.keras_version or "1").split(".")[0] == "1"
