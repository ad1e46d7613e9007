"""The map that a Dense layer's outputs are reshaped to, as far as the shapes of weights tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from .maps import Flat
from .shapes import Convolution, Shapes
from .shapes import places as places_of
from .sizes import Sizes

FEWEST_PLACES = 4  # of a map that a row is reshaped to; two parts of a row are rather its halves
MOST_OF_A_PICTURE = 4  # channels


@dataclass
class Before:
    """The Dense layers in front of a convolution, by their outputs, and normalisations, by their values."""

    units: dict[str, int] = field(default_factory=dict)
    normal: dict[str, int] = field(default_factory=dict)


@dataclass
class Rows:
    """Dense layers in front of each convolution, the last of which may be reshaped to the map that it takes."""

    before: Before = field(default_factory=Before)
    found: list[tuple[Before, Convolution]] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)

    def add(self, layer: str, values: int, shapes: Shapes) -> None:
        """A layer that takes so many values in a row."""
        self.taken[layer] = values
        if "recurrent_kernel" in shapes:
            self.before = Before()  # what gives steps is not reshaped to a picture
        else:
            self.before.units[layer] = shapes["kernel"][-1]

    def normalise(self, layer: str, values: int) -> None:
        """A normalisation or PReLU of so many values."""
        self.before.normal[layer] = values

    def end(self, convolution: Convolution) -> None:
        """A convolution."""
        self.found.append((self.before, convolution))
        self.before = Before()

    def reshaped(self, behind: Collection[str]) -> tuple[dict[str, Flat], dict[str, str]]:
        """The maps that the last Dense layers make, side by side, where a convolution takes their channels.

        A few channels may be those of a picture, which stands beside the row: then only a square is believed. So many
        values as another layer takes in a row, or as a map has channels that it may be a gate of, are no map; these are
        what else would fit, in words. `behind` are the layers behind a Flatten.
        """
        found: dict[str, Flat] = {}
        doubts: dict[str, str] = {}
        plain = {values for layer, values in self.taken.items() if layer not in behind}
        channels = {each for _, convolution in self.found for each in (convolution.taken, convolution.given)}
        for before, convolution in self.found:
            own, places = _side_by_side([*before.units.items()], convolution.taken)
            sides = places_of(places, convolution.rank)
            if not own or (convolution.taken <= MOST_OF_A_PICTURE and None in sides):
                continue
            maps = {width: _map_of(sides, width // places) for _, width in own}
            if {*maps} & (plain | channels):
                doubts |= {layer: _doubt(layer, width, maps[width]) for layer, width in own if maps[width].shape}
                continue
            both = (*own, *(each for each in before.normal.items() if each[1] in maps))
            found |= {layer: maps[width] for layer, width in both if maps[width].moves}
        return found, doubts


def _side_by_side(units: Sequence[tuple[str, int]], channels: int) -> tuple[Sequence[tuple[str, int]], int]:
    """The last layers whose outputs make a map of so many channels, the fewest that do, and its places."""
    total = 0
    for at in range(len(units) - 1, -1, -1):
        total += units[at][1]
        places = total // channels
        if places >= FEWEST_PLACES and places * channels == total and not any(each % places for _, each in units[at:]):
            return units[at:], places
    return (), 0


def _doubt(layer: str, values: int, flat: Flat) -> str:
    """That a layer may make a map, though other layers say that its values stay in a row."""
    return (
        f"{layer} is taken to give {values} values in a row. If a Reshape makes a map of them, say "
        f"unflatten={{{layer!r}: {flat.shape}}}."
    )


def _map_of(sides: Sizes, channels: int) -> Flat:
    return Flat((*sides, channels) if None not in sides else (), inferred=True)
