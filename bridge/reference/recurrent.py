"""Keras's recurrent layers, (batch, time, features) in, one step after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import BridgeError
from ..source import Array

Weights = Mapping[str, Array]
State = tuple[Array, ...]


def sigmoid(x: Array) -> Array:
    """One over one plus e to the minus x, without an overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


# Two functions go by the name of hard_sigmoid: Keras 1, Keras 2 and tf_keras have the first, Keras 3 the second.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid_3": lambda x: np.clip(x + 3, 0, 6) / 6,
}


def simple_rnn(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:
    """SimpleRNN: one state."""
    activation = _activation(config, "activation", "tanh")

    def step(x: Array, states: State) -> State:
        return (activation(x + states[0] @ weights["recurrent_kernel"]),)

    return _run(inputs, weights, config, step, states=1)


def lstm(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:
    """LSTM: the gates lie in the order i, f, c, o."""
    activation = _activation(config, "activation", "tanh")
    recurrent = _activation(config, "recurrent_activation", "sigmoid")

    def step(x: Array, states: State) -> State:
        hidden, cell = states
        i, f, c, o = np.split(x + hidden @ weights["recurrent_kernel"], 4, axis=-1)
        cell = recurrent(f) * cell + recurrent(i) * activation(c)
        return recurrent(o) * activation(cell), cell

    return _run(inputs, weights, config, step, states=2)


def gru(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:
    """GRU: the gates lie in the order z, r, h.

    With reset_after (a bias of two rows says so, too) the reset gate multiplies what the recurrent
    kernel gives, else the state before it.
    """
    activation = _activation(config, "activation", "tanh")
    recurrent = _activation(config, "recurrent_activation", "sigmoid")
    bias = weights.get("bias")
    after = config.get("reset_after", True) if bias is None else bias.ndim == 2
    own = {"kernel": weights["kernel"]} | ({} if bias is None else {"bias": bias[0] if after else bias})
    second = bias[1] if bias is not None and after else 0.0
    kernel = weights["recurrent_kernel"]
    units = kernel.shape[0]

    def step(x: Array, states: State) -> State:
        (hidden,) = states
        past = hidden @ (kernel if after else kernel[:, : 2 * units]) + second
        z = recurrent(x[:, :units] + past[:, :units])
        r = recurrent(x[:, units : 2 * units] + past[:, units : 2 * units])
        candidate = r * past[:, 2 * units :] if after else (r * hidden) @ kernel[:, 2 * units :]
        return (z * hidden + (1 - z) * activation(x[:, 2 * units :] + candidate),)

    return _run(inputs, own, config, step, states=1, units=units)


def bidirectional(inputs: Array, weights: Weights, config: Mapping[str, Any]) -> Array:
    """Bidirectional: both directions side by side, over time in the order of the input.

    The weights are called forward_layer/kernel, backward_layer/kernel and so on; config["layer"] is
    {"class_name": ..., "config": ...} as in Keras.
    """
    if config.get("merge_mode", "concat") != "concat":
        raise BridgeError(f"Bidirectional with merge_mode {config['merge_mode']!r} is not known; concat is.")
    inner = config["layer"]["config"]
    layer = RECURRENT[config["layer"]["class_name"]]
    backwards = bool(inner.get("go_backwards", False))
    both = []
    for name, direction in (("forward_layer/", backwards), ("backward_layer/", not backwards)):
        own = {key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)}
        both.append(layer(inputs, own, {**inner, "go_backwards": direction}))
    if inner.get("return_sequences", False):
        both[1] = both[1][:, ::-1]
    return np.concatenate(both, axis=-1)


RECURRENT: Mapping[str, Callable[[Array, Weights, Mapping[str, Any]], Array]] = {
    "SimpleRNN": simple_rnn,
    "LSTM": lstm,
    "GRU": gru,
}


def _activation(config: Mapping[str, Any], key: str, default: str) -> Callable[[Array], Array]:
    name = config.get(key, config.get("inner_activation", default) if key != "activation" else default)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise BridgeError(f"The {key} {name!r} of a recurrent layer is not known; there are {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def _run(
    inputs: Array,
    weights: Weights,
    config: Mapping[str, Any],
    step: Callable[[Array, State], State],
    states: int,
    units: int | None = None,
) -> Array:
    """Every step's output in the order they were made, or the last one's."""
    gates = inputs @ weights["kernel"] + weights.get("bias", np.zeros(()))
    width = units or weights["recurrent_kernel"].shape[0]
    state: State = (np.zeros((len(inputs), width)),) * states
    times = range(inputs.shape[1])
    outputs = []
    for time in reversed(times) if config.get("go_backwards") else times:
        state = step(gates[:, time], state)
        outputs.append(state[0])
    return np.stack(outputs, axis=1) if config.get("return_sequences") else outputs[-1]
