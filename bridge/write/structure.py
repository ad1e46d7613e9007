"""The Keras layers that a module alone tells: names, kinds and arrays, as a weights-only file has them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from torch import Tensor, nn

from ..flattening.flatten import OF_ROWS, maps_of
from ..layers.layouts import KINDS, RECURRENT, Layout
from ..layers.transform import Transform
from ..matching.slots import Place, Places, Slot, places, tensor_of
from ..naming.auto_names import in_order
from ..options import Options
from ..source import Shape, Source, Stored, split
from .backward import Piece, arrays


def layers_of(module: nn.Module, options: Options) -> dict[str, dict[str, Tensor]]:
    """{layer: {"inner/role": array}} in the module's order, as Keras would hold it.

    Layers under Keras's own numbers come in the order of these, which Keras's `load_weights` goes by.
    A grouped convolution with a group for each channel is a DepthwiseConv2D, and the inputs of a Linear
    behind convolutions are those of a square map flattened, unless the options say otherwise.
    """
    where = places(module, options.prefix, options.names)
    found = [
        (f"{layer}/{layout.role}", layer, kind, layout, place.slots[layout.parameter], place)
        for layer, kind, place in _layers(module, where)
        for layout in KINDS[kind]
        if layout.role and layout.transforms and layout.parameter in place.slots
    ]
    shapes = {key: _keras_shape(module, layout, slot, place) for key, _, _, layout, slot, place in found}
    kinds = {layer: kind for _, layer, kind, *_ in found}
    halves = {layer for _, layer, *_, place in found if _is_half(place, module.get_submodule(place.module))}
    like = Source({key: _absent(shape) for key, shape in shapes.items()}, format="module", kinds=kinds)
    parts = {layer: module.get_submodule(place.module) for _, layer, *_, place in found}
    maps, pieces = maps_of(like, parts), []
    for key, layer, kind, layout, slot, place in found:
        transform = layout.transform(shapes[key], slot.shape)
        assert transform is not None
        if place.vector or kind in OF_ROWS:
            transform = maps.unfolded(transform, options, layer, layout.role, shapes[key], slot.shape)
        pieces.append(Piece(key, slot.target, transform, tensor_of(module, slot.target)))
    second = {slot.target: (tensor_of(module, slot.target), 0.0) for slot in _without_role(found, where)}
    layers: dict[str, dict[str, Tensor]] = {}
    for key, array in arrays(pieces, shapes, second).items():
        outer, name = _grouped(*split(key), halves)
        layers.setdefault(outer, {})[name] = array
    return {layer: layers[layer] for layer in in_order(layers)}


def _layers(module: nn.Module, where: Places) -> Iterator[tuple[str, str, Place]]:
    separable = [place for place in where.places.values() if place.kinds[0].startswith("Separable")]
    steps = {slot.target for place in separable for slot in place.slots.values()}
    for place in where.places.values():
        if place not in separable and any(slot.target in steps for slot in place.slots.values()):
            continue
        part, kind = module.get_submodule(place.module), place.kinds[0]
        groups = getattr(part, "groups", 1)
        if groups > 1 and groups == getattr(part, "in_channels", 0) and kind.replace("Conv", "DepthwiseConv") in KINDS:
            kind = kind.replace("Conv", "DepthwiseConv")
        outer, _, side = place.path.rpartition("/")
        if _is_half(place, part):
            yield f"{where.keras_names.get(outer, outer)}/{side}_{kind.lower()}", kind, place
        else:
            yield where.keras_names.get(place.path, place.path), kind, place


def _keras_shape(module: nn.Module, layout: Layout, slot: Slot, place: Place) -> Shape:
    """The shape of Keras's array for a parameter, by undoing the first transform that gives this rank."""
    part = module.get_submodule(place.module)
    own, groups = slot.shape, getattr(part, "groups", 1)
    if layout.parameter.startswith("depthwise") or (layout.role == "kernel" and _is_depthwise(layout)):
        first = part if hasattr(part, "groups") else next(iter(part.children()))
        groups = int(getattr(first, "groups", groups))
        return (*own[2:], groups, own[0] // groups)
    if layout.role == "alpha" and len(own) == 1:
        return (1, 1, *own)  # shared over a map
    two = "bias_hh" in place.slots  # a GRU that resets before the product has one bias on both sides
    fitting = [each for each in layout.transforms if each.joined is None and len(each.axes) == len(own)]
    return _undone(next(each for each in fitting if each.row is None or two), own)


def _is_depthwise(layout: Layout) -> bool:
    return layout.transforms[0].joined is not None and layout.role != "alpha"


def _undone(transform: Transform, own: Shape) -> Shape:
    keras = [0] * len(own)
    for size, axis in zip(own, transform.axes, strict=True):
        keras[axis] = size
    return (2, *keras) if transform.row is not None else tuple(keras)


def _without_role(found: list[tuple[str, str, str, Layout, Slot, Place]], where: Places) -> Iterator[Slot]:
    """Parameters that Keras has no weight for."""
    taken = {slot.target for *_, slot, _ in found}
    kinds = {place.path: kind for _, _, kind, _, _, place in found}
    for place in where.places.values():
        for layout in KINDS[kinds.get(place.path, place.kinds[0])]:
            slot = place.slots.get(layout.parameter)
            if place.path in kinds and slot and slot.target not in taken:
                yield slot


def _is_half(place: Place, part: nn.Module) -> bool:
    """Whether this is one direction of a module that has both; a user may call any module so."""
    return place.kinds[0] in RECURRENT and bool(getattr(part, "bidirectional", False))


def _grouped(layer: str, role: str, halves: Collection[str]) -> tuple[str, str]:
    """The layer and the weight's path in it: both directions of a Bidirectional are one layer."""
    outer, _, last = layer.rpartition("/")
    return (outer, f"{last}/{role}") if layer in halves else (layer, role)


def _absent(shape: Shape) -> Stored:
    return Stored(shape, "float32", lambda: np.zeros(shape, np.float32))
