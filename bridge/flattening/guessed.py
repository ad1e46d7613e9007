"""The flattened map in front of a Dense or recurrent layer, as far as the shapes of weights tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate

from ..source import Source
from .maps import Flat
from .reshaped import Rows
from .shapes import Convolution, taken
from .shapes import convolution as convolution_of
from .shapes import places as places_of

PER_VALUE = ("moving_mean", "gamma", "beta", "alpha")  # of a normalisation or PReLU, one number for each value


@dataclass
class Guess:
    """The map in front of each layer, the one that its outputs are reshaped to, and what else would fit."""

    inputs: dict[str, Flat] = field(default_factory=dict)
    outputs: dict[str, Flat] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)


def guessed(source: Source, channels: Mapping[str, int] | None = None) -> Guess:
    """A layer that follows a convolution and takes more values than that has channels, and one in front of another.

    A map of pixels is taken to be square and one of voxels a cube; where it cannot be, its sizes stay
    unknown. So does a map that was put together, and all that a recurrent layer takes of pixels: rows or
    columns of a picture may be its steps. `channels` are those that convolutions take, as their modules know it: the
    kernel of one in groups has fewer.
    """
    guess = Guess()
    chain, row, places, waiting, rows = _Chain(), _Row(), _Places(), _Waiting(), Rows()
    units: set[int] = set()  # the outputs of all Dense layers
    for layer, shapes in source.layers.items():
        if convolution := convolution_of(layer, shapes, source.kinds.get(layer)):
            convolution = replace(convolution, taken=(channels or {}).get(layer, convolution.taken))
            rows.end(convolution)
            chain.add(convolution)
            row, places, waiting = _Row(), _Places(), _Waiting()
        elif (values := taken(shapes)) is not None:
            flat = (
                chain.flat(values, "recurrent_kernel" in shapes, units)
                or row.flat_of(values)
                or places.flat(values)
                or waiting.flat(values)
            )
            if flat and flat.moves:
                guess.inputs.update((name, flat) for name, width in chain.between.items() if width == values)
                guess.inputs[layer] = flat
                row = row if row.flat == flat else _Row(layer, values, flat)
            elif doubt := row.doubt(layer, values) or waiting.doubt(layer, values):
                guess.doubts[layer] = doubt
            row.units.add(shapes["kernel"][-1])
            units.add(shapes["kernel"][-1])
            rows.add(layer, values, shapes)
            places.add(shapes["kernel"][-1], anew=values == chain.channels)
            waiting = waiting.behind(chain, values, flat, shapes["kernel"][-1])
            chain = _Chain()
        elif vector := next((shapes[role] for role in PER_VALUE if len(shapes.get(role, ())) == 1), None):
            chain.normalise(layer, vector[0])
            rows.normalise(layer, vector[0])
        elif any(len(shape) > 1 for role, shape in shapes.items() if role != "alpha"):  # an embedding, say
            waiting = waiting.behind(chain, 0, None, max(shapes.values(), key=len)[-1], steps=True)
            chain, row = _Chain(), _Row()
    guess.outputs, doubts = rows.reshaped({layer: rows.taken[layer] for layer in guess.inputs if layer in rows.taken})
    guess.doubts |= doubts
    return guess


@dataclass
class _Row:
    """The flattened map that a layer took last: several may take it. `units` are the outputs of those since."""

    layer: str = ""
    values: int = 0
    flat: Flat | None = None
    units: set[int] = field(default_factory=set)

    def flat_of(self, values: int) -> Flat | None:
        """The same map, where a layer takes as many values and no layer since gives so many."""
        return self.flat if values == self.values and values not in self.units else None

    def doubt(self, layer: str, values: int) -> str:
        """That a layer may take that map, though one since gives as many values."""
        if self.flat is None or values != self.values:
            return ""
        known = self.flat.shape if self.flat.shape and None not in self.flat.shape else "(height, width, channels)"
        return (
            f"{layer} is taken to be behind another Dense layer and not, as {self.layer}, behind the Flatten: both "
            f"give {values} values. If it is behind that, say flatten={{{layer!r}: {known}}}."
        )


@dataclass
class _Places:
    """The units of the Dense layers since one that took a map's channels: place by place, or all of them pooled."""

    units: list[int] = field(default_factory=list)

    def add(self, units: int, anew: bool) -> None:
        if anew:
            self.units = [units]
        elif self.units:
            self.units.append(units)

    def flat(self, values: int) -> Flat | None:
        """A map, but of no known sides, where a layer takes so many times what is given, and no sum of them."""
        if not self.units or values == self.units[-1] or values % self.units[-1]:
            return None
        beside = accumulate(reversed(self.units))
        return None if values in beside else Flat((), inferred=True)


