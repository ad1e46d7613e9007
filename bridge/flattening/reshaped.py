"""The map that a Dense layer's outputs are reshaped to, as far as the shapes of weights tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .maps import Flat
from .shapes import Convolution, Shapes
from .shapes import places as places_of
from .sizes import Sizes

FEWEST_PLACES = 4  # of a map that a row is reshaped to; two parts of a row are rather its halves
MOST_OF_A_PICTURE = 16  # channels


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

    def reshaped(self, behind: Mapping[str, int]) -> tuple[dict[str, Flat], dict[str, str]]:
        """The maps that Dense layers make, where a convolution takes their channels and nothing else gives these.

        `behind` are the layers behind a Flatten, with the values they take. Where the channels may as well be those of
        a picture or a series, or of another map, the layer stays a row; what else would fit is said in words.
        """
        found: dict[str, Flat] = {}
        doubts: dict[str, str] = {}
        plain = {values for layer, values in self.taken.items() if layer not in behind}
        channels = {each for _, convolution in self.found for each in (convolution.taken, convolution.given)}
        given: set[int] = set()  # by the convolutions so far
        for before, convolution in self.found:
            own, places = _makers(before.units, convolution.taken, plain)
            sides = places_of(places, convolution.rank)
            maps = {width: _map_of(sides, width // places) for _, width in own}
            alone = convolution.rank > 1 and convolution.taken > MOST_OF_A_PICTURE and convolution.taken not in given
            told = convolution.transposed or alone or bool({*maps} & {*behind.values()})
            given.add(convolution.given)
            if not told or {*maps} & (plain | channels):
                doubts |= {layer: _doubt(layer, width, maps[width]) for layer, width in own if maps[width].moves}
                continue
            both = (*own, *(each for each in before.normal.items() if each[1] in maps))
            found |= {layer: maps[width] for layer, width in both if maps[width].moves}
        return found, doubts


Units = Sequence[tuple[str, int]]


def _makers(units: Mapping[str, int], channels: int, plain: Collection[int]) -> tuple[Units, int]:
    """The Dense layers whose outputs make a map of so many channels, and its places: one, or the last side by side.

    Between it and the convolution there may be others: heads, and gates of channels.
    """
    listed = [*units.items()]
    for layer, width in [each for each in reversed(listed) if each[1] not in plain] or listed[-1:]:
        if width % channels == 0 and width // channels >= FEWEST_PLACES:
            return ((layer, width),), width // channels
    total = 0
    for at in range(len(listed) - 1, -1, -1):
        total += listed[at][1]
        places = total // channels
        whole = places * channels == total and not any(each % places for _, each in listed[at:] if places)
        if places >= FEWEST_PLACES and whole:
            return listed[at:], places
    return (), 1


def _doubt(layer: str, values: int, flat: Flat) -> str:
    """That a layer may make a map, though other layers say that its values stay in a row."""
    return (
        f"{layer} is taken to give {values} values in a row. If a Reshape makes a map of them, say "
        f"unflatten={{{layer!r}: {flat.shape or '(height, width, channels)'}}}."
    )


def _map_of(sides: Sizes, channels: int) -> Flat:
    return Flat((*sides, channels) if None not in sides else (), inferred=True)
