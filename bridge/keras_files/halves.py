"""The two layers of a Bidirectional in a legacy file: Keras stores the forward one first, whatever they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..layers.directions import BIDIRECTIONAL, SIDES, side_of, sided
from ..source import Shape
from .spelling import Spelled

GATED = "recurrent_kernel"


def with_sides(
    layer: str, names: Sequence[str], spelled: Sequence[Spelled], shapes: Sequence[Shape], kinds: Mapping[str, str]
) -> list[Spelled]:
    """The weights of one layer, in it those of every Bidirectional under forward_... and backward_...

    `names` are those in the file, `kinds` the classes that its configuration has, if any. Without one two
    like layers are a Bidirectional where the name of what they are in stands before that of the first,
    which Keras always calls forward_...
    """
    found = spelled = _without_cells(spelled, _repeated(layer, spelled, kinds))
    for outer, inner in _pairs(spelled):
        said = kinds.get("/".join(part for part in (layer, outer) if part))
        halves = [f"{outer}/{name}".lstrip("/") for name in inner]
        bare = _without_cells(spelled, halves)
        if said == BIDIRECTIONAL or (said is None and _looks_so(layer, outer, inner, names, bare, shapes)):
            found = _without_cells(found, halves)
            for side, name in zip(SIDES, inner, strict=True):
                own = f"{outer}/{name}".lstrip("/")
                to = f"{outer}/{sided(side, name)}".lstrip("/")
                found = [replace(each, inner=_moved(each.inner, own, to)) for each in found]
    return found


def is_model(layer: str, names: Sequence[str], spelled: Sequence[Spelled]) -> bool:
    """Whether a layer is a model by its weights' names: what is in it is called without it, which no wrapper does."""
    several = len({each.inner for each in spelled}) > 1
    return several and not any(_within(layer, name) for name in names) and all("/" in name for name in names)


def _pairs(spelled: Sequence[Spelled]) -> Iterator[tuple[str, list[str]]]:
    """What holds two layers and no more, with their names in the file's order."""
    inside: dict[str, list[str]] = {}
    for each in dict.fromkeys(each.inner for each in spelled):
        parts = each.split("/")
        for depth, part in enumerate(parts):
            held = inside.setdefault("/".join(parts[:depth]), [])
            if part not in held:
                held.append(part)
    for outer, held in inside.items():
        if len(held) == 2 and all(held):
            yield outer, held


def _repeated(layer: str, spelled: Sequence[Spelled], kinds: Mapping[str, str]) -> list[str]:
    """The places of the layers that the configuration calls an RNN of a cell."""
    places = {each.inner.rpartition("/")[0] for each in spelled if each.inner}
    return [each for each in places if kinds.get("/".join(part for part in (layer, each) if part)) == "RNN"]


def _without_cells(spelled: Sequence[Spelled], layers: Sequence[str]) -> list[Spelled]:
    """The weights with those of a recurrent layer's only cell in the layer's place, whatever the user called it."""
    found = list(spelled)
    for layer in layers:
        inside = {each.inner for each in spelled if f"{each.inner}/".startswith(f"{layer}/".lstrip("/"))}
        gated = any(each.inner in inside and each.role == GATED for each in spelled)
        if gated and len(inside) == 1 and (cell := inside.pop()).rpartition("/")[0] == layer != cell:
            found = [replace(each, inner=_moved(each.inner, cell, layer)) for each in found]
    return found


def _looks_so(
    layer: str,
    outer: str,
    inner: Sequence[str],
    names: Sequence[str],
    spelled: Sequence[Spelled],
    shapes: Sequence[Shape],
) -> bool:
    arrays: list[list[tuple[str, Shape]]] = [[], []]
    for each, shape in zip(spelled, shapes, strict=True):
        for place, name in enumerate(inner):
            if each.inner == f"{outer}/{name}".lstrip("/"):
                arrays[place].append((each.role, shape))
    recurrent = GATED in dict(arrays[0]) and arrays[0] == arrays[1]
    owner = outer.rpartition("/")[2] or layer
    return recurrent and side_of(inner[0]) == SIDES[0] and any(_within(owner, name) for name in names)


def _within(layer: str, name: str) -> bool:
    """Whether a weight's name has that of the layer in front of another's."""
    return re.search(rf"(^|/){re.escape(layer)}(_\d+)?/.+/", name) is not None


def _moved(place: str, own: str, to: str) -> str:
    if place == own:
        return to
    return f"{to}/{place[len(own) + 1 :]}" if place.startswith(f"{own}/") else place
