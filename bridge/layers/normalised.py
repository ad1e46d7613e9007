"""In which order PyTorch has the weights of a LayerNormalization over two axes: as Keras, or the channels first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..architecture import layers, walk
from ..flattening.flatten import ranks_of
from ..options import shortened
from ..source import Shape, Source, split
from .layouts import AS_IS, Layout, kind_of_weights
from .transform import Transform

KIND = "LayerNormalization"
TURNED = (
    "{layers}: normalised over steps and channels, and written with the channels first, as behind PyTorch's "
    "convolutions; bridge.load into the module itself goes by its shape."
)


def transform_of(
    source: Source, layer: str, kind: str, layout: Layout, shape: Shape, to: Shape | None = None
) -> Transform | None:
    """The transform of the layout, into a place of shape `to` where there is one; None where there is none.

    Without the channels among its axes a LayerNormalization keeps Keras's order, whatever the place; with
    them PyTorch's convolutions have them first, and the shape of the place tells. Over some of a map's axes
    torch.nn.LayerNorm goes only where those are the last, as in Keras.
    """
    found = layout.transform(shape, to)
    if kind != KIND or len(shape) != 2:
        return found
    held = _axes(source, layer)
    channels, others = held.get("channels"), held.get("others")
    return AS_IS if channels is False or (others and to in (None, shape)) else found


def turned(source: Source, transforms: Mapping[str, Transform]) -> list[str]:
    """A sentence on the layers whose channels go first with no module to say so, if there are any."""
    layers = [split(key)[0] for key, transform in transforms.items() if transform.axes == (1, 0)]
    found = [layer for layer in layers if kind_of_weights(source.layers[layer], source.kinds.get(layer)) == KIND]
    return [TURNED.format(layers=shortened(list(dict.fromkeys(found))))] if found else []


def open_order(source: Source, layer: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether nothing tells if the channels come first: both axes are of one size and the file does not say more."""
    square = any(len(shape) == 2 and len(set(shape)) == 1 and shape[0] > 1 for shape in shapes.values())
    held = _axes(source, layer) if square else {}
    return square and held.get("channels") is not False and not held.get("others")


def _axes(source: Source, layer: str) -> dict[str, bool]:
    """Whether the channels are among the axes of a layer and whether it leaves others out, as far as the file tells."""
    known = dict(walk(layers(source.architecture)))
    axes: Any = known[layer].config.get("axis") if layer in known else None
    if not isinstance(axes, list) or not all(isinstance(axis, int) for axis in axes):
        return {}
    rank = ranks_of(source).get(layer)
    if rank is not None:
        axes = [axis - rank if axis >= 0 else axis for axis in axes]
        return {"channels": -1 in axes, "others": len(axes) < rank - 1}
    if all(axis < 0 for axis in axes):
        return {"channels": -1 in axes}
    return {"others": True} if max(axes) > len(axes) else {}
