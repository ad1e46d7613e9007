"""The two layers of a Bidirectional: readers call them forward_... and backward_..., as Keras does by itself."""

from __future__ import annotations

from ..source import Source

SIDES = ("forward", "backward")
BIDIRECTIONAL = "Bidirectional"


def sided(side: str, name: str) -> str:
    """The layer's name with its side in front, where Keras has not put that there: a second layer may be any."""
    return name if name.startswith(f"{side}_") else f"{side}_{name}"


def side_of(name: str) -> str | None:
    """The side that a layer's name says, with whatever it is in; None for any other name."""
    last = name.rpartition("/")[2]
    return next((side for side in SIDES if last.startswith(f"{side}_")), None)


def half_of(source: Source, layer: str) -> str | None:
    """Which half of a Bidirectional a layer of the source is; None for a layer that stands for itself.

    A user may call any two layers of a model so. Where the file does not say what they are in, they are
    the halves of one layer if they are all that is in it, and alike.
    """
    outer, side = layer.rpartition("/")[0], side_of(layer)
    if side is None or not outer:
        return None
    said = source.kinds.get(outer)
    if said is not None:
        return side if said == BIDIRECTIONAL else None
    inside = [each for each in source.layers if each.startswith(f"{outer}/")]
    alike = len(inside) == 2 and source.layers[inside[0]] == source.layers[inside[1]]
    return side if alike and {side_of(each) for each in inside} == {*SIDES} else None
