"""The NumPy reference of every layer kind, against the Keras layer itself."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bridge import BridgeError
from bridge.reference import LAYERS, compute

RTOL, ATOL = 1e-5, 1e-5  # the layers compute in float32, the reference in float64

Proof = Callable[..., None]


@pytest.fixture
def prove(numbers: Callable[..., np.ndarray]) -> Proof:
    """Gives a Keras layer random weights and inputs and holds the reference against what it gives."""

    def proof(layer: Any, *shape: int, inputs: np.ndarray | None = None, **others: Any) -> None:
        inputs = numbers(*shape, seed=5) if inputs is None else inputs
        layer.build(inputs.shape)
        random = np.random.default_rng(7)
        for weight in layer.weights:
            positive = weight.name in ("moving_variance", "gamma")
            drawn = random.uniform(0.5, 1.5, weight.shape) if positive else random.standard_normal(weight.shape) / 2
            weight.assign(drawn.astype(np.float32))
        expected = layer(inputs).detach().numpy()
        given = compute(type(layer).__name__, inputs, weights_of(layer), config_of(layer) | others)
        assert given.dtype == np.float64
        assert given.shape == expected.shape
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(given, expected, rtol=RTOL, atol=ATOL)

    return proof


def weights_of(layer: Any) -> dict[str, np.ndarray]:
    """The weights by role; those of Bidirectional by direction, too."""
    if hasattr(layer, "forward_layer"):
        both = {"forward_layer": layer.forward_layer, "backward_layer": layer.backward_layer}
        return {f"{n}/{role}": w for n, part in both.items() for role, w in weights_of(part).items()}
    return {weight.name: weight.value.detach().numpy() for weight in layer.weights}


def config_of(layer: Any) -> dict[str, Any]:
    """What Keras would write of the layer, with the name of its own hard_sigmoid."""
    config = layer.get_config()
    inner = config["layer"]["config"] if "layer" in config else config
    if inner.get("recurrent_activation") == "hard_sigmoid":
        inner["recurrent_activation"] = "hard_sigmoid_3"
    return config


WINDOWS = [
    pytest.param(
        {"padding": padding, "strides": strides, "dilation_rate": dilation}, id=f"{padding}-{strides}-{dilation}"
    )
    for padding, (strides, dilation) in itertools.product(("valid", "same"), [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)])
]


@pytest.mark.parametrize("options", WINDOWS)
@pytest.mark.parametrize("kernel", [3, 4])
def test_convolutions_of_each_rank_give_what_keras_gives(keras: Any, prove: Proof, kernel: int, options: Any) -> None:
    layers = keras.layers
    prove(layers.Conv1D(5, kernel, **options), 2, 14, 3)
    prove(layers.Conv2D(5, (kernel, 2), activation="linear", **options), 2, 13, 11, 3)
    prove(layers.Conv3D(3, (2, kernel, 1), use_bias=False, **options), 1, 7, 10, 8, 2)


@pytest.mark.parametrize("options", WINDOWS)
def test_depthwise_and_separable_convolutions_give_what_keras_gives(keras: Any, prove: Proof, options: Any) -> None:
    layers = keras.layers
    prove(layers.DepthwiseConv1D(3, depth_multiplier=2, **options), 2, 14, 3)
    prove(layers.DepthwiseConv2D((2, 3), depth_multiplier=3, **options), 2, 13, 11, 2)
    prove(layers.SeparableConv1D(5, 4, depth_multiplier=2, **options), 2, 14, 3)
    prove(layers.SeparableConv2D(5, (3, 2), depth_multiplier=2, **options), 2, 13, 11, 3)


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_grouped_convolutions_give_what_keras_gives(keras: Any, prove: Proof, groups: int) -> None:
    prove(keras.layers.Conv2D(12, (3, 2), groups=groups, strides=2, padding="same"), 2, 9, 8, 6)
    prove(keras.layers.Conv1D(6, 3, groups=groups), 2, 9, 6)


def test_a_causal_convolution_gives_what_keras_gives(keras: Any, prove: Proof) -> None:
    prove(keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2), 2, 9, 3)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_transposed_convolutions_give_what_keras_gives(
    keras: Any, prove: Proof, kernel: int, strides: int, padding: str
) -> None:
    options = {"strides": strides, "padding": padding}
    prove(keras.layers.Conv1DTranspose(4, kernel, **options), 2, 6, 3)
    prove(keras.layers.Conv2DTranspose(4, (kernel, 3), **options), 2, 5, 4, 3)
    prove(keras.layers.Conv3DTranspose(2, (2, kernel, 3), **options), 1, 3, 4, 3, 2)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_a_transposed_convolution_may_be_padded_or_dilated(keras: Any, prove: Proof, kernel: int, padding: str) -> None:
    prove(keras.layers.Conv2DTranspose(4, kernel, strides=3, padding=padding, output_padding=2), 2, 5, 4, 3)
    prove(keras.layers.Conv2DTranspose(4, kernel, dilation_rate=2, padding=padding), 2, 7, 6, 3)


@pytest.mark.parametrize("shape", [(4, 6), (2, 5, 6), (2, 3, 5, 6)])
def test_dense_gives_what_keras_gives_on_any_rank(keras: Any, prove: Proof, shape: tuple[int, ...]) -> None:
    prove(keras.layers.Dense(3), *shape)
    prove(keras.layers.Dense(3, use_bias=False), *shape)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("axis", [-1, 1])
def test_normalisations_give_what_keras_gives(keras: Any, prove: Proof, axis: int, center: bool, scale: bool) -> None:
    options = {"scale": scale, "center": center}
    prove(keras.layers.BatchNormalization(axis=axis, epsilon=0.01, **options), 2, 5, 4, 3)
    prove(keras.layers.BatchNormalization(**options), 6, 3)
    prove(keras.layers.LayerNormalization(epsilon=0.01, **options), 2, 5, 4, 3)
    prove(keras.layers.LayerNormalization(axis=(2, 3), **options), 2, 5, 4, 3)
    prove(keras.layers.LayerNormalization(axis=(1, 2, 3), **options), 2, 5, 4, 3)


def test_layer_normalization_over_another_axis_is_that_of_the_axes_in_another_order(
    numbers: Callable[..., np.ndarray],
) -> None:
    x, weights = numbers(2, 5, 4, 3), {"gamma": numbers(5), "beta": numbers(5, seed=1)}
    last = compute("LayerNormalization", x.transpose(0, 3, 2, 1), weights, {"axis": -1}).transpose(0, 3, 2, 1)
    np.testing.assert_allclose(compute("LayerNormalization", x, weights, {"axis": [1]}), last)


@pytest.mark.parametrize("groups", [1, 2, 3, -1])
def test_group_normalization_gives_what_keras_gives(keras: Any, prove: Proof, groups: int) -> None:
    prove(keras.layers.GroupNormalization(groups=groups, epsilon=0.01), 2, 5, 4, 6)
    prove(keras.layers.GroupNormalization(groups=groups, scale=False), 2, 5, 6)


@pytest.mark.parametrize("shared", [None, [1, 2], [1]])
def test_prelu_gives_what_keras_gives(keras: Any, prove: Proof, shared: list[int] | None) -> None:
    prove(keras.layers.PReLU(shared_axes=shared), 2, 5, 4, 3)


def test_an_embedding_gives_what_keras_gives(keras: Any, prove: Proof) -> None:
    prove(keras.layers.Embedding(9, 4), inputs=np.array([[0, 8, 3], [5, 5, 1]]))


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_recurrent_layers_give_what_keras_gives(
    keras: Any, prove: Proof, activation: str, gate: str, backwards: bool, sequences: bool
) -> None:
    options = {"activation": activation, "go_backwards": backwards, "return_sequences": sequences}
    gated = options | {"recurrent_activation": gate}
    prove(keras.layers.SimpleRNN(4, **options), 2, 5, 3)
    prove(keras.layers.LSTM(4, **gated), 2, 5, 3)
    for after, bias in itertools.product((True, False), repeat=2):
        prove(keras.layers.GRU(4, reset_after=after, use_bias=bias, **gated), 2, 5, 3)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_bidirectional_layers_give_what_keras_gives(
    keras: Any, prove: Proof, kind: str, backwards: bool, sequences: bool
) -> None:
    recurrent = getattr(keras.layers, kind)
    first = recurrent(4, return_sequences=sequences, go_backwards=backwards)
    second = recurrent(4, return_sequences=sequences, go_backwards=not backwards)
    prove(keras.layers.Bidirectional(first, backward_layer=second), 2, 5, 3)


def test_an_old_keras_has_another_hard_sigmoid() -> None:
    kernel = np.array([[0.0, 0.0, 1.0, 1.0]])  # the gates i and f are half open, c and o take the input
    weights = {"kernel": kernel, "recurrent_kernel": np.zeros((1, 4))}
    x = np.array([[[1.0]]])
    old = compute("LSTM", x, weights, {"recurrent_activation": "hard_sigmoid"})
    new = compute("LSTM", x, weights, {"recurrent_activation": "hard_sigmoid_3"})
    np.testing.assert_allclose(old, 0.7 * np.tanh(0.5 * np.tanh(1)).reshape(1, 1))
    np.testing.assert_allclose(new, 4 / 6 * np.tanh(0.5 * np.tanh(1)).reshape(1, 1))


def test_keras_1_names_of_options_are_understood(numbers: Callable[..., np.ndarray]) -> None:
    x, weights = numbers(1, 7, 6, 2), {"kernel": numbers(3, 3, 2, 4)}
    old = compute("Conv2D", x, weights, {"subsample": [2, 2], "border_mode": "same"})
    np.testing.assert_array_equal(old, compute("Conv2D", x, weights, {"strides": (2, 2), "padding": "same"}))


def test_what_has_no_reference_is_refused_by_name() -> None:
    with pytest.raises(BridgeError, match="no reference for the Keras layer ConvLSTM2D; there are Conv1D"):
        compute("ConvLSTM2D", np.zeros((1, 1)), {}, {})
    assert all(callable(layer) for layer in LAYERS.values())
    with pytest.raises(BridgeError, match=r"activation \{'class_name': 'Custom'\} of a recurrent layer is not known"):
        compute("SimpleRNN", np.zeros((1, 1, 1)), {}, {"activation": {"class_name": "Custom"}})
