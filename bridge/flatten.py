"""Which weights stand behind a Flatten, and the feature map it flattened.

Keras flattens height, width, channels; PyTorch flattens channels, height, width. So a Dense layer
behind a Flatten needs its inputs reordered, and for that the shape of the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

from . import architecture
from .architecture import KerasLayer
from .errors import BridgeError
from .layouts import Transform
from .sizes import Size, pair, times, transposed, windowed, with_edges
from .source import Shape, Source


@dataclass(frozen=True)
class Map:
    """A feature map in the order Keras holds it; a size is None where the file does not say."""

    shape: tuple[Size, ...]
    channels_first: bool = False


@dataclass(frozen=True)
class Flat:
    """The values of a (height, width, channels) map in a row, channels fastest.

    `mixed` with others, by a layer that is not known here, they have no order that could be told.
    """

    shape: tuple[Size, Size, Size]
    inferred: bool = False
    mixed: bool = False


State = Map | Flat | None

SAME_SHAPE = frozenset(
    "BatchNormalization Activation Dropout ReLU LeakyReLU ELU PReLU Softmax ThresholdedReLU GaussianNoise "
    "GaussianDropout AlphaDropout SpatialDropout2D ActivityRegularization LayerNormalization Masking".split()
)
WINDOWS = frozenset("Conv2D SeparableConv2D DepthwiseConv2D MaxPooling2D AveragePooling2D".split())
MERGED = frozenset({"Add", "Multiply", "Average", "Maximum", "Minimum", "Subtract"})
UNORDERED = frozenset({"Dense", "InputLayer"})  # what they give out has no order of a map
EDGES = frozenset({"ZeroPadding2D", "Cropping2D"})
MAPS = WINDOWS | EDGES | {"Conv2DTranspose", "UpSampling2D"}


def flattened(source: Source) -> dict[str, Flat]:
    """The flattened map in front of each layer that has one, from the architecture or else from the shapes."""
    guessed = _from_shapes(source)
    if source.architecture is None:
        return guessed
    found: dict[str, Flat] = {}
    try:
        _follow(architecture.layers(source.architecture), None, "", found)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise BridgeError(
            f"{source.name}: its model_config is not one of Keras ({error}). Get the file again."
        ) from error
    unknown = {layer for layer, flat in found.items() if None in flat.shape and not flat.mixed}
    return {layer: guessed.get(layer, flat) if layer in unknown else flat for layer, flat in found.items()}


def _follow(layers: tuple[KerasLayer, ...], given: State, prefix: str, found: dict[str, Flat]) -> State:
    """What a model gives out, given what comes in; notes each layer that is given a flattened map."""
    states: dict[str, State] = {}
    state: State = given
    entry = given if [layer.kind for layer in layers].count("InputLayer") < 2 else None
    for layer in layers:
        inputs = [states.get(name) for name in layer.inputs] or [entry]
        if isinstance(inputs[0], Flat):
            found[prefix + layer.name] = inputs[0]
        state = (
            _follow(layer.children, inputs[0], f"{prefix}{layer.name}/", found)
            if layer.children
            else _out(layer, inputs)
        )
        if len(layer.config.get("output_layers", ())) > 1 and isinstance(layer.config["output_layers"][0], list):
            state = Map((None, None, None))  # several outputs: the last one need not be the one that goes on
        states[layer.name] = state
    return state


def _out(layer: KerasLayer, inputs: list[State]) -> State:
    config, given = layer.config, inputs[0]
    declared = config.get("batch_shape") or config.get("batch_input_shape")
    if declared and (layer.kind == "InputLayer" or given is None):
        given = _within(_declared(declared, config), given)
    if given is None and layer.kind in MAPS:
        given = Map((None, None, None), config.get("data_format") == "channels_first")
    if layer.kind == "InputLayer" or layer.kind in SAME_SHAPE:
        return given
    if layer.kind in ("Flatten", "Reshape") and isinstance(given, Map):
        return _flatten(layer, given)
    if isinstance(given, Map):
        return _resized(layer, given, inputs)
    if any(isinstance(state, Flat) for state in inputs) and layer.kind not in UNORDERED:
        return given if layer.kind in MERGED else Flat((None, None, None), mixed=True)
    return None


def _within(declared: State, given: State) -> State:
    """The map that a nested model is given, where it declares one of any size."""
    if isinstance(declared, Map) and isinstance(given, Map) and declared.channels_first == given.channels_first:
        sizes = tuple(size or known for size, known in zip(declared.shape, given.shape, strict=True))
        return Map(sizes, declared.channels_first)
    return declared


def _declared(shape: Any, config: Mapping[str, Any]) -> State:
    first = config.get("data_format") == "channels_first" or config.get("dim_ordering") == "th"
    return Map(tuple(shape[1:]), first) if isinstance(shape, list) and len(shape) == 4 else None


def _flatten(layer: KerasLayer, given: Map) -> State:
    if layer.kind == "Reshape" and len(layer.config.get("target_shape", ())) != 1:
        return None
    moved = layer.config.get("data_format") == "channels_first"  # then Keras moves the channels last by itself
    if given.channels_first:
        return Flat((given.shape[1], given.shape[2], given.shape[0])) if moved else None
    return Flat((given.shape[0], given.shape[1], given.shape[2]))


def _resized(layer: KerasLayer, given: Map, inputs: list[State]) -> State:
    """The map a layer gives out. A class that is not known here keeps only what is certain: nothing."""
    config = layer.config
    first = config.get("data_format", "channels_first" if given.channels_first else "") == "channels_first"
    height, width, channels = given.shape[1:] + given.shape[:1] if first else given.shape
    sizes: tuple[Size, Size]
    if layer.kind in WINDOWS:
        sizes = windowed(config, (height, width))
        channels = _channels(config, channels)
    elif layer.kind == "Conv2DTranspose":
        sizes = transposed(config, (height, width))
        channels = config.get("filters")
    elif layer.kind in EDGES:
        sizes = with_edges(config, (height, width))
    elif layer.kind == "UpSampling2D":
        sizes = times((height, width), pair(config.get("size"), (2, 2)))
    elif layer.kind in ("Concatenate", "Merge"):
        sizes, channels = (
            (height, width),
            _sum([state.shape[-1] if isinstance(state, Map) else None for state in inputs]),
        )
    elif layer.kind in MERGED:
        sizes = (height, width)
    else:
        return Map((None, None, None), first) if "Global" not in layer.kind else None
    return Map((channels, *sizes) if first else (*sizes, channels), first)


def _channels(config: Mapping[str, Any], given: Size) -> Size:
    if "depth_multiplier" in config and "filters" not in config:
        return given * int(config["depth_multiplier"]) if given else None
    return config.get("filters") or config.get("nb_filter") or given


def _sum(values: list[Size]) -> Size:
    return None if None in values else sum(value or 0 for value in values)


def _from_shapes(source: Source) -> dict[str, Flat]:
    """A layer that follows a convolution and takes more values than that has channels.

    A weights-only file says no more. The map is taken to be square; where it cannot be, its
    height and width stay unknown.
    """
    found: dict[str, Flat] = {}
    normalised: dict[str, Flat] = {}  # between a Flatten and a Dense layer, if one follows that takes as many values
    channels: int | None = None
    for layer, shapes in source.layers.items():
        kernel: Shape = shapes.get("kernel") or shapes.get("pointwise_kernel") or ()
        if len(kernel) == 4:
            channels = shapes["bias"][0] if "bias" in shapes else kernel[3]
            normalised = {}
            continue
        dense = len(kernel) == 2 and "recurrent_kernel" not in shapes
        values = kernel[0] if dense else shapes.get("moving_mean", (0,))[0]
        if channels and values > channels and values % channels == 0:
            flat = Flat(_square(values // channels, channels), inferred=True)
            normalised[layer] = flat
            if dense:
                found |= {name: each for name, each in normalised.items() if each == flat}
        if dense:
            channels = None
    return found


def _square(pixels: int, channels: int) -> tuple[Size, Size, Size]:
    side = isqrt(pixels)
    return (side, side, channels) if side * side == pixels else (None, None, channels)


def resolve(known: Mapping[str, Flat], given: Mapping[str, Shape | None], layer: str, shape: Shape) -> Transform | None:
    """How the inputs of a layer are reordered, whose weight has this shape; None where they are not.

    `given` overrides what is known. A map that the file does not tell is refused rather than guessed.
    """
    values = shape[0]
    if layer in given:
        chosen = given[layer]
        if chosen is not None and prod(chosen) != values:
            raise BridgeError(f"{layer} takes {values} values, not those of a {tuple(chosen)} map. Correct flatten.")
        return Transform((), tuple(chosen)) if chosen else None
    if layer not in known:
        return None
    sizes = known[layer].shape
    rest = values // prod(size for size in sizes if size)
    whole = tuple(size or rest for size in sizes) if sizes.count(None) <= 1 else ()
    if not whole or prod(whole) != values:
        raise BridgeError(
            f"{layer} takes {values} flattened values, and the file does not say of which map. "
            f"Say it with flatten={{{layer!r}: (height, width, channels)}}."
        )
    return Transform((), whole, known[layer].inferred) if whole[0] * whole[1] > 1 else None
