"""The layers that torch.nn lacks: against Keras, against torch where it can, and against the reference."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bridge import rnn
from bridge.reference import compute

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
ORDER = {"GRU": (1, 0, 2), "LSTM": (0, 1, 2, 3), "SimpleRNN": (0,)}  # Keras's gates in PyTorch's order

Weights = dict[str, np.ndarray]


def gates_of(kind: str, array: np.ndarray) -> torch.Tensor:
    """A Keras weight's gates in PyTorch's order, along the first axis."""
    parts = np.split(array, len(ORDER[kind]), axis=-1)
    return torch.from_numpy(np.concatenate([parts[gate] for gate in ORDER[kind]], axis=-1).T.copy())


def filled(layer: nn.Module, kind: str, weights: Weights, suffix: str = "") -> nn.Module:
    """The layer with a Keras layer's weights in one direction."""
    state = {
        f"weight_ih_l0{suffix}": gates_of(kind, weights["kernel"]),
        f"weight_hh_l0{suffix}": gates_of(kind, weights["recurrent_kernel"]),
    }
    bias = weights.get("bias")
    if bias is not None and bias.ndim == 2:
        state |= {f"bias_{name}_l0{suffix}": gates_of(kind, row) for name, row in zip(("ih", "hh"), bias, strict=True)}
    elif bias is not None:
        state[f"bias_ih_l0{suffix}"] = gates_of(kind, bias)
        if hasattr(layer, f"bias_hh_l0{suffix}"):
            state[f"bias_hh_l0{suffix}"] = torch.zeros(len(bias))
    own = {name for name in layer.state_dict() if name.endswith("_reverse") == bool(suffix)}
    assert own == set(state)
    layer.load_state_dict(state, strict=False)
    return layer


def randomised_layer(layer: Any, inputs: np.ndarray) -> Weights:
    """Random weights in a Keras layer, and the same by role."""
    layer.build(inputs.shape)
    numbers = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(numbers.standard_normal(weight.shape).astype(np.float32))
    return {weight.name: weight.value.detach().numpy() for weight in layer.weights}


@pytest.fixture
def x(numbers: Callable[..., np.ndarray]) -> np.ndarray:
    return numbers(2, 6, 3, seed=4)


GATES = {"sigmoid": "sigmoid", "hard_sigmoid": "hard_sigmoid_3"}  # as Keras 3 names them, and as we do


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_layers_give_what_keras_gives(keras: Any, x: np.ndarray, activation: str, backwards: bool, bias: bool) -> None:
    options = {"activation": activation, "go_backwards": backwards}
    given = {"return_sequences": True, "return_state": True, "use_bias": bias}
    for gate, after in itertools.product(GATES, (True, False)):
        gated, named = options | {"recurrent_activation": gate}, options | {"recurrent_activation": GATES[gate]}
        pairs = {
            "SimpleRNN": (keras.layers.SimpleRNN(4, **options, **given), rnn.SimpleRNN(3, 4, bias=bias, **options)),
            "LSTM": (keras.layers.LSTM(4, **gated, **given), rnn.LSTM(3, 4, bias=bias, **named)),
            "GRU": (
                keras.layers.GRU(4, reset_after=after, **gated, **given),
                rnn.GRU(3, 4, reset_after=after, bias=bias, **named),
            ),
        }
        for kind, (layer, ours) in pairs.items():
            weights = randomised_layer(layer, x)
            expected, *states = (each.detach() for each in layer(x))
            with torch.inference_mode():
                outputs, last = filled(ours, kind, weights)(torch.from_numpy(x))
            torch.testing.assert_close(outputs, expected, **CLOSE)
            for mine, theirs in zip(last if kind == "LSTM" else [last], states, strict=True):
                torch.testing.assert_close(mine, theirs[None], **CLOSE)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_two_directions_give_what_keras_gives(keras: Any, x: np.ndarray, kind: str) -> None:
    gates = {} if kind == "SimpleRNN" else {"recurrent_activation": "hard_sigmoid"}
    options = gates | ({"reset_after": False} if kind == "GRU" else {})
    layer = keras.layers.Bidirectional(getattr(keras.layers, kind)(4, return_sequences=True, **options))
    randomised_layer(layer, x)
    named = options | ({"recurrent_activation": "hard_sigmoid_3"} if gates else {})
    ours = getattr(rnn, kind)(3, 4, bidirectional=True, **named)
    for part, suffix in ((layer.forward_layer, ""), (layer.backward_layer, "_reverse")):
        filled(ours, kind, {weight.name: weight.value.detach().numpy() for weight in part.weights}, suffix)
    with torch.inference_mode():
        outputs, state = ours(torch.from_numpy(x))
        expected = layer(x)
    torch.testing.assert_close(outputs, expected, **CLOSE)
    hidden = state[0] if kind == "LSTM" else state
    assert torch.equal(hidden, torch.stack([outputs[:, -1, :4], outputs[:, 0, 4:]]))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid", "hard_sigmoid_3"])
