"""Which place of a module each layer of a source belongs to, by name or by order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod

from ..errors import BridgeError
from ..layers.directions import side_of
from ..layers.layouts import KINDS, kind_of_torch_weight, kind_of_weights
from ..naming import names as naming
from ..naming.auto_names import DEEPEST, in_order
from ..naming.forms import places_of
from ..naming.order import by_order
from ..options import Options, slashed
from ..source import Shape, Source
from .slots import Place, Places

LayerShapes = Mapping[str, Mapping[str, Shape]]  # layer -> role -> shape


def paths_by_name(layers: LayerShapes, layout: str, where: Places) -> dict[str, str]:
    """The path of the place of each source layer that has a counterpart."""
    outer_ones = dict.fromkeys(outer for layer in layers for outer in _above(layer))
    paths = {place.path for place in where.places.values()} | {slot.layer for slot in where.slots}
    own = paths | {outer for path in paths for outer in _above(path)}
    found = _found([*layers, *(outer for outer in outer_ones if outer not in layers)], layers, layout, own, where)
    placed = {layer: path for layer in layers if (path := found.get(layer)) in paths and path is not None}
    inside = Counter(map(_parent, layers))
    held = Counter(outer for layer in layers for outer in _above(layer))
    for layer in layers:
        above = _parent(layer)
        if above not in found and side_of(layer) and held[above] == held[_parent(above)]:
            above = _parent(above)  # a wrapper around both directions alone, as TimeDistributed
        outer = found.get(above)
        if layer in placed or outer is None:
            continue
        side = side_of(layer)
        if side and f"{outer}/{side}" in paths:
            placed[layer] = f"{outer}/{side}"
        elif inside[_parent(layer)] == 1 and outer in paths:  # TimeDistributed and its like: a module folds time away
            placed[layer] = outer
    return placed | _deeper(
        [layer for layer in layers if layer not in placed], found, paths - {*placed.values()}, where
    )


def unnamed(layers: LayerShapes, placed: Mapping[str, str], where: Places) -> dict[str, str]:
    """Dense layers that Keras named by itself, at the places that a module's own names leave: a published network's
    head made anew, as `Dense(7)` where `predictions` was.

    Only where these alone are left, on the module's side and, of this kind, in the source, and fit one by one.
    """
    free = [path for path in where.places if path not in placed.values()]
    rest = [layer for layer in layers if layer not in placed and naming.auto_prefix(_own_name(layer)) == "dense"]
    named = [path for path in free if naming.auto_prefix(where.keras_names.get(path, "")) is None]
    if not where.declared or named != free or len(free) != len(rest) or not placed:
        return {}
    pairs = dict(zip(in_order(rest), free, strict=True))
    fits = all(
        where.places[path].kinds[0] == "Dense" and not misfit(layers[layer], "Dense", where.places[path])
        for layer, path in pairs.items()
    )
    return pairs if fits else {}


def _deeper(rest: Sequence[str], found: Mapping[str, str], free: set[str], where: Places) -> dict[str, str]:
    """The layers of models in models, where the one side leaves out names of those around or in between.

    Keras's .h5 files name a layer by the outermost model and its own name, or by the model alone where that
    has one layer; a module that folds time away has no part for the model that is applied to each step.
    """
    inside: dict[str, dict[str, str]] = {}
    ends: dict[tuple[str, str], dict[str, str]] = {}
    for path in sorted(free):
        own, same = _own_name(where.keras_names.get(path, path)), where.tied.get(path, path)
        for outer in _above(path):  # a layer that is shared in there is one
            inside.setdefault(outer, {}).setdefault(same, path)
            ends.setdefault((outer, own), {}).setdefault(same, path)
    wanted: dict[str, list[str]] = {}
    for layer in rest:
        nearest = next((found[each] for each in _above(layer) if each in found), "")
        paths = inside.get(found[layer], {}) if layer in found else ends.get((nearest, _own_name(layer)), {})
        if len(paths) == 1:
            wanted.setdefault(next(iter(paths.values())), []).append(layer)
    return {layers[0]: path for path, layers in wanted.items() if len(layers) == 1}


def _own_name(path: str) -> str:
    """A layer's name without the models it is in; of one half of a Bidirectional, that of both with the side."""
    side = side_of(f"{path}_")
    return f"{_parent(path).rpartition('/')[2]}/{side}" if side else path.rpartition("/")[2]


def _above(path: str) -> Iterator[str]:
    """The paths of what a layer is in, the nearest first."""
    for _ in range(DEEPEST):
        path = _parent(path)
        if not path:
            return
        yield path


# What a PyTorch weight's rank tells of its layer, where no running statistics stand beside it.
_BY_RANK: Mapping[int, tuple[str, ...]] = {
    1: ("LayerNormalization", "GroupNormalization", "PReLU"),
    2: ("Dense", "Embedding"),
    3: ("Conv1D", "Conv1DTranspose"),
    4: ("Conv2D", "Conv2DTranspose"),
    5: ("Conv3D", "Conv3DTranspose"),
}


