"""Where each number of a Keras weight belongs in PyTorch's, written down apart from the table that loads them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from ..layers.beside import Map
from ..source import Array, Shape
from .trial import flat_channels_first

# Axes by letter: o(ut), i(n), c(hannels), m(ultiplier), n(umbers); the dots are the window's or the map's.
_KERNEL, _DEPTHWISE, _LAST = "...io->oi...", "...cm->cm...", "...c->c..."
PATTERNS: Mapping[str, Mapping[str, str]] = {
    "Conv1D": {"kernel": _KERNEL, "bias": "n->n"},
    "Conv2D": {"kernel": _KERNEL, "bias": "n->n"},
    "Conv3D": {"kernel": _KERNEL, "bias": "n->n"},
    "Conv1DTranspose": {"kernel": _KERNEL, "bias": "n->n"},
    "Conv2DTranspose": {"kernel": _KERNEL, "bias": "n->n"},
    "Conv3DTranspose": {"kernel": _KERNEL, "bias": "n->n"},
    "DepthwiseConv1D": {"kernel": _DEPTHWISE, "bias": "n->n"},
    "DepthwiseConv2D": {"kernel": _DEPTHWISE, "bias": "n->n"},
    "SeparableConv1D": {"depthwise_kernel": _DEPTHWISE, "pointwise_kernel": _KERNEL, "bias": "n->n"},
    "SeparableConv2D": {"depthwise_kernel": _DEPTHWISE, "pointwise_kernel": _KERNEL, "bias": "n->n"},
    "Dense": {"kernel": "io->oi", "bias": "n->n"},
    "BatchNormalization": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), "n->n"),
    "LayerNormalization": {"gamma": _LAST, "beta": _LAST},
    "GroupNormalization": {"gamma": "n->n", "beta": "n->n"},
    "PReLU": {"alpha": _LAST},
    "Embedding": {"embeddings": "in->in"},
    "SimpleRNN": {"kernel": "io->oi", "recurrent_kernel": "io->oi", "bias": "n->n"},
    "LSTM": {"kernel": "io->oi", "recurrent_kernel": "io->oi", "bias": "n->n"},
    "GRU": {"kernel": "io->oi", "recurrent_kernel": "io->oi", "bias": "n->n"},
}


def placed(
    kind: str, role: str, parameter: str, array: Array, shape: Shape, taken: Map | None, given: Map | None
) -> Array | None:
    """The parameter of that shape that holds this Keras array; None where it is not known how.

    `taken` and `given` are the maps of a flat layer's inputs and outputs.
    """
    pattern = PATTERNS.get(kind, {}).get(role)
    if pattern is None:
        return None
    if kind == "GRU":
        array = _gates(array, parameter)
    if array.ndim < len(pattern.partition("->")[0].replace("...", "")):
        return None
    result: Array = np.einsum(pattern, array)
    if role == "kernel" and array.ndim == 2:  # (outputs, inputs)
        result = flat_channels_first(flat_channels_first(result, taken).T, given).T
    elif result.ndim == 1:
        result = flat_channels_first(result, given if kind == "Dense" else taken)
    return result.reshape(shape) if result.size == prod(shape) else None


def _gates(array: Array, parameter: str) -> Array:
    """Keras has the gates z, r, h and both biases in one array; PyTorch r, z, n, each bias by itself."""
    if array.ndim == 2 and array.shape[0] == 2 and parameter.startswith("bias"):
        array = array[1 if "_hh" in parameter else 0]
    z, r, h = np.split(array, 3, axis=-1)
    return np.concatenate([r, z, h], axis=-1)