def test_the_gates_of_every_keras_are_those_of_the_reference(
    x: np.ndarray, numbers: Callable[..., np.ndarray], kind: str, gate: str
) -> None:
    gates = len(ORDER[kind])
    weights = {"kernel": numbers(3, 4 * gates), "recurrent_kernel": numbers(4, 4 * gates), "bias": numbers(4 * gates)}
    ours = filled(getattr(rnn, kind)(3, 4, recurrent_activation=gate), kind, weights)
    config = {"recurrent_activation": gate, "return_sequences": True, "reset_after": False}
    with torch.inference_mode():
        outputs = ours(torch.from_numpy(x))[0]
    np.testing.assert_allclose(outputs, compute(kind, x, weights, config), rtol=1e-5, atol=1e-5)


def test_old_hard_sigmoid_is_a_fifth_of_the_slope_and_the_new_one_a_sixth() -> None:
    x = torch.tensor([-4.0, -2.75, -1.0, 0.0, 1.0, 2.75, 4.0])
    torch.testing.assert_close(rnn.ACTIVATIONS["hard_sigmoid"](x), torch.tensor([0.0, 0.0, 0.3, 0.5, 0.7, 1.0, 1.0]))
    sixths = torch.tensor([0.0, 0.25, 2.0, 3.0, 4.0, 5.75, 6.0]) / 6
    torch.testing.assert_close(rnn.ACTIVATIONS["hard_sigmoid_3"](x), sixths)


TORCH = {
    "SimpleRNN": (nn.RNN, {}),
    "LSTM": (nn.LSTM, {"recurrent_activation": "sigmoid"}),
    "GRU": (nn.GRU, {"recurrent_activation": "sigmoid", "reset_after": True}),
}


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("kind", TORCH)
def test_a_layer_takes_the_state_dict_of_its_torch_counterpart_and_gives_the_same(
    x: np.ndarray, numbers: Callable[..., np.ndarray], kind: str, both: bool
) -> None:
    theirs_class, options = TORCH[kind]
    theirs = theirs_class(3, 4, batch_first=True, bidirectional=both)
    ours = getattr(rnn, kind)(3, 4, bidirectional=both, **options)
    ours.load_state_dict(theirs.state_dict())
    start = torch.from_numpy(numbers(1 + both, 2, 4))
    state = (start, start + 1) if kind == "LSTM" else start
    with torch.inference_mode():
        for given in ((), (state,)):
            torch.testing.assert_close(ours(torch.from_numpy(x), *given), theirs(torch.from_numpy(x), *given), **CLOSE)


def test_a_reset_gate_before_the_product_has_one_bias_as_in_keras() -> None:
    assert list(rnn.GRU(3, 4).state_dict()) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"]
    assert "bias_hh_l0" in rnn.GRU(3, 4, reset_after=True).state_dict()


def test_what_is_no_activation_is_refused_when_the_layer_is_built() -> None:
    with pytest.raises(ValueError, match="There is no recurrent_activation 'gelu'; there are tanh"):
        rnn.LSTM(3, 4, recurrent_activation="gelu")


def test_gradients_reach_every_parameter(x: np.ndarray) -> None:
    for layer in (rnn.GRU(3, 4, bidirectional=True), rnn.LSTM(3, 4), rnn.SimpleRNN(3, 4, activation="relu")):
        layer(torch.from_numpy(x))[0].square().sum().backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in layer.parameters())


@pytest.mark.parametrize("layer", [rnn.GRU(3, 4, bidirectional=True), rnn.LSTM(3, 4)], ids=["GRU", "LSTM"])
def test_layers_can_be_exported(x: np.ndarray, layer: nn.Module) -> None:
    given = torch.from_numpy(x)
    exported = torch.export.export(layer.eval(), (given,)).module()
    with torch.inference_mode():
        torch.testing.assert_close(exported(given)[0], layer(given)[0])


@pytest.mark.parametrize("shared", [None, [1, 2], [1]])
def test_prelu_has_a_slope_for_every_place(keras: Any, images: Callable[..., np.ndarray], shared: Any) -> None:
    x = images(2, 5, 4, 3)
    layer = keras.layers.PReLU(shared_axes=shared)
    alpha = randomised_layer(layer, x)["alpha"]
    ours = rnn.PReLU((3, *alpha.shape[:2]))
    ours.load_state_dict({"weight": torch.from_numpy(alpha).permute(2, 0, 1)})
    with torch.inference_mode():
        given = ours(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(given, layer(x), rtol=0, atol=1e-6)