def paths_by_order(layers: LayerShapes, source: Source, where: Places, options: Options, module: str) -> dict[str, str]:
    """Kind by kind, the first layer of the source to the first of the module, and so on; counts must agree."""
    kept = {
        layer: shapes
        for layer, shapes in layers.items()
        if not all(options.skips((layer, f"{layer}/{role}")) for role in shapes)
    }
    theirs = {layer: _kinds_of(source, layer, shapes) for layer, shapes in kept.items()}
    whole = any(kind.startswith("Separable") for kinds in theirs.values() for kind in kinds)
    own = {place.path: place for place in _counted(where, whole) if not _skipped(place, options)}

    def fits(layer: str, path: str) -> str | None:
        kind = next((kind for kind in theirs[layer] if kind in own[path].kinds), theirs[layer][0])
        shapes = {role: shape for role, shape in kept[layer].items() if not _partial(source, f"{layer}/{role}")}
        return misfit(shapes, kind, own[path], source.layout)

    return by_order(
        theirs, {path: place.kinds for path, place in own.items()}, fits, (source.name, module), _doubt(source)
    )


def _doubt(source: Source) -> str:
    """What a refusal says of the order in files where layers of one class stand apart from those of others."""
    if source.architecture is not None or not source.format.startswith("keras-v3"):
        return ""
    return (
        "The file does not say the model's order; bridge.read(path, config=json.loads(model.to_json())) and .keras "
        "files do."
    )


def _kinds_of(source: Source, layer: str, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    if source.layout == "torch":
        known = _BY_RANK.get(len(shapes.get("weight", ())), ("unknown",))
        return ("BatchNormalization",) if "running_mean" in shapes else known
    return (kind_of_layer(source, layer, shapes, None) or source.kinds.get(layer, "unknown"),)


def _partial(source: Source, key: str) -> bool:
    """Whether a tensor fills only some rows of its place, so that its shape is not that of the place."""
    return key in source and source.stored[key].rows is not None


def _counted(where: Places, whole: bool) -> list[Place]:
    """The places by order: a separable convolution is one of them or its two steps are, as the source has it."""
    separable = [place for place in where.places.values() if place.kinds[0].startswith("Separable")]
    steps = {id(slot) for place in separable for slot in place.slots.values()}
    return [
        place
        for place in where.places.values()
        if (place in separable) == whole or not (place in separable or steps & {id(s) for s in place.slots.values()})
    ]


def _skipped(place: Place, options: Options) -> bool:
    return all(options.skips((slot.target,)) for slot in place.slots.values())


def misfit(shapes: Mapping[str, Shape], kind: str, place: Place, layout: str = "keras") -> str | None:
    """Why these weights do not go to that place; None where they do."""
    if layout == "torch":
        own = ((role, shape, place.slots[role]) for role, shape in shapes.items() if role in place.slots)
        differ = (
            f"{role} {shape} is not {slot.target} {slot.shape}" for role, shape, slot in own if shape != slot.shape
        )
        return next(differ, None)
    for each in KINDS.get(kind, ()):
        slot, shape = place.slots.get(each.parameter), shapes.get(each.role)
        transform = each.transform(shape, slot.shape) if shape and slot else None
        other = transform is None and len([one for one in KINDS[kind] if one.role == each.role]) > 1
        if shape and slot and not other and (transform is None or not _same(transform.shape(shape), slot.shape)):
            return f"its {each.role} {shape} does not fit {slot.target} {slot.shape}"
    return None


def _same(given: Shape, own: Shape) -> bool:
    """A Dense layer that stands for a convolution over a whole map has its numbers still in one axis."""
    return given == own or (len(own) > 2 and given[0] == own[0] and given[1] == prod(own[1:]))


def kind_of_layer(source: Source, layer: str, shapes: Mapping[str, Shape], place: Place | None) -> str | None:
    """The Keras class of a source layer: the file's word, else what its shapes and the place allow."""
    named = source.kinds.get(layer)
    if named in KINDS or place is None:
        return kind_of_weights(shapes, named)
    fitting = (kind for kind in place.kinds if kind_of_weights(shapes, None, (kind,)))
    exact = (kind for kind in place.kinds if kind_of_weights(shapes, None, (kind,)) and not misfit(shapes, kind, place))
    return next(exact, None) or next(fitting, None)


def _found(every: Sequence[str], layers: LayerShapes, layout: str, own: set[str], where: Places) -> dict[str, str]:
    by_name = {name: path for path, name in where.keras_names.items() if path in own}
    keras = {layer: layer for layer in every}
    if layout == "torch":
        kinds = {
            layer: kind_of_torch_weight(shapes["weight"]) for layer, shapes in layers.items() if "weight" in shapes
        }
        keras |= naming.detect(kinds).to_keras(kinds)
    by_path = {layer: path for layer in every if (path := layer if layer in own else slashed(layer)) in own}
    if where.declared:
        by_path = {layer: path for layer, path in by_path.items() if not naming.auto_prefix(layer)}
        declared = {path: name for name, path in by_name.items()}
        near = {*layers, *map(_parent, layers)}
        found = places_of([name for layer, name in keras.items() if layer in near], declared)
        return by_path | {layer: found[name] for layer, name in keras.items() if name in found}
    for outer in [outer for path, name in where.keras_names.items() if path == name for outer in _above(path)]:
        by_name.setdefault(outer, outer)  # what holds layers is numbered, too, as both directions in one module
    aligned = naming.aligned(list(keras.values()), list(by_name))
    named = {layer: by_name[aligned[name]] for layer, name in keras.items() if aligned[name] in by_name}
    if layout == "torch":  # a path is a place, unless Keras numbered it in another session
        return named | {layer: path for layer, path in by_path.items() if aligned[keras[layer]] == keras[layer]}
    return by_path | named


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def refuse_unknown(by: str) -> None:
    """Refuse another way of pairing than by name or by order."""
    if by not in ("name", "order"):
        raise BridgeError(f"by {by!r} is no way of pairing layers; there are name and order.")
