"""Flattened maps in whole networks: Dense layers as convolutions, over time, shared, weighed, at both ends."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_steps import CHANNELS_FIRST, CHANNELS_LAST, FLATTEN, FOLD, LAST_STEP, RELU, Steps, to, unfold

import bridge
from bridge.flattening.flatten import maps_of
from bridge.options import Options
from bridge.source import Source


def test_a_dense_layer_may_be_a_convolution_as_large_as_the_map_or_over_one_position(
    keras: Any, same: Any, chain: Any
) -> None:
    """As in fully convolutional networks, and in timm's VGG."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((4, 5, 3)),
            layers.Conv2D(5, 2, name="a"),
            layers.Flatten(),
            layers.Dense(7, name="fc1"),
            layers.Dense(6, name="fc2"),
        ]
    )
    module = chain(("a", nn.Conv2d(3, 5, 2)), ("fc1", nn.Conv2d(5, 7, (3, 4))), ("fc2", nn.Conv2d(7, 6, 1)), FLATTEN)
    same(model, module)
    flat = ("", nn.Unflatten(1, (60, 1, 1)))
    same(
        model,
        chain(
            ("a", nn.Conv2d(3, 5, 2)), FLATTEN, flat, ("fc1", nn.Conv2d(60, 7, 1)), ("fc2", nn.Conv2d(7, 6, 1)), FLATTEN
        ),
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_convolution_as_large_as_the_map_says_itself_which_map_it_is(
    rank: int, keras: Any, same: Any, chain: Any
) -> None:
    layers = keras.layers
    ours: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    theirs = (layers.Conv1D, layers.Conv2D, layers.Conv3D)[rank - 1]
    sizes = (2, 4, 3)[:rank]
    steps = [theirs(5, 1, name="a"), layers.Flatten(), layers.Dense(7, name="fc")]
    model = keras.Sequential([layers.Input((*sizes, 3)), *steps])
    module = chain(("a", ours(3, 5, 1)), ("fc", ours(5, 7, sizes)), FLATTEN)
    same(model, module, weights_only=True)


def test_a_dense_layer_over_a_whole_map_is_a_convolution_over_one_position(keras: Any, same: Any, chain: Any) -> None:
    layers = keras.layers
    steps = [layers.Conv2D(5, 2, name="a"), layers.Dense(7, name="fc"), layers.Conv2D(2, 2, name="b")]
    model = keras.Sequential([layers.Input((4, 5, 3)), *steps])
    same(model, chain(("a", nn.Conv2d(3, 5, 2)), ("fc", nn.Conv2d(5, 7, 1)), ("b", nn.Conv2d(7, 2, 2))))


def of_each_place(keras: Any) -> Any:
    layers = keras.layers
    steps = [layers.Conv2D(4, 2, name="a"), layers.Dense(3, name="m", activation="relu"), layers.Flatten()]
    return keras.Sequential([layers.Input((4, 5, 2)), *steps, layers.Dense(6, name="fc")])


@pytest.mark.parametrize("weights_only", [False, True])
def test_a_dense_layer_of_each_place_leaves_a_map_that_is_flattened(
    weights_only: bool, keras: Any, same: Any, saved: Any, chain: Any
) -> None:
    """As a convolution it keeps PyTorch's order, which a file of weights alone cannot say."""
    model = of_each_place(keras)
    module = chain(("a", nn.Conv2d(2, 4, 2)), ("m", nn.Conv2d(4, 3, 1)), RELU, FLATTEN, ("fc", nn.Linear(36, 6)))
    if weights_only:
        with pytest.raises(bridge.BridgeError, match=r"fc takes 36 flattened values.*flatten=\{'fc':"):
            bridge.load(module, saved(model, weights_only=True))
    same(model, module, weights_only=weights_only, **({"flatten": {"fc": (3, 4, 3)}} if weights_only else {}))


@pytest.mark.parametrize("back", [False, True])
def test_where_a_map_was_moved_for_a_linear_layer_the_caller_says_whether_it_was_moved_back(
    back: bool, keras: Any, same: Any, saved: Any, chain: Any
) -> None:
    model = of_each_place(keras)
    moved = (CHANNELS_LAST, ("m", nn.Linear(4, 3)), RELU, *([CHANNELS_FIRST] if back else []))
    module = chain(("a", nn.Conv2d(2, 4, 2)), *moved, FLATTEN, ("fc", nn.Linear(36, 6)))
    with pytest.raises(bridge.BridgeError, match=r"in which order.*flatten=\{'fc': \(3, 4, 3\)\}, or None"):
        bridge.load(module, saved(model))
    same(model, module, flatten={"fc": (3, 4, 3) if back else None})


@pytest.mark.parametrize("kind", ["Conv1D", "Conv3D", "Conv3D of a box"])
def test_without_an_architecture_steps_are_counted_and_volumes_are_cubes(
    kind: str, keras: Any, same: Any, saved: Any, chain: Any
) -> None:
    layers = keras.layers
    sizes, values = {"Conv1D": ((7,), 35), "Conv3D": ((2, 2, 2), 40), "Conv3D of a box": ((2, 3, 1), 30)}[kind]
    theirs, ours = (layers.Conv1D, nn.Conv1d) if kind == "Conv1D" else (layers.Conv3D, nn.Conv3d)
    steps = [theirs(5, 1, name="a"), layers.Flatten(), layers.Dense(2, name="fc")]
    model = keras.Sequential([layers.Input((*sizes, 3)), *steps])
    module = chain(("a", ours(3, 5, 1)), FLATTEN, ("fc", nn.Linear(values, 2)))
    if kind == "Conv3D of a box":
        with pytest.raises(bridge.BridgeError, match=r"flatten=\{'fc': \(depth, height, width, channels\)\}"):
            bridge.load(module, saved(model, weights_only=True))
        same(model, module, weights_only=True, flatten={"fc": (*sizes, 5)})
    else:
        assert "inferred" in str(same(model, module, weights_only=True))


def timed(layers: Any, kind: str) -> tuple[list[Any], Steps, tuple[int, ...]]:
    """Maps in time whose rows go to a layer of sequences, and the shape of an input."""
    each, conv = (
        layers.TimeDistributed,
        [layers.TimeDistributed(layers.Conv2D(5, 2), name="a"), layers.TimeDistributed(layers.Flatten())],
    )
    ours = [FOLD, ("a", nn.Conv2d(2, 5, 2)), FLATTEN, unfold(6)]
    lstm, gru = nn.LSTM(30, 4, batch_first=True), nn.GRU(30, 4, batch_first=True, bidirectional=True)
    ends = to(lambda pair: torch.cat([pair[1][0], pair[1][1]], -1))
    steps = [layers.Conv1D(5, 3, name="a"), layers.Flatten(), layers.RepeatVector(3), layers.LSTM(4, name="b")]
    cases: dict[str, tuple[list[Any], Steps, tuple[int, ...]]] = {
        "LSTM": ([*conv, layers.LSTM(4, name="b")], [*ours, ("b", lstm), LAST_STEP], (6, 3, 4, 2)),
        "Bidirectional": (
            [*conv, layers.Bidirectional(layers.GRU(4, name="c"), name="b")],
            [*ours, ("b", gru), ends],
            (6, 3, 4, 2),
        ),
        "Conv1D": (
            [*conv, layers.BatchNormalization(name="bn"), layers.Conv1D(4, 3, name="b")],
            [*ours, CHANNELS_FIRST, ("bn", nn.BatchNorm1d(30, eps=1e-3)), ("b", nn.Conv1d(30, 4, 3)), CHANNELS_LAST],
            (6, 3, 4, 2),
        ),
        "Reshape": (
            [conv[0], layers.Reshape((6, -1)), each(layers.Dense(4), name="b")],
            [*ours, ("b", nn.Linear(30, 4))],
            (6, 3, 4, 2),
        ),
        "RepeatVector": (
            steps,
            [
                CHANNELS_FIRST,
                ("a", nn.Conv1d(2, 5, 3)),
                FLATTEN,
                to(lambda x: x[:, None].expand(-1, 3, -1)),
                ("b", nn.LSTM(30, 4, batch_first=True)),
                LAST_STEP,
            ],
            (8, 2),
        ),
    }
    return cases[kind]


@pytest.mark.parametrize("kind", ["LSTM", "Bidirectional", "Conv1D", "Reshape", "RepeatVector"])
def test_a_layer_of_sequences_takes_flattened_maps_in_pytorchs_order(
    kind: str, keras: Any, randomised: Any, saved: Any, images: Any, chain: Any
) -> None:
    steps, ours, shape = timed(keras.layers, kind)
    model = randomised(keras.Sequential([keras.layers.Input(shape), *steps]))
    source, module = bridge.read(saved(model)), chain(*ours)
    unfolded_too(module, source, bridge.load(module, source, strict=True))
    x = images(2, *shape)
    given = torch.from_numpy(x) if len(shape) == 2 else torch.from_numpy(x).movedim(-1, 2)
    with torch.inference_mode():
        found = module.eval()(given).numpy()
    np.testing.assert_allclose(found, model(x, training=False).detach().numpy(), rtol=1e-4, atol=1e-5)


def unfolded_too(module: nn.Module, source: Source, plan: bridge.Plan) -> None:
    """Writes the weights of every layer that takes or gives rows once more, with its maps."""
    maps = maps_of(source)
    for copy in plan.copied.values():
        layer, _, role = copy.source.rpartition("/")
        if not copy.transform.maps and copy.transform.row is None:
            transform = maps.unfolded(copy.transform, Options(), layer, role, copy.from_shape, copy.to_shape)
            with torch.no_grad():
                module.state_dict()[copy.target].copy_(transform.apply(source[copy.source]))


def test_an_embedding_may_be_reshaped_to_a_map(keras: Any, randomised: Any, saved: Any, chain: Any) -> None:
    layers = keras.layers
    steps = [layers.Embedding(6, 24, name="label"), layers.Reshape((3, 2, 4)), layers.Conv2D(2, 2, name="a")]
    model = randomised(keras.Sequential([layers.Input((1,)), *steps]))
    module = chain(
        ("label", nn.Embedding(6, 24)), ("", nn.Flatten()), ("", nn.Unflatten(1, (4, 3, 2))), ("a", nn.Conv2d(4, 2, 2))
    )
    source = bridge.read(saved(model))
    unfolded_too(module, source, bridge.load(module, source, strict=True))
    labels = np.array([[5], [0], [3]])
    with torch.inference_mode():
        found = module(torch.from_numpy(labels)).movedim(1, -1).numpy()
    np.testing.assert_allclose(found, model(labels).detach().numpy(), rtol=1e-4, atol=1e-5)


class Shared(nn.Module):
    """One encoder for two pictures, and one Dense layer for both."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.conv = nn.Conv2d(3, 5, 2)
        self.fc = nn.Linear(60, 4)
        self.last = nn.Linear(8, 2)

    def forward(self, given: list[torch.Tensor]) -> torch.Tensor:
        rows = [self.fc(self.encoder.conv(x).flatten(1)) for x in given]
        result: torch.Tensor = self.last(torch.cat(rows, 1))
        return result


def siamese(keras: Any, sizes: tuple[tuple[int, int], tuple[int, int]]) -> Any:
    layers = keras.layers
    encoder = keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(5, 2, name="conv")], name="encoder")
    fc, inputs = layers.Dense(4, name="fc"), [layers.Input((*size, 3)) for size in sizes]
    return keras.Model(
        inputs, layers.Dense(2, name="last")(layers.Concatenate()([fc(layers.Flatten()(encoder(x))) for x in inputs]))
    )


class Weighed(nn.Module):
    """A convolution whose channels are weighed by a squeeze and an excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(3, 6, 2), nn.Linear(6, 2), nn.Linear(2, 6)
        self.fc = nn.Linear(72, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        result: torch.Tensor = self.fc((torch.relu(x + x) * weights[:, :, None, None]).flatten(1))
        return result


def test_a_map_whose_channels_are_weighed_stays_a_map(keras: Any, same: Any) -> None:
    layers = keras.layers
    inputs = layers.Input((5, 4, 3))
    x = layers.Conv2D(6, 2, name="conv")(inputs)
    weights = layers.Dense(2, activation="relu", name="squeeze")(layers.GlobalAveragePooling2D()(x))
    weights = layers.Reshape((1, 1, 6))(layers.Dense(6, activation="sigmoid", name="excite")(weights))
    x = layers.Multiply()([weights, keras.ops.relu(x + x)])
    plan = same(keras.Model(inputs, layers.Dense(2, name="fc")(layers.Flatten()(x))), Weighed())
    assert [copy.target for copy in plan.copied.values() if copy.transform.maps] == ["fc.weight"]
    assert "inferred" not in str(plan)


class Autoencoder(nn.Module):
    """A convolutional VAE without its noise."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.conv, self.encoder.z_mean = nn.Conv2d(3, 5, 2), nn.Linear(60, 2)
        self.encoder.z_log_var = nn.Linear(60, 2)
        self.decoder.fc, self.decoder.up = nn.Linear(2, 60), nn.ConvTranspose2d(5, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.encoder.conv(x)).flatten(1)
        z = self.encoder.z_mean(x) + torch.exp(self.encoder.z_log_var(x))
        result: torch.Tensor = self.decoder.up(torch.relu(self.decoder.fc(z)).view(-1, 5, 4, 3))
        return result


@pytest.mark.parametrize("weights_only", [False, True])
def test_a_variational_autoencoder_is_reordered_at_both_ends(weights_only: bool, keras: Any, same: Any) -> None:
    layers = keras.layers

    @keras.saving.register_keras_serializable("tests")
    class Sampling(layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, given: Any) -> Any:
            return given[0] + keras.ops.exp(given[1])

    inputs, z = layers.Input((5, 4, 3)), layers.Input((2,))
    x = layers.Flatten()(layers.Conv2D(5, 2, activation="relu", name="conv")(inputs))
    both = [layers.Dense(2, name="z_mean")(x), layers.Dense(2, name="z_log_var")(x)]
    encoder = keras.Model(inputs, [*both, Sampling()(both)], name="encoder")
    y = layers.Reshape((4, 3, 5))(layers.Dense(60, activation="relu", name="fc")(z))
    decoder = keras.Model(z, layers.Conv2DTranspose(3, 2, name="up")(y), name="decoder")
    model = keras.Model(inputs, decoder(encoder(inputs)[2]))
    said: dict[str, Any] = {"unflatten": {"decoder/fc": (4, 3, 5)}} if weights_only else {}
    if weights_only:
        said["flatten"] = dict.fromkeys(("encoder/z_mean", "encoder/z_log_var"), (4, 3, 5))
    same(model, Autoencoder(), weights_only=weights_only, **said)


def test_layers_that_are_shared_are_followed_call_by_call(keras: Any, same: Any, saved: Any) -> None:
    same(siamese(keras, ((5, 4), (5, 4))), Shared())
    with pytest.raises(bridge.BridgeError, match=r"fc takes 60 flattened values"):
        bridge.load(Shared(), saved(siamese(keras, ((5, 4), (4, 5)))))
