"""What is asked of one layer: a random input, and what Keras gives for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..layers.beside import Beside, Map
from ..source import Array


@dataclass(frozen=True)
class Case:
    """One Keras layer beside the part of the module that took its weights.

    `weights` are the file's numbers by role, `config` is what the file says of the layer, completed with
    Keras's defaults where the weights' effect depends on them. `module` is a twin. `taken` and `given` are
    the (height, width, channels) maps that a flat layer's inputs were flattened from and that its outputs
    are reshaped to. `rows` are the outputs that the layer fills, where not all. `kept` says that a normalisation
    goes over its axes in Keras's order.
    """

    layer: str
    kind: str
    weights: Mapping[str, Array]
    config: Mapping[str, Any]
    module: nn.Module
    taken: Map | None = None
    given: Map | None = None
    rows: tuple[int, ...] | None = None
    backward: bool = False
    kept: bool = False


@dataclass(frozen=True)
class Trial:
    """An input in PyTorch's axes and the output that proves the weights, and how it was made.

    Where a layer could lawfully do one of several things (pad in one way or another) there is a trial for
    each: with random numbers none succeeds by chance.
    """

    inputs: Array
    expected: Array
    how: str
    run: Callable[[Tensor], Tensor]


def random(*shape: int) -> Array:
    """Random inputs, the same at every call; each sample's opposite is among them, so that no sign is missed."""
    half = np.random.default_rng(sum(shape)).standard_normal((-(-shape[0] // 2), *shape[1:]))
    return np.concatenate([half, -half])[: shape[0]]


def channels_first(array: Array) -> Array:
    """(N, ..., C) as (N, C, ...)."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def flat_channels_first(array: Array, map_: Map | None) -> Array:
    """The last axis, which Keras flattened from a map of that shape, in the order in which PyTorch flattens it."""
    if map_ is None:
        return array
    if isinstance(map_, Beside):
        ends = list(accumulate(map(prod, map_.parts)))[:-1]
        pieces = zip(np.split(array, ends, axis=-1), map_.parts, strict=True)
        return np.concatenate([flat_channels_first(piece, part) for piece, part in pieces], axis=-1)
    unfolded = array.reshape(*array.shape[:-1], *map_)
    return np.moveaxis(unfolded, -1, -len(map_)).reshape(array.shape)


def answer(trial: Trial, rows: tuple[int, ...] | None) -> Array:
    """What the twin gives for the trial's input, as far as the layer fills it."""
    with torch.no_grad():
        given: Any = trial.run(torch.from_numpy(trial.inputs))
    first = given[0] if isinstance(given, tuple) else given  # recurrent layers give their states beside
    array: Array = first.numpy()
    return array if rows is None else array[:, list(rows)]
