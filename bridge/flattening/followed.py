"""What each layer of an architecture is given: the flattened maps in front, and the maps its outputs become."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import Any

from ..architecture import KerasLayer, Reference, layers, references, wrapped
from .computed import decided, given_out
from .maps import FIRST, LAST, Flat, Made, Values, with_time, without_time
from .sizes import Sizes

MOST_CALLS = 50_000  # of layers, in models inside models, each of which may be used many times
VECTORS = frozenset({"BatchNormalization", "LayerNormalization", "PReLU"})  # with one number for each value of a row
SOURCES = frozenset({"Dense", "Embedding"})

Calls = Mapping[tuple[str, int], list[Values]]  # what a layer gave out, by its name and the number of the call
Paths = tuple[str, ...]  # the names that a layer may go by: of TimeDistributed, Keras 2 leaves out what it wraps


@dataclass
class Notes:
    """What was seen of every layer, by its path. `orders` is where the layers' modules have the channels of a map."""

    orders: Mapping[str, int | None]
    flats: dict[str, set[Flat | None]] = field(default_factory=lambda: defaultdict(set))
    made: dict[Made, set[int | None]] = field(default_factory=lambda: defaultdict(set))
    rows: set[str] = field(default_factory=set)  # layers whose outputs are used as they are, too
    ranks: dict[str, int] = field(default_factory=dict)  # axes of a layer's inputs, with the batch's
    calls: int = 0


def followed(model: Mapping[str, Any], orders: Mapping[str, int | None]) -> tuple[dict[str, Flat], dict[str, Flat]]:
    """The map that each layer's inputs were flattened from, and the one that its outputs are reshaped to.

    Only those are there whose order differs in PyTorch. `orders` is where the modules that take layers' weights
    have the channels of a map: FIRST, LAST, or None.
    """
    notes = _noted(model, orders)
    outputs: dict[str, set[Flat | None]] = defaultdict(set)
    for made, places in notes.made.items():
        for layer in made.layers:
            outputs[layer].add(_made(made, places, alone=layer not in notes.rows))
    return _agreed(notes.flats), _agreed(outputs)


def ranks(model: Mapping[str, Any]) -> dict[str, int]:
    """How many axes each layer's inputs have, with the batch's, where that is known."""
    return _noted(model, {}).ranks


def _noted(model: Mapping[str, Any], orders: Mapping[str, int | None]) -> Notes:
    notes, config = Notes(orders), model.get("config")
    given = _model(layers(model), config if isinstance(config, dict) else {}, [], ("",), notes)
    notes.rows.update(maker for values in given for maker in values.makers)
    return notes


def _agreed(seen: Mapping[str, set[Flat | None]]) -> dict[str, Flat]:
    """One map for each layer: of a layer that is used twice, on different ones, no order is right."""
    found = {}
    for layer, flats in seen.items():
        flat = next(iter(flats)) if len(flats) == 1 else Flat((), mixed=True)
        if flat is not None and flat.moves:
            found[layer] = flat
    return found


def _made(made: Made, places: set[int | None], alone: bool) -> Flat | None:
    """The map that a Reshape makes, as PyTorch has it. What no layer decides has channels first, of three axes."""
    if len(places) > 1 or None in places:
        return Flat(made.shape, mixed=True)
    place = next(iter(places), 0 if len(made.shape) == 3 else LAST)
    if place is None or place == LAST:
        return None
    flat = Flat(made.shape, place)
    if not flat.moves:
        return None
    return flat if made.whole and alone else replace(flat, mixed=True)


def _model(
    found: tuple[KerasLayer, ...], config: Mapping[str, Any], given: Sequence[Values], prefixes: Paths, notes: Notes
) -> list[Values]:
    """What a model gives out for what it is given."""
    ends = list(references(config.get("output_layers")))
    shift = _shifts(found, ends)
    entries = dict(zip([each.layer for each in references(config.get("input_layers"))], given, strict=False))
    first = given[0] if len(given) == 1 else Values()
    calls: dict[tuple[str, int], list[Values]] = {}
    last = [first]
    for layer, call in _in_order(found, shift):
        inputs = [_fetched(calls, each, shift) for each in (layer.calls[call] if layer.calls else ())]
        if not inputs:
            inputs = [entries.get(layer.name, first)]
        calls[layer.name, call] = last = _call(layer, inputs, prefixes, notes)
    return [_fetched(calls, each, shift) for each in ends] or last


def _shifts(found: tuple[KerasLayer, ...], ends: Iterable[Reference]) -> dict[str, int]:
    """How far a layer's calls are counted from: Keras 1 and 2 count the making of a nested model as one."""
    highest: dict[str, int] = defaultdict(int)
    for each in (*ends, *(each for layer in found for call in layer.calls for each in call)):
        highest[each.layer] = max(highest[each.layer], each.call)
    return {layer.name: max(highest[layer.name] + 1 - max(len(layer.calls), 1), 0) for layer in found}


