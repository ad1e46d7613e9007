"""Values of several maps, and of rows, beside each other in one axis: what is concatenated behind a Flatten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ..source import Array, Shape


@dataclass(frozen=True)
class Beside:
    """The shapes of the parts in their order: (height, width, channels) of a map, (values,) of a row."""

    parts: tuple[Shape, ...]

    def __str__(self) -> str:
        return f"({', '.join(str(part[0]) if len(part) == 1 else str(part) for part in self.parts)})"

    @property
    def values(self) -> int:
        """How many values all parts have."""
        return sum(map(prod, self.parts))

    @property
    def order(self) -> Array:
        """Keras's place of each value in PyTorch's order: within each map the channels come first."""
        found, start = [], 0
        for part in self.parts:
            places = np.arange(start, start + prod(part)).reshape(part)
            found.append(np.moveaxis(places, -1, 0).ravel())
            start += prod(part)
        return np.concatenate(found)


Map = Shape | Beside
Said = Shape | Sequence[int | Shape]  # by a user: a map, or the parts beside each other in an axis


def map_of(said: Said) -> Map:
    """What a user says of an axis: (7, 7, 512), or ((7, 7, 512), 10) for a map and ten values behind it."""
    if all(isinstance(each, int) for each in said):
        return tuple(each for each in said if isinstance(each, int))
    return Beside(tuple((each,) if isinstance(each, int) else tuple(each) for each in said))


def values_of(map_: Map) -> int:
    """How many values there are in an axis that holds these."""
    return map_.values if isinstance(map_, Beside) else prod(map_)
