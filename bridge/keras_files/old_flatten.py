"""The rows behind a Flatten of channels first, brought to the order of channels last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from ..errors import BridgeError
from ..flattening.flatten import flattened
from ..flattening.sizes import Sizes
from ..layers.beside import Beside, Said, map_of
from ..source import Shape, Source, Stored, split
from .changes import refilled

NOTE = "{0} stands behind a Flatten of channels first: its rows are given in the order of a map {1}{2}."
SQUARE = ", taken to be square"
LINE = 2  # axes of a map of Conv1D, (steps, channels), which are never the other way round
PER_VALUE = frozenset({"gamma", "beta", "moving_mean", "moving_variance"})  # of a normalisation between the two


@dataclass(frozen=True)
class Rows:
    """Tensors with their rows in the order of height, width, channels; `maps` has the layers where they were not.

    `unknown` are the layers whose map nothing tells, each with the number of its rows.
    """

    stored: Mapping[str, Stored]
    maps: Mapping[str, Shape] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def channels_last(stored: Mapping[str, Stored], kinds: Mapping[str, str], given: Mapping[str, Said | None]) -> Rows:
    """The tensors of a weights-only file of channels first as a file of channels last would have them.

    Which layers stand behind a Flatten, and of which map, is told by the shapes, as everywhere, unless
    `given` says it: (height, width, channels), or None for no Flatten. `kinds` are the classes of layers.
    """
    source = Source(stored, format="", kinds=kinds)
    found = {layer: flat.shape for layer, flat in flattened(source).items() if len(flat.shape) != LINE}
    maps: dict[str, Shape] = {}
    unknown: dict[str, int] = {}
    for layer, shapes in source.layers.items():
        said, rows = given.get(layer), _rows(shapes)
        map_ = map_of(said) if said else None if layer in given else _known(found.get(layer, ()))
        if isinstance(map_, Beside):
            raise BridgeError(
                f"{layer} takes {map_}, and a file of channels first is not put in order beside other values. "
                f"Load it in its own Keras and save it with channels last."
            )
        if layer in found and layer not in given and map_ is None:
            unknown[layer] = rows
        elif map_ is not None and prod(map_) != rows:
            raise BridgeError(f"{layer} takes {rows} values, not those of a {map_} map. Correct flatten.")
        elif map_ is not None and prod(map_[:-1]) > 1:
            maps[layer] = map_
    notes = tuple(NOTE.format(layer, map_, "" if layer in given else SQUARE) for layer, map_ in maps.items())
    return Rows({key: _tensor(key, tensor, maps) for key, tensor in stored.items()}, maps, unknown, notes)


def _known(sizes: Sizes) -> Shape | None:
    whole = tuple(size for size in sizes if size)
    return whole if len(whole) == len(sizes) > LINE else None


def _rows(shapes: Mapping[str, Shape]) -> int:
    return next((shapes[role][0] for role in ("kernel", *PER_VALUE) if shapes.get(role)), 0)


def _tensor(key: str, tensor: Stored, maps: Mapping[str, Shape]) -> Stored:
    layer, role = split(key)
    if layer not in maps or (role != "kernel" and role not in PER_VALUE) or tensor.shape[:1] != (prod(maps[layer]),):
        return tensor
    *window, channels = maps[layer]
    return refilled(tensor, (channels, *window), (*range(1, len(maps[layer])), 0))