def _in_order(found: tuple[KerasLayer, ...], shift: Mapping[str, int]) -> Iterator[tuple[KerasLayer, int]]:
    """Every call of every layer, behind those that it takes from."""
    by_name = {layer.name: layer for layer in found}
    graph: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for layer in by_name.values():
        for call, given in enumerate(layer.calls or ((),)):
            graph[layer.name, call] = [(each.layer, each.call - shift.get(each.layer, 0)) for each in given]
    for name, call in TopologicalSorter(graph).static_order():
        if (name, call) in graph:
            yield by_name[name], call


def _fetched(calls: Calls, reference: Reference, shift: Mapping[str, int]) -> Values:
    given = calls.get((reference.layer, reference.call - shift.get(reference.layer, 0)), [])
    values = given[reference.output] if 0 <= reference.output < len(given) else Values()
    if given and reference.output and len(given) == 1:  # a state of a recurrent layer, say
        values = Values(None, LAST if given[0].channels == LAST else None)
    return _told(values, reference.shape[1:] if reference.shape else None)


def _told(values: Values, shape: Sizes | None) -> Values:
    """The same, with the shape that the file says."""
    if shape is None:
        return values
    known = values.shape if values.shape is not None and len(values.shape) == len(shape) else None
    channels = values.channels if known is not None or values.channels == LAST else None
    sizes = tuple(size or own for size, own in zip(shape, known or (None,) * len(shape), strict=True))
    return replace(values, shape=sizes, channels=channels)


def _call(layer: KerasLayer, inputs: Sequence[Values], prefixes: Paths, notes: Notes) -> list[Values]:
    notes.calls += 1
    if notes.calls > MOST_CALLS:
        raise ValueError(f"it calls its layers more than {MOST_CALLS} times")
    paths = tuple(prefix + layer.name for prefix in prefixes)
    if layer.children:
        return _model(layer.children, layer.config, inputs, tuple(f"{path}/" for path in paths), notes)
    inner = wrapped(layer) if layer.kind == "TimeDistributed" else None
    if inner is None:
        return [_leaf(layer, inputs, paths, notes)]
    steps = [without_time(_declared(layer, each)) for each in inputs]
    given = inputs[0].shape[0] if inputs[0].shape else None
    if inner.children:
        names = tuple(f"{path}/{end}" for path in paths for end in ("", f"{inner.name}/"))
        return [with_time(each, given) for each in _model(inner.children, inner.config, steps, names, notes)]
    return [with_time(_leaf(inner, steps, paths, notes), given)]


def _leaf(layer: KerasLayer, inputs: Sequence[Values], paths: Paths, notes: Notes) -> Values:
    inputs = [_declared(layer, inputs[0]), *inputs[1:]]
    given, out = inputs[0], given_out(layer, inputs)
    last = _over_last_axis(layer, given)
    for path in paths:
        notes.flats[path].add(given.flat if last else None)
        if given.shape is not None:
            notes.ranks[path] = len(given.shape) + 1
    order = next((notes.orders[path] for path in paths if path in notes.orders), None)
    out = replace(out, channels=_channels(layer, given, out, order if last else None))
    if layer.kind in SOURCES:
        out = replace(out, makers=paths)
    elif layer.kind in VECTORS and out.makers and last:
        out = replace(out, makers=(*out.makers, *paths))
    for made in out.made:
        notes.made[replace(made, steps=0)].update(())
    for place in decided(layer, inputs, out):
        for made in (each for values in inputs for each in values.made):
            at = place if place in (None, LAST) else max(place + made.steps, 0)
            notes.made[replace(made, steps=0)].add(at)
    carried = {*out.makers, *(name for made in out.made for name in made.layers)}
    notes.rows.update({maker for values in inputs for maker in values.makers} - carried)
    return out


def _channels(layer: KerasLayer, given: Values, out: Values, order: int | None) -> int | None:
    """Where PyTorch has the channels of what a layer gives, if its module takes them in that order.

    A Dense layer that is a convolution gives them where it takes them. Where the channels of a picture have to be
    moved for a module, nothing says whether they are moved back behind it; those of steps are taken to stay.
    """
    if given.orderless or given.made or len(given.shape or ()) == 2:
        return out.channels
    if layer.kind == "Dense" and order == FIRST:
        return given.channels
    if layer.kind == "Dense":  # nn.Linear, which any file that is converted holds
        return out.channels if given.channels in (LAST, None) else None
    return None if layer.kind in VECTORS and order == FIRST and given.channels == LAST else out.channels


def _over_last_axis(layer: KerasLayer, given: Values) -> bool:
    """Whether a layer's weights belong to the last axis; a normalisation says its axes, counted with the batch."""
    axis = layer.config.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    return layer.kind not in VECTORS or given.shape is None or bool({-1, len(given.shape)} & set(axes))


def _declared(layer: KerasLayer, given: Values) -> Values:
    """What a layer is given, as far as it says so itself."""
    said = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
    if not isinstance(said, list):
        return given
    shape = tuple(said[1:])
    if given != Values():
        known = given.shape if given.shape is not None and len(given.shape) == len(shape) else shape
        return replace(given, shape=tuple(own or size for own, size in zip(known, shape, strict=True)))
    return Values(shape, {3: 0}.get(len(shape), LAST if len(shape) < 3 else None))
