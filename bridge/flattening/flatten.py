"""How a layer's weights are reordered behind a Flatten and in front of a Reshape.

Keras flattens height, width, channels; PyTorch flattens channels, height, width. So a layer behind a
Flatten needs its inputs in another order, and one in front of a Reshape to such a map its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from ..errors import BridgeError
from ..layers.beside import Beside, Map, map_of, values_of
from ..layers.transform import Transform
from ..options import Flattened, Options
from ..source import Shape, Source
from .followed import followed, ranks
from .guessed import guessed
from .maps import FIRST, LAST, Flat

Known = TypeVar("Known")
# The axis that holds what a layer takes or gives, by the weight's role.
INPUTS = {"kernel": -2} | dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance", "alpha"), -1)
OUTPUTS = INPUTS | dict.fromkeys(("kernel", "bias", "embeddings"), -1)
# The kinds that may take or give rows of a map; a normalisation only where its place is one for rows.
OF_ROWS = frozenset({"Dense", "SimpleRNN", "GRU", "LSTM", "Embedding", "Conv1D"})
CHANNELS_FIRST = (_ConvNd, _BatchNorm, _InstanceNorm, nn.GroupNorm, nn.PReLU)
NAMES = {2: "(steps, channels)", 4: "(depth, height, width, channels)"}


@dataclass(frozen=True)
class _Side:
    """What is known and what is said of the maps on one side of the layers, and the axis that holds them."""

    known: Mapping[str, Flat]
    said: Flattened
    axis: int | None
    option: str
    deals: str


@dataclass(frozen=True)
class Maps:
    """The map that was flattened in front of each layer, and the one that its outputs are reshaped to.

    Only those are there that PyTorch has in another order, as far as the file tells.
    """

    source: Source
    inputs: Mapping[str, Flat]
    outputs: Mapping[str, Flat]

    def unfolded(
        self, transform: Transform, options: Options, layer: str, role: str, shape: Shape, to: Shape
    ) -> Transform:
        """The transform of a weight with flattened axes unfolded; `to` is the shape of its place.

        What the options say goes before what is known. A map that the file does not tell is refused
        rather than guessed, but where the place says it: a convolution as large as the map. Weights
        that belong to no flattened values keep their transform.
        """
        taken = _Side(self.inputs, options.flatten, INPUTS.get(role), "flatten", "takes")
        given = _Side(self.outputs, options.unflatten, OUTPUTS.get(role), "unflatten", "gives")
        own = (*to[2:], to[1]) if _is_whole(role, shape, to) else None
        found = {"flatten": self._map(taken, layer, shape, own), "unflatten": self._map(given, layer, shape, None)}
        if all(found.values()) and taken.axis == given.axis:
            raise BridgeError(
                f"{self.source.name}: the values of {layer} were flattened from one map and are reshaped to another, "
                f"and PyTorch may have them in the order of either. Say which with flatten={{{layer!r}: None}} or "
                f"unflatten={{{layer!r}: None}}."
            )
        if found["flatten"] and own:
            transform = replace(transform, joined=None, apart=True)
        for side in (taken, given):
            map_ = found[side.option]
            if map_ and side.axis is not None:
                transform = transform.unfolding(len(shape) + side.axis, *map_)
        return transform

    def _map(self, side: _Side, layer: str, shape: Shape, own: Shape | None) -> tuple[Map, bool] | None:
        """The map in the side's axis of a weight, and whether it is inferred; None where there is none."""
        if side.axis is None or len(shape) < -side.axis:
            return None
        values = shape[side.axis]
        if layer in side.said:
            chosen = side.said[layer]
            said = map_of(chosen) if chosen else None
            if said is not None and values_of(said) != values:
                what = f"those of {said}" if isinstance(said, Beside) else f"those of a {said} map"
                raise BridgeError(
                    f"{self.source.name}: {layer} {side.deals} {values} values, not {what}. Correct {side.option}."
                )
            return (said, False) if said else None
        flat = side.known.get(layer) or side.known.get(layer.rpartition("/")[0])  # of a wrapper: what it wraps
        if flat is None:
            return None
        if own is not None and (flat.inferred or not flat.shape):
            return own, False
        if flat.beside and not flat.mixed and flat.shape == (values,):
            return Beside(tuple(_sizes(part) for part in flat.beside)), flat.inferred
        whole = _completed(flat, values)
        if whole is None or flat.mixed or flat.kept:
            raise BridgeError(f"{self.source.name}: {_untold(flat, layer, side, values)}")
        return (whole, flat.inferred) if Flat(whole).moves else None


def maps_of(source: Source, parts: Mapping[str, nn.Module] | None = None) -> Maps:
    """The maps that a source's layers flatten and make; none where its arrays are PyTorch's.

    `parts` are the modules by the layers that go to them: where these have the channels says what order follows.
    """
    if source.layout != "keras":
        return Maps(source, {}, {})
    parts = parts or {}
    orders = {layer: _order_of(part) for layer, part in parts.items()}
    channels = {layer: part.in_channels for layer, part in parts.items() if isinstance(part, _ConvNd)}
    return _said_by(parts, Maps(source, *_both(_classed(source, parts), orders, channels)))


def _classed(source: Source, parts: Mapping[str, nn.Module]) -> Source:
    """The source with the class of transposed convolutions, which only the module may tell from others."""
    found = {
        layer: f"Conv{part.weight.dim() - 2}DTranspose"
        for layer, part in parts.items()
        if isinstance(part, _ConvTransposeNd) and layer not in source.kinds
    }
    return replace(source, kinds={**source.kinds, **found}) if found else source


