"""The first convolution's kernel for images of other channels: grey, two, four, six, or in the other order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import gcd

import numpy as np

from ..errors import BridgeError
from ..preprocessing import Preprocessing
from ..source import Array, Source, Stored
from .change import Entry, computed, configured, moved
from .first import BY_LAYER, First, channels_of, first_convolutions

MOST_CHANNELS = 4096
SHAPES = ("batch_shape", "batch_input_shape", "build_input_shape")  # in which a layer or a model declares its input


def in_channels(source: Source, channels: int, layer: str | None = None) -> Source:
    """The weights of an RGB (or grey) model for images of another number of channels.

    For one channel the kernel is summed over its inputs, which is exact: a grey image gives what it
    gave in all of them. For more it is repeated in turn and scaled by old / new; what equal
    channels gave is kept where the new number is a multiple of the old one, and nearly kept else.
    The layer is the convolution that the image is fed to, in an architecture or else the first in
    order; `layer` names another one. The preprocessing becomes that of grey images, or is dropped.

    Refused: a depthwise or grouped first convolution, more channels from other than 1 or 3.
    """
    if not 1 <= channels <= MOST_CHANNELS:
        raise BridgeError(f"{channels} input channels are not between 1 and {MOST_CHANNELS}. Correct in_channels.")
    first = first_convolutions(source, layer)
    has = {name: _channels(source, name) for name in first.layers}
    have = max(has.values())
    if set(has.values()) == {channels}:
        note = f"{_named(first)} already has {channels} input channels: in_channels changed nothing."
        return replace(source, notes=(*source.notes, note))
    if set(has.values()) != {have} or (channels > 1 and have not in (1, 3)):
        found = ", ".join(f"{name} has {count}" for name, count in has.items())
        raise BridgeError(
            f"{source.name}: {found} input channels, and {channels} are made from 3 or 1 only. Name another layer."
        )
    how, why, change = _recipe(have, channels)
    preprocessing, said = _preprocessing_for(source.preprocessing, channels)
    return replace(
        source,
        stored=dict(source.stored) | {key: _resized(source, key, how, change) for key in _keys(source, first)},
        architecture=_declared(source, first, channels),
        preprocessing=preprocessing,
        notes=(*source.notes, f"{_named(first)} takes {channels} channels instead of {have}: {why}.{said}"),
    )


def flip_input(source: Source, layer: str | None = None) -> Source:
    """The weights of a BGR model for RGB images, and the other way round: bit by bit the same numbers.

    The first convolution's input channels change their order, and so do those of the preprocessing.
    Refused: a first convolution without 3 inputs, and what `in_channels` refuses.
    """
    first = first_convolutions(source, layer)
    for name in first.layers:
        if _channels(source, name) != 3:
            raise BridgeError(
                f"{source.name}: {name} has {_channels(source, name)} input channels; only 3 can be flipped. "
                f"Name the layer that takes the image {BY_LAYER}."
            )
    before, after = source.preprocessing, source.preprocessing.flipped() if source.preprocessing else None
    how = f"input channels {before.order} -> {after.order}" if before and after else "input channels BGR <-> RGB"
    expects = f"It now expects {after}." if after else "Which order it expected before, the file does not say."
    return replace(
        source,
        stored=dict(source.stored) | {key: _flipped(source, key, how) for key in _keys(source, first)},
        preprocessing=after,
        notes=(*source.notes, f"The input channels of {_named(first)} are in the other order (BGR <-> RGB). {expects}"),
    )


def _keys(source: Source, first: First) -> list[str]:
    return [channels_of(source, name)[0] for name in first.layers]


def _channels(source: Source, layer: str) -> int:
    key, axis = channels_of(source, layer)
    return source.stored[key].shape[axis]


def _named(first: First) -> str:
    return ", ".join(first.layers) + (", the first convolution in the file's order," if first.inferred else "")


Change = Callable[[Array, int], Array]  # a float64 kernel and the axis of its inputs


def _recipe(have: int, channels: int) -> tuple[str, str, Change]:
    """What is done to the kernel: for the plan, for the notes, and as a function."""
    arrow = f"{have} -> {channels} channels"
    if channels == 1:
        why = f"its kernel is summed over them, which is exact for grey images (equal values in all {have} channels)"
        return f"{arrow}: summed", why, lambda kernel, axis: kernel.sum(axis, keepdims=True)
    part = gcd(have, channels)
    factor = f"{have // part}/{channels // part}"
    kept = "what equal channels gave is kept" if channels % have == 0 else "what equal channels gave is nearly kept"
    turns = np.arange(channels) % have
    return (
        f"{arrow}: repeated, times {factor}",
        f"its kernel is repeated in turn and multiplied by {factor}, so that {kept}; a start for training",
        lambda kernel, axis: kernel.take(turns, axis) * (have / channels),
    )


def _resized(source: Source, key: str, how: str, change: Change) -> Stored:
    axis = channels_of(source, key.rpartition("/")[0])[1]
    shape = change(np.broadcast_to(np.float64(0), source.stored[key].shape), axis).shape
    return computed(source, key, how, shape, lambda kernel: change(kernel, axis))


def _flipped(source: Source, key: str, how: str) -> Stored:
    stored, axis = source.stored[key], channels_of(source, key.rpartition("/")[0])[1]
    return moved(stored, how, stored.shape, lambda kernel: np.flip(kernel, axis))


def _preprocessing_for(given: Preprocessing | None, channels: int) -> tuple[Preprocessing | None, str]:
    """The preprocessing of images with other channels, and what is to be said of it."""
    if given is None:
        return None, ""
    if channels > 1:
        return None, f" The preprocessing was {given}: prepare the new channels like those in whose place they are."
    grey = given.grey()
    close = "" if given.same_for_all_channels else ", a mean over its channels and so only close to what it was"
    return grey, f" Grey images are prepared as {grey}{close}."


def _declared(source: Source, first: First, channels: int) -> Entry | None:
    """The architecture with the number of channels that its layers up to the first convolution declare."""

    def change(entry: Entry) -> Entry:
        config, built = entry["config"], entry.get("build_config")
        if isinstance(config, dict):
            config = {key: put(value) if key in SHAPES else value for key, value in config.items()}
        if isinstance(built, dict):
            built = {key: put(value) if key == "input_shape" else value for key, value in built.items()}
        return {**entry, "config": config, **({"build_config": built} if built else {})}

    def put(shape: object) -> object:
        if not isinstance(shape, list) or len(shape) < 3 or any(isinstance(size, list) for size in shape):
            return shape
        axis = first.channels_axis % len(shape)
        return [*shape[:axis], channels, *shape[axis + 1 :]]

    within = {path[:end] for path in (*first.passed, *first.layers) for end, sign in enumerate(path) if sign == "/"}
    return configured(source.architecture, dict.fromkeys((*first.passed, *first.layers, *within, ""), change))