@dataclass(frozen=True)
class _Waiting:
    """A map that no layer has taken yet, by its channels, and the outputs of the layers of another branch since.

    `steps` are the outputs of those that give them for each step, all of which may be flattened.
    """

    channels: int = 0
    units: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()

    def behind(self, chain: _Chain, values: int, flat: Flat | None, units: int, steps: bool = False) -> _Waiting:
        """What waits behind a layer that takes so many values and gives so many."""
        channels = self.channels or (0 if chain.joined else chain.channels)
        taken = flat is not None or values == channels
        if taken or not channels:
            return _Waiting()
        return _Waiting(channels, (*self.units, units), (*self.steps, *((units,) if steps else ())))

    def flat(self, values: int) -> Flat | None:
        """A map beside other values, but of no known sides, where so many are neither those nor a pooled map's, too."""
        beside = {0, *accumulate(reversed(self.units))}
        pooled = {self.channels + each for each in beside} | beside | {*self.units}
        other = values in pooled or any(values % each == 0 for each in self.steps)
        return Flat((), inferred=True) if self.channels and values > 2 * self.channels and not other else None

    def doubt(self, layer: str, values: int) -> str:
        """That so many values may be those of the map as well as those of another branch."""
        if not self.channels or values <= 2 * self.channels or values % self.channels:
            return ""
        given = f"{values} values of steps" if self.steps else f"the {values} values of another layer"
        return (
            f"{layer} is taken to take {given}. If it is behind the Flatten of a map of "
            f"{self.channels} channels, say flatten={{{layer!r}: (height, width, {self.channels})}}."
        )


@dataclass
class _Chain:
    """The convolutions since the last layer of another kind, and the channels of the map that they give.

    `joined` tells that maps were put together: a convolution takes more channels than any gives.
    `tells` that normalisations do so behind what is joined, `told` that one has told the channels of the
    last map. `between` are normalisations of more values, of a flattened map perhaps.
    """

    convolutions: list[Convolution] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    given: set[int] = field(default_factory=set)
    channels: int = 0
    joined: bool = False
    told: bool = False
    tells: bool = False
    normal: int = 0
    between: dict[str, int] = field(default_factory=dict)

    def add(self, convolution: Convolution) -> None:
        if self.given and convolution.taken not in self.given:
            self.joined = True
            self.tells = self.tells or self.normal == convolution.taken
        self.convolutions.append(convolution)
        self.taken.add(convolution.taken)
        self.given.add(convolution.given)
        self.channels, self.told, self.normal, self.between = convolution.given, False, 0, {}

    def normalise(self, layer: str, values: int) -> None:
        self.normal = values
        if self.tells and not self.told:
            self.channels, self.told = values, True
        elif values > self.channels:
            self.between[layer] = values

    def flat(self, values: int, recurrent: bool, units: Collection[int]) -> Flat | None:
        """The map that so many values were flattened from; None where they are the channels of one.

        `units` are the outputs of the Dense layers before, which may be those of another branch.
        """
        if not self.channels or values <= self.channels:
            return None
        unknown = Flat((), inferred=True)
        if self.joined and not self.told:  # pooled, if that are the channels of a map before, or of those side by side
            pooled = values in self._beside() or values in self.taken
            return None if pooled else unknown
        if values % self.channels:  # beside other values: of a map of several places, or of one that was pooled
            other = values in self._sums() or values in units
            return unknown if values > 2 * self.channels and not other else None
        rank = self.convolutions[-1].rank
        if rank == 1 and values in self._beside():
            return unknown
        shape = (None,) * rank if recurrent and rank > 1 else places_of(values // self.channels, rank)
        return Flat((*shape, self.channels), inferred=True)

    def _sums(self) -> set[int]:
        """What the last convolutions give together where each is pooled."""
        return set(accumulate(each.given for each in reversed(self.convolutions)))

    def _beside(self) -> list[int]:
        """How many values the last convolutions give together that may stand side by side, pooled to one place each."""
        sums, total = [], 0
        for each in reversed(self.convolutions):
            if each.taken != self.convolutions[-1].taken:
                break
            total += each.given
            sums.append(total)
        return sums[1:]