def _said_by(parts: Mapping[str, nn.Module], maps: Maps) -> Maps:
    """The maps with those that the modules say, `keras_flattened` and `keras_reshaped`, where the file does not.

    `parts` are the modules by the layers that go to them. A map of another number of values than the layer has
    is left to the check of shapes. Refused: a file that says another map.
    """
    sides = {"keras_flattened": dict(maps.inputs), "keras_reshaped": dict(maps.outputs)}
    axes = {"keras_flattened": INPUTS["kernel"], "keras_reshaped": OUTPUTS["kernel"]}
    for layer, part in parts.items():
        kernel = maps.source.layers.get(layer, {}).get("kernel", ())
        for attribute, known in sides.items():
            own = getattr(part, attribute, None)
            if own is None or len(kernel) != 2 or kernel[axes[attribute]] != prod(own):
                continue
            said = known.get(layer)
            if said and not (said.inferred or said.mixed) and None not in said.shape and said.shape not in ((), own):
                raise BridgeError(
                    f"{maps.source.name}: {layer} is for a map of {said.shape}, but the module's layer for {own}. "
                    f"Build the module for the file's images."
                )
            known[layer] = Flat(tuple(own))
    return Maps(maps.source, sides["keras_flattened"], sides["keras_reshaped"])


def flattened(source: Source) -> dict[str, Flat]:
    """The flattened map in front of each layer that has one, from the architecture or else from the shapes."""
    return _both(source, {})[0]


def _order_of(part: nn.Module) -> int | None:
    """Where a module takes and gives the channels of a map: FIRST, LAST, or None where it has no say in that."""
    if isinstance(part, nn.Linear):
        return LAST
    shared = isinstance(part, nn.PReLU) and part.num_parameters == 1
    return FIRST if isinstance(part, CHANNELS_FIRST) and not shared else None


def _both(
    source: Source, orders: Mapping[str, int | None], channels: Mapping[str, int] | None = None
) -> tuple[dict[str, Flat], dict[str, Flat]]:
    if source.architecture is None:
        guess = guessed(source, channels)
        return guess.inputs, guess.outputs
    inputs, outputs = _understood(source, lambda model: followed(model, orders))
    untold = {layer for layer, flat in inputs.items() if not flat.mixed and (not flat.shape or None in flat.shape)}
    guesses = guessed(source).inputs if untold else {}
    return {layer: guesses.get(layer, flat) if layer in untold else flat for layer, flat in inputs.items()}, outputs


def doubts(source: Source, options: Options) -> list[str]:
    """What else the shapes of a file without an architecture could mean, of layers of which nothing is said."""
    if source.layout != "keras" or source.architecture is not None:
        return []
    said = {**options.flatten, **options.unflatten}
    return [text for layer, text in guessed(source).doubts.items() if layer not in said]


def ranks_of(source: Source) -> Mapping[str, int]:
    """How many axes each layer's inputs have, with the batch's, as far as the architecture tells."""
    return {} if source.architecture is None else _understood(source, ranks)


def _understood(source: Source, read: Callable[[Mapping[str, Any]], Known]) -> Known:
    try:
        return read(source.architecture or {})
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise BridgeError(
            f"{source.name}: its model_config is not one of Keras ({error}). Get the file again."
        ) from error


def _is_whole(role: str, shape: Shape, to: Shape) -> bool:
    """Whether the place of a Dense layer's kernel is a convolution as large as the map."""
    return role == "kernel" and len(shape) == 2 and len(to) > 2 and prod(to[2:]) > 1 and prod(to[1:]) == shape[0]


def _completed(flat: Flat, values: int) -> Shape | None:
    """The map's shape, with the one size that may be missing; None where it does not come to so many values."""
    rest = prod(size for size in flat.shape if size)
    if not flat.shape or flat.shape.count(None) > 1 or values % rest:
        return None
    whole = tuple(size or values // rest for size in flat.shape)
    return whole if prod(whole) == values else None


def _sizes(part: Flat) -> Shape:
    """A part's map, or its values in one row where PyTorch has them in Keras's order."""
    sizes = tuple(size or 0 for size in part.shape)
    return sizes if part.moves else (prod(sizes),)


def _untold(flat: Flat, layer: str, side: _Side, values: int) -> str:
    """Why a map is not known, and what to say."""
    whole = _completed(flat, values)
    if flat.kept and whole and not flat.mixed:
        return (
            f"{layer} {side.deals} the {values} values of a {whole} map, with {flat.kept} axes of time in front of its "
            f"channels, for which no order is known here. Leave it out with skip {layer!r}."
        )
    if side.option == "flatten":
        what = f"{layer} takes {values} flattened values, and the file does not say of which map."
        if flat.mixed:
            what = (
                f"{layer} takes {values} flattened values, and the file does not say in which order PyTorch has them."
            )
    elif flat.mixed:
        what = f"{layer} gives {values} values for a map and for other uses, and not all can be put in PyTorch's order."
    else:
        what = f"{layer} gives {values} values for a map, as it seems, and the file does not say of which shape."
    form = whole or NAMES.get(len(flat.shape), "(height, width, channels)")
    beside = "" if whole or side.option != "flatten" else ", ((height, width, channels), 10) beside 10 other values"
    said = f"{what} Say it with {side.option}={{{layer!r}: {form}}}{beside}, or None where they stay in Keras's order."
    if flat.mixed and side.option == "flatten":
        said += " A Dense layer whose outputs are added to the map's needs unflatten as well."
    return said
