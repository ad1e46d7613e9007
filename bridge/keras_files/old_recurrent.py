"""Recurrent layers as Keras 0 and 1 stored them, gate by gate, and as CuDNN took them, brought to Keras 3's arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..source import Array, Shape, Stored
from .changes import changed, joined
from .variables import recurrent_kind

ORDERS = ("zrh", "ifco")  # the gates of a GRU and of an LSTM side by side, as Keras 2 and 3 have them
ROLES = {"W": "kernel", "U": "recurrent_kernel", "b": "bias"}


def together(layer: Mapping[str, Stored]) -> dict[str, Stored]:
    """A layer whose gates were stored apart, with kernel, recurrent_kernel and bias; any other layer as it is."""
    for gates in ORDERS:
        apart = {role: [f"{letter}_{gate}" for gate in gates] for letter, role in ROLES.items()}
        names = {name for each in apart.values() for name in each}
        if names <= layer.keys() and not apart.keys() & layer.keys() and _fit(layer, apart):
            how = f"gates {', '.join(gates)} side by side"
            found = {role: joined([layer[name] for name in each], how) for role, each in apart.items()}
            return found | {role: tensor for role, tensor in layer.items() if role not in names}
    return dict(layer)


def _fit(layer: Mapping[str, Stored], apart: Mapping[str, list[str]]) -> bool:
    """Whether the arrays of all gates are of one shape."""
    shapes = [{layer[name].shape for name in names} for names in apart.values()]
    return all(len(each) == 1 and each != {()} for each in shapes)


def kind(shapes: Mapping[str, Shape]) -> str | None:
    """The class of a recurrent layer, which the number of gates tells; None for any other layer."""
    pair = [shapes[role] for role in ("kernel", "recurrent_kernel") if role in shapes]
    return recurrent_kind(pair) if len(pair) == 2 else None


def is_cudnn(shapes: Mapping[str, Shape]) -> bool:
    """Whether this is a CuDNNGRU or CuDNNLSTM: they have two biases for every gate, in one row."""
    return kind(shapes) in ("GRU", "LSTM") and shapes.get("bias") == (2 * shapes["kernel"][1],)


def from_cudnn(layer: Mapping[str, Stored]) -> dict[str, Stored]:
    """A CuDNNGRU as a GRU with reset_after, a CuDNNLSTM as an LSTM: their gates have the same order in Keras.

    CuDNN takes every gate's matrix as (units, inputs) where Keras made it (inputs, units), so that
    only the numbers in a row are the same. An LSTM adds its two biases anyway.
    """
    kernel, state, bias = layer["kernel"], layer["recurrent_kernel"], layer["bias"]
    units, width = state.shape
    how = "from CuDNN's order"

    def gatewise(array: Array) -> Array:
        return np.concatenate([gate.reshape(units, len(array)).T for gate in np.split(array, width // units, 1)], 1)

    biases = (
        changed(bias, (width,), lambda array: array[:width] + array[width:], "CuDNN's two biases added")
        if width == 4 * units
        else changed(bias, (2, width), lambda array: array, how)
    )
    return {
        **layer,
        "kernel": changed(kernel, kernel.shape, gatewise, how),
        "recurrent_kernel": changed(state, state.shape, gatewise, how),
        "bias": biases,
    }
