"""What each Keras layer computes, in NumPy: small, slow, exact, and written apart from the layouts it proves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import BridgeError
from ..source import Array
from .convolution import convolution, depthwise, separable, transposed
from .layers import batch_normalization, dense, embedding, group_normalization, layer_normalization, prelu
from .recurrent import bidirectional, gru, lstm, simple_rnn

Layer = Callable[[Array, Mapping[str, Array], Mapping[str, Any]], Array]

LAYERS: Mapping[str, Layer] = {
    "Conv1D": convolution,
    "Conv2D": convolution,
    "Conv3D": convolution,
    "Conv1DTranspose": transposed,
    "Conv2DTranspose": transposed,
    "Conv3DTranspose": transposed,
    "DepthwiseConv1D": depthwise,
    "DepthwiseConv2D": depthwise,
    "SeparableConv1D": separable,
    "SeparableConv2D": separable,
    "Dense": dense,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "GroupNormalization": group_normalization,
    "PReLU": prelu,
    "Embedding": embedding,
    "SimpleRNN": simple_rnn,
    "LSTM": lstm,
    "GRU": gru,
    "Bidirectional": bidirectional,
}


def compute(kind: str, inputs: Array, weights: Mapping[str, Array], config: Mapping[str, Any]) -> Array:
    """What a layer of that Keras class gives for inputs in Keras's axes (batch first, channels last), in float64.

    `weights` are the layer's arrays by role, as Keras holds them: kernel, bias, gamma, ...; a layer
    without one (use_bias, scale, center) is given none. `config` is the layer's configuration; what it
    does not say is Keras's default. The activation of a convolution or a Dense layer is left out:
    what is asked for is what the weights do. Refused: a class that is not in `LAYERS`.
    """
    if kind not in LAYERS:
        raise BridgeError(f"There is no reference for the Keras layer {kind}; there are {', '.join(LAYERS)}.")
    wide = {role: np.asarray(array, np.float64) for role, array in weights.items()}
    return LAYERS[kind](np.asarray(inputs, np.float64), wide, config)
