"""Weights behind a Flatten and in front of a Reshape give in PyTorch what they gave in Keras."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import bridge
from bridge.flatten import maps_of
from bridge.keras_v3 import read_archive
from bridge.options import Options
from bridge.source import Source, from_arrays
from bridge.transform import Transform

Draw = Callable[..., np.ndarray]
Steps = list[tuple[str, nn.Module]]
FLATTEN = ("", nn.Flatten())


class To(nn.Module):
    """Any function as a module without weights."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def to(function: Callable[[Any], Any]) -> tuple[str, nn.Module]:
    return "", To(function)


OUTPUTS = to(lambda pair: pair[0])  # of a recurrent layer, without its state
LAST_STEP = to(lambda pair: pair[0][:, -1])
CHANNELS_LAST, CHANNELS_FIRST = to(lambda x: x.movedim(1, -1)), to(lambda x: x.movedim(-1, 1))
FOLD = to(lambda x: x.flatten(0, 1))


def unfold(steps: int) -> tuple[str, nn.Module]:
    return to(lambda x: x.unflatten(0, (-1, steps)))


@pytest.fixture
def same(saved: Any, randomised: Any, images: Any) -> Callable[..., bridge.Plan]:
    """Loads a Keras model's weights into a module and holds their outputs against each other."""

    def compare(
        model: Any, module: nn.Module, *, first: bool = True, weights_only: bool = False, **options: Any
    ) -> bridge.Plan:
        plan = bridge.load(module, saved(randomised(model), weights_only=weights_only), strict=True, **options)
        shapes = [each.shape[1:] for each in model.inputs]
        inputs = [images(2, *shape, seed=seed) for seed, shape in enumerate(shapes)]
        expected = np.asarray(model(inputs if len(inputs) > 1 else inputs[0], training=False).detach())
        given = [torch.from_numpy(each).movedim(-1, 1) if first else torch.from_numpy(each) for each in inputs]
        with torch.inference_mode():
            found = module.eval()(given if len(given) > 1 else given[0]).numpy()
        if found.shape != expected.shape:
            found = np.moveaxis(found, 1, -1)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        return plan

    return compare


def separable(rank: int) -> nn.Module:
    convolution: Any = {1: nn.Conv1d, 2: nn.Conv2d}[rank]
    return nn.Sequential(convolution(3, 6, 2, groups=3, bias=False), convolution(6, 5, 1))


# What stands between an input and a Flatten, its size, the same in PyTorch, and how many values come out.
STACKS: dict[str, tuple[Callable[[Any], list[Any]], tuple[int, ...], Callable[[], Steps], int]] = {
    "Conv1D": (lambda L: [L.Conv1D(5, 3, name="a")], (9, 3), lambda: [("a", nn.Conv1d(3, 5, 3))], 35),
    "Conv1D, causal": (
        lambda L: [L.Conv1D(5, 3, padding="causal", dilation_rate=2, name="a")],
        (9, 3),
        lambda: [("", nn.ConstantPad1d((4, 0), 0)), ("a", nn.Conv1d(3, 5, 3, dilation=2))],
        45,
    ),
    "Conv1D, poolings, padding, cropping": (
        lambda L: [
            L.Conv1D(5, 2, strides=2, name="a"),
            L.ZeroPadding1D((2, 1)),
            L.UpSampling1D(3),
            L.Cropping1D((1, 2)),
            L.MaxPooling1D(2),
            L.AveragePooling1D(2, strides=1),
        ],
        (9, 3),
        lambda: [
            ("a", nn.Conv1d(3, 5, 2, stride=2)),
            ("", nn.ConstantPad1d((2, 1), 0)),
            ("", nn.Upsample(scale_factor=3)),
            to(lambda x: x[:, :, 1:-2]),
            ("", nn.MaxPool1d(2)),
            ("", nn.AvgPool1d(2, 1)),
        ],
        40,
    ),
    "SeparableConv1D": (
        lambda L: [L.SeparableConv1D(5, 2, depth_multiplier=2, name="a")],
        (7, 3),
        lambda: [("a", separable(1))],
        30,
    ),
    "DepthwiseConv1D": (
        lambda L: [L.DepthwiseConv1D(3, depth_multiplier=2, name="a")],
        (7, 3),
        lambda: [("a", nn.Conv1d(3, 6, 3, groups=3))],
        30,
    ),
    "Conv1DTranspose": (
        lambda L: [L.Conv1DTranspose(5, 3, strides=2, name="a")],
        (4, 3),
        lambda: [("a", nn.ConvTranspose1d(3, 5, 3, stride=2))],
        45,
    ),
    "SeparableConv2D": (
        lambda L: [L.SeparableConv2D(5, 2, depth_multiplier=2, name="a")],
        (5, 4, 3),
        lambda: [("a", separable(2))],
        60,
    ),
    "Conv2DTranspose": (
        lambda L: [L.Conv2DTranspose(5, (3, 2), strides=(2, 1), name="a")],
        (3, 2, 3),
        lambda: [("a", nn.ConvTranspose2d(3, 5, (3, 2), stride=(2, 1)))],
        105,
    ),
    "Conv2D, SpatialDropout2D, BatchNormalization": (
        lambda L: [L.Conv2D(5, 2, name="a"), L.SpatialDropout2D(0.5), L.BatchNormalization(name="b")],
        (5, 4, 3),
        lambda: [("a", nn.Conv2d(3, 5, 2)), ("b", nn.BatchNorm2d(5, eps=1e-3))],
        60,
    ),
    "Conv3D": (
        lambda L: [L.Conv3D(5, (2, 3, 1), strides=(1, 2, 1), name="a")],
        (3, 5, 4, 2),
        lambda: [("a", nn.Conv3d(2, 5, (2, 3, 1), stride=(1, 2, 1)))],
        80,
    ),
    "Conv3D, poolings, padding, cropping": (
        lambda L: [
            L.Conv3D(5, 2, name="a"),
            L.ZeroPadding3D(((1, 0), (2, 1), (0, 1))),
            L.Cropping3D(((0, 1), (1, 0), (1, 0))),
            L.MaxPooling3D((1, 2, 1)),
            L.UpSampling3D((1, 1, 2)),
            L.AveragePooling3D((2, 1, 1), strides=1),
        ],
        (4, 4, 3, 2),
        lambda: [
            ("a", nn.Conv3d(2, 5, 2)),
            ("", nn.ConstantPad3d((0, 1, 2, 1, 1, 0), 0)),
            to(lambda x: x[:, :, :-1, 1:, 1:]),
            ("", nn.MaxPool3d((1, 2, 1))),
            ("", nn.Upsample(scale_factor=(1, 1, 2))),
            ("", nn.AvgPool3d((2, 1, 1), 1)),
        ],
        80,
    ),
    "Conv3DTranspose": (
        lambda L: [L.Conv3DTranspose(5, (3, 2, 1), strides=(2, 1, 1), name="a")],
        (2, 2, 3, 2),
        lambda: [("a", nn.ConvTranspose3d(2, 5, (3, 2, 1), stride=(2, 1, 1)))],
        225,
    ),
}


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("form", ["Sequential", "Functional"])
def test_a_dense_layer_behind_a_flatten_takes_a_map_of_any_rank(
    kind: str, form: str, keras: Any, same: Any, chain: Any
) -> None:
    made, shape, ours, values = STACKS[kind]
    steps = [*made(keras.layers), keras.layers.Flatten(), keras.layers.Dense(2, name="fc")]
    if form == "Sequential":
        model = keras.Sequential([keras.layers.Input(shape), *steps])
    else:
        x = inputs = keras.layers.Input(shape)
        for step in steps:
            x = step(x)
        model = keras.Model(inputs, x)
    plan = same(model, chain(*ours(), FLATTEN, ("fc", nn.Linear(values, 2))))
    assert "flattened" in str(plan.copied["fc/kernel"].transform)
    assert "inferred" not in str(plan)


def sequence(L: Any, kind: str) -> tuple[list[Any], Steps, bool]:
    """Layers whose flattened output PyTorch has in Keras's order, and whether images or sequences go in."""
    conv, ours = L.Conv1D(5, 3, name="a"), ("a", nn.Conv1d(3, 5, 3))
    lstm, ours_lstm = L.LSTM(4, return_sequences=True, name="lstm"), ("lstm", nn.LSTM(5, 4, batch_first=True))
    both = nn.GRU(3, 2, batch_first=True, bidirectional=True)
    dense = L.Dense(4, name="td")
    cases: dict[str, tuple[list[Any], Steps, bool]] = {
        "LSTM": (
            [L.LSTM(4, return_sequences=True, name="lstm")],
            [("lstm", nn.LSTM(3, 4, batch_first=True)), OUTPUTS],
            False,
        ),
        "Bidirectional": (
            [L.Bidirectional(L.GRU(2, return_sequences=True, name="gru"), name="bi")],
            [("bi", both), OUTPUTS],
            False,
        ),
        "Conv1D, LSTM": ([conv, lstm], [ours, CHANNELS_LAST, ours_lstm, OUTPUTS], True),
        "Conv1D, TimeDistributed": (
            [conv, L.TimeDistributed(L.Dense(4), name="td")],
            [ours, CHANNELS_LAST, ("td", nn.Linear(5, 4))],
            True,
        ),
        "Conv1D, Dense": ([conv, dense], [ours, CHANNELS_LAST, ("td", nn.Linear(5, 4))], True),
        "Conv1D, Permute": ([conv, L.Permute((2, 1))], [ours], True),
        "an input": ([L.Dropout(0.5)], [], False),
    }
    return cases[kind]


SEQUENCES = ["LSTM", "Bidirectional", "Conv1D, LSTM", "Conv1D, TimeDistributed", "Conv1D, Dense", "Conv1D, Permute"]


@pytest.mark.parametrize("kind", [*SEQUENCES, "an input"])
def test_sequences_that_pytorch_has_in_kerass_order_keep_it(kind: str, keras: Any, same: Any, chain: Any) -> None:
    steps, ours, first = sequence(keras.layers, kind)
    model = keras.Sequential([keras.layers.Input((7, 3)), *steps, keras.layers.Flatten(), keras.layers.Dense(2, name="fc")])
    values = model.layers[-2].output.shape[-1]
    plan = same(model, chain(*ours, FLATTEN, ("fc", nn.Linear(values, 2))), first=first)
    assert "flattened" not in str(plan)


@pytest.mark.parametrize("convolution", [False, True], ids=["flattened at once", "behind a convolution"])
def test_an_embedding_is_flattened_as_keras_does_and_a_convolution_over_it_is_not(
    convolution: bool, keras: Any, saved: Any, randomised: Any, chain: Any
) -> None:
    layers = keras.layers
    between = [layers.Conv1D(5, 3, name="a")] if convolution else []
    model = keras.Sequential(
        [layers.Input((6,)), layers.Embedding(11, 4, name="words"), *between, layers.Flatten(), layers.Dense(2, name="fc")]
    )
    ours: Steps = [CHANNELS_FIRST, ("a", nn.Conv1d(4, 5, 3))] if convolution else []
    module = chain(("words", nn.Embedding(11, 4)), *ours, FLATTEN, ("fc", nn.Linear(20 if convolution else 24, 2)))
    plan = bridge.load(module, saved(randomised(model)), strict=True)
    assert ("flattened" in str(plan)) == convolution
    words = np.random.default_rng(0).integers(0, 11, (3, 6))
    with torch.inference_mode():
        found = module(torch.from_numpy(words)).numpy()
    np.testing.assert_allclose(found, model(words).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("inner", ["layers", "a model"])
def test_maps_inside_time_are_reordered_step_by_step(
    inner: str, suffix: str, keras: Any, randomised: Any, saved: Any, images: Any, chain: Any
) -> None:
    layers, timed = keras.layers, keras.layers.TimeDistributed
    x = inputs = layers.Input((3, 5, 4, 2))
    if inner == "layers":
        x = timed(layers.Conv2D(5, 2), name="conv")(x)
        x = timed(layers.MaxPooling2D((2, 1)))(x)
        x = timed(layers.Flatten())(x)
        x = timed(layers.Dense(6), name="fc")(x)
    else:
        steps = [layers.Conv2D(5, 2, name="conv"), layers.MaxPooling2D((2, 1)), layers.Flatten(), layers.Dense(6, name="fc")]
        x = timed(keras.Sequential([layers.Input((5, 4, 2)), *steps], name="net"), name="td")(x)
    model = randomised(keras.Model(inputs, layers.Dense(2, name="last")(layers.Flatten()(x))))
    before = "" if inner == "layers" else "td.net."
    module = chain(
        FOLD,
        (f"{before}conv", nn.Conv2d(2, 5, 2)),
        ("", nn.MaxPool2d((2, 1))),
        FLATTEN,
        (f"{before}fc", nn.Linear(30, 6)),
        unfold(3),
        FLATTEN,
        ("last", nn.Linear(18, 2)),
    )
    path = saved(model, f"model{suffix}")
    source = read_archive(path) if suffix == ".keras" else bridge.read(path)
    plan = bridge.load(module, source, strict=True)
    assert [copy.target for copy in plan.copied.values() if "flattened" in str(copy.transform)] == [f"{before}fc.weight"]
    x = images(2, 3, 5, 4, 2)
    with torch.inference_mode():
        found = module.eval()(torch.from_numpy(x).movedim(-1, 2)).numpy()
    np.testing.assert_allclose(found, model(x, training=False).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_all_steps_of_maps_in_time_flattened_at_once_are_refused(keras: Any, saved: Any, chain: Any) -> None:
    layers, timed = keras.layers, keras.layers.TimeDistributed
    steps = [timed(layers.Conv2D(5, 2), name="conv"), layers.Flatten(), layers.Dense(2, name="fc")]
    model = keras.Sequential([layers.Input((3, 5, 4, 2)), *steps])
    module = chain(FOLD, ("conv", nn.Conv2d(2, 5, 2)), unfold(3), FLATTEN, ("fc", nn.Linear(180, 2)))
    with pytest.raises(bridge.BridgeError, match=r"fc takes the 180 values of a \(3, 4, 3, 5\) map.*skip 'fc'"):
        bridge.load(module, saved(model))


PERMUTED: dict[tuple[int, ...], tuple[str, Callable[[Any], Any]]] = {
    (3, 1, 2): ("", lambda x: x),  # the channels come to the front, where PyTorch has them
    (3, 2, 1): ("", lambda x: x.transpose(2, 3)),
    (2, 1, 3): ("(4, 3, 5)", lambda x: x.transpose(2, 3)),
}


@pytest.mark.parametrize("dims", PERMUTED)
def test_a_permute_before_a_flatten_is_followed(dims: tuple[int, ...], keras: Any, same: Any, chain: Any) -> None:
    layers, (said, ours) = keras.layers, PERMUTED[dims]
    steps = [layers.Conv2D(5, 2, name="a"), layers.Permute(dims), layers.Flatten(), layers.Dense(2, name="fc")]
    module = chain(("a", nn.Conv2d(3, 5, 2)), to(ours), FLATTEN, ("fc", nn.Linear(60, 2)))
    plan = same(keras.Sequential([layers.Input((4, 5, 3)), *steps]), module)
    assert str(plan.copied["fc/kernel"].transform).startswith(f"flattened {said}" if said else "axes")


REFUSED: dict[str, Callable[[Any], list[Any]]] = {
    "Permute": lambda L: [L.Permute((2, 3, 1))],
    "Reshape": lambda L: [L.Reshape((6, 10))],
    "Reshape over places": lambda L: [L.Reshape((12, 5))],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_order_that_cannot_be_told_is_asked_for(kind: str, keras: Any, saved: Any, chain: Any) -> None:
    layers = keras.layers
    steps = [layers.Conv2D(5, 2, name="a"), *REFUSED[kind](layers), layers.Flatten(), layers.Dense(2, name="fc")]
    path = saved(keras.Sequential([layers.Input((4, 5, 3)), *steps]))
    module = chain(("a", nn.Conv2d(3, 5, 2)), FLATTEN, ("fc", nn.Linear(60, 2)))
    with pytest.raises(bridge.BridgeError, match=r"model\.h5: fc takes 60 flattened values.*flatten=\{'fc': \(.*None"):
        bridge.load(module, path)
    assert str(bridge.load(module, path, flatten={"fc": None}).copied["fc/kernel"].transform) == "axes (1, 0)"


def test_a_layer_of_ones_own_between_convolution_and_flatten_is_taken_to_keep_the_order_and_the_plan_says_so(
    keras: Any, same: Any, chain: Any
) -> None:
    layers = keras.layers

    @keras.saving.register_keras_serializable("tests")
    class Twice(layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return 2 * x

    x = inputs = layers.Input((5, 4, 3))
    x = Twice()(layers.Conv2D(5, 2, name="a")(x))
    model = keras.Model(inputs, layers.Dense(2, name="fc")(layers.Flatten()(x)))
    module = chain(("a", nn.Conv2d(3, 5, 2)), to(lambda x: 2 * x), FLATTEN, ("fc", nn.Linear(60, 2)))
    plan = same(model, module)
    assert str(plan.copied["fc/kernel"].transform).startswith("flattened (4, 3, 5)")
    assert "inferred" in str(plan.copied["fc/kernel"].transform)


# What makes a map of a row, the same in PyTorch, the size of the row, and the shape the images have.
DECODERS: dict[str, tuple[Callable[[Any], list[Any]], Callable[[], Steps], int]] = {
    "to a picture": (
        lambda L: [L.Reshape((2, 3, 4)), L.Conv2DTranspose(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("up", nn.ConvTranspose2d(4, 3, 2))],
        24,
    ),
    "to a picture, one size left open": (
        lambda L: [L.Reshape((2, -1, 4)), L.UpSampling2D(2), L.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("", nn.Upsample(scale_factor=2)), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to a picture and nothing else": (
        lambda L: [L.Reshape((2, 3, 4)), L.Activation("tanh")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("", nn.Tanh())],
        24,
    ),
    "to steps": (
        lambda L: [L.Reshape((5, 4)), L.ReLU(), L.Conv1DTranspose(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 5))), ("", nn.ReLU()), ("up", nn.ConvTranspose1d(4, 3, 2))],
        20,
    ),
    "to a volume": (
        lambda L: [L.Reshape((2, 3, 1, 4)), L.BatchNormalization(name="bn"), L.Conv3D(3, 1, name="up")],
        lambda: [
            ("", nn.Unflatten(1, (4, 2, 3, 1))),
            ("bn", nn.BatchNorm3d(4, eps=1e-3)),
            ("up", nn.Conv3d(4, 3, 1)),
        ],
        24,
    ),
    "to channels first, permuted": (
        lambda L: [L.Reshape((4, 2, 3)), L.Permute((2, 3, 1)), L.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to a picture, turned": (
        lambda L: [L.Reshape((2, 3, 4)), L.Permute((2, 1, 3)), L.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), to(lambda x: x.transpose(2, 3)), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to steps of a recurrent layer": (
        lambda L: [L.Reshape((5, 4)), L.LSTM(3, name="up")],
        lambda: [("", nn.Unflatten(1, (5, 4))), ("up", nn.LSTM(4, 3, batch_first=True)), LAST_STEP],
        20,
    ),
}
BETWEEN: dict[str, tuple[Callable[[Any], list[Any]], Callable[[int], Steps]]] = {
    "at once": (lambda _: [], lambda _: []),
    "an activation between": (
        lambda L: [L.LeakyReLU(), L.Dropout(0.5)],
        lambda _: [("", nn.LeakyReLU(0.3))],
    ),
    "normalisations between": (
        lambda L: [L.BatchNormalization(name="norm"), L.PReLU(name="relu"), L.LayerNormalization(name="layer")],
        lambda n: [("norm", nn.BatchNorm1d(n, eps=1e-3)), ("relu", nn.PReLU(n)), ("layer", nn.LayerNorm(n, eps=1e-3))],
    ),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_outputs_of_a_dense_layer_become_a_map_as_pytorch_views_it(
    decoder: str, between: str, keras: Any, same: Any, chain: Any
) -> None:
    layers, (made, ours, values), (inner, ours_inner) = keras.layers, DECODERS[decoder], BETWEEN[between]
    dense = layers.Dense(values, name="fc")
    model = keras.Sequential([layers.Input((7,)), dense, *inner(layers), *made(layers)])
    plan = same(model, chain(("fc", nn.Linear(7, values)), *ours_inner(values), *ours()))
    stays = decoder in ("to channels first, permuted", "to steps of a recurrent layer")
    moved = {copy.source.split("/")[0] for copy in plan.copied.values() if "flattened" in str(copy.transform)}
    assert moved == (set() if stays else {"fc", "norm", "relu", "layer"} & {key.split("/")[0] for key in plan.copied})


def test_a_dense_layer_may_have_a_flatten_in_front_and_a_reshape_behind(keras: Any, same: Any, chain: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((4, 5, 3)),
            layers.Conv2D(5, 2, name="a"),
            layers.Flatten(),
            layers.Dense(24, name="fc"),
            layers.Reshape((3, 2, 4)),
            layers.Conv2D(2, 2, name="b"),
        ]
    )
    module = chain(
        ("a", nn.Conv2d(3, 5, 2)),
        FLATTEN,
        ("fc", nn.Linear(60, 24)),
        ("", nn.Unflatten(1, (4, 3, 2))),
        ("b", nn.Conv2d(4, 2, 2)),
    )
    plan = same(model, module)
    assert plan.copied["fc/kernel"].transform.maps == ((0, (3, 4, 5)), (1, (3, 2, 4)))
    assert plan.copied["fc/bias"].transform.maps == ((0, (3, 2, 4)),)


def test_a_flatten_and_a_reshape_back_need_no_order(keras: Any, same: Any, chain: Any) -> None:
    layers = keras.layers
    steps = [layers.Flatten(), layers.BatchNormalization(name="bn"), layers.Reshape((3, 4, 5)), layers.Conv2D(2, 2, name="b")]
    model = keras.Sequential([layers.Input((4, 5, 3)), layers.Conv2D(5, 2, name="a"), *steps])
    module = chain(
        ("a", nn.Conv2d(3, 5, 2)),
        FLATTEN,
        ("bn", nn.BatchNorm1d(60, eps=1e-3)),
        ("", nn.Unflatten(1, (5, 3, 4))),
        ("b", nn.Conv2d(5, 2, 2)),
    )
    same(model, module)


class Conditional(nn.Module):
    """A generator that is told the class."""

    def __init__(self) -> None:
        super().__init__()
        self.noise, self.label, self.up = nn.Linear(7, 24), nn.Linear(3, 12), nn.ConvTranspose2d(6, 5, 2)

    def forward(self, given: list[torch.Tensor]) -> torch.Tensor:
        noise, label = self.noise(given[0]), self.label(given[1])
        result: torch.Tensor = self.up(torch.cat([label.view(-1, 2, 3, 2), noise.view(-1, 4, 3, 2)], 1))
        return result


@pytest.mark.parametrize("decoder", [False, True], ids=["flat", "nested"])
def test_maps_that_are_joined_are_reordered_each_by_itself(decoder: bool, keras: Any, same: Any) -> None:
    layers = keras.layers
    noise, label = layers.Input((7,)), layers.Input((3,))
    maps = [layers.Dense(12, name="label")(label), layers.Dense(24, name="noise")(noise)]

    def up(rows: list[Any]) -> Any:
        shaped = [layers.Reshape((3, 2, channels))(x) for x, channels in zip(rows, (2, 4), strict=True)]
        return layers.Conv2DTranspose(5, 2, name="up")(layers.Concatenate()(shaped))

    if decoder:
        rows = [layers.Input((12,)), layers.Input((24,))]
        model = keras.Model([noise, label], keras.Model(rows, up(rows), name="decoder")(maps))
        same(model, Conditional(), first=False, rename={"decoder/up": "up"})
    else:
        same(keras.Model([noise, label], up(maps)), Conditional(), first=False)


def test_a_map_with_one_channel_or_one_place_needs_no_order(keras: Any, same: Any, chain: Any) -> None:
    layers = keras.layers
    steps = [layers.Dense(12, name="fc"), layers.Reshape((3, 4, 1)), layers.Conv2D(2, (3, 4), name="a"), layers.Flatten()]
    model = keras.Sequential([layers.Input((7,)), *steps, layers.Dense(2, name="last")])
    module = chain(
        ("fc", nn.Linear(7, 12)),
        ("", nn.Unflatten(1, (1, 3, 4))),
        ("a", nn.Conv2d(1, 2, (3, 4))),
        FLATTEN,
        ("last", nn.Linear(2, 2)),
    )
    assert "flattened" not in str(same(model, module))


def test_outputs_that_are_reshaped_and_used_as_they_are_too_are_refused(keras: Any, saved: Any, chain: Any) -> None:
    layers = keras.layers
    inputs = layers.Input((7,))
    row = layers.Dense(24, name="fc")(inputs)
    model = keras.Model(inputs, [layers.Conv2D(2, 2, name="a")(layers.Reshape((3, 2, 4))(row)), layers.Dense(2, name="b")(row)])
    module = chain(("fc", nn.Linear(7, 24)), ("a", nn.Conv2d(4, 2, 2)), ("b", nn.Linear(24, 2)))
    with pytest.raises(bridge.BridgeError, match=r"fc gives 24 values for a map.*unflatten=\{'fc': \(3, 2, 4\)\}"):
        bridge.load(module, saved(model))
    for chosen in ((3, 2, 4), None):
        plan = bridge.load(module, saved(model), unflatten={"fc": chosen})
        assert plan.copied["fc/bias"].transform.maps == (((0, chosen),) if chosen else ())


def test_without_an_architecture_unflatten_says_what_outputs_become(keras: Any, same: Any, chain: Any) -> None:
    made, ours, values = DECODERS["to a picture"]
    inner, ours_inner = BETWEEN["normalisations between"]
    dense = keras.layers.Dense(values, name="fc")
    model = keras.Sequential([keras.layers.Input((7,)), dense, *inner(keras.layers), *made(keras.layers)])
    names = ("fc", "norm", "relu", "layer")
    module = chain(("fc", nn.Linear(7, values)), *ours_inner(values), *ours())
    same(model, module, weights_only=True, unflatten=dict.fromkeys(names, (2, 3, 4)))


def test_a_map_that_outputs_do_not_fill_is_refused(keras: Any, saved: Any, chain: Any) -> None:
    path = saved(keras.Sequential([keras.layers.Input((7,)), keras.layers.Dense(24, name="fc")]), weights_only=True)
    with pytest.raises(bridge.BridgeError, match=r"fc gives 24 values, not those of a \(5, 5, 5\) map\. Correct unflatten"):
        bridge.load(chain(("fc", nn.Linear(7, 24))), path, unflatten={"fc": (5, 5, 5)})


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
    same(model, chain(("a", nn.Conv2d(3, 5, 2)), FLATTEN, flat, ("fc1", nn.Conv2d(60, 7, 1)), ("fc2", nn.Conv2d(7, 6, 1)), FLATTEN))


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


def weights(**kernels: tuple[int, ...]) -> Source:
    """A weights-only file, from the shapes of the layers' first weights; `moving_mean` where there is one axis."""
    arrays: dict[str, np.ndarray] = {}
    for layer, shape in kernels.items():
        role = "moving_mean" if len(shape) == 1 else "embeddings" if layer.startswith("words") else "kernel"
        arrays[f"{layer.replace('__', '/')}/{role}"] = np.zeros(shape, np.float32)
        if layer.startswith("lstm"):
            arrays[f"{layer}/recurrent_kernel"] = np.zeros((shape[1] // 4, shape[1]), np.float32)
        elif len(shape) > 2:
            arrays[f"{layer.replace('__', '/')}/bias"] = np.zeros(shape[2:] if "query" in layer else shape[-1], np.float32)
    return from_arrays(arrays)


GUESSED: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, tuple[int | None, ...]]]] = {
    "two layers that take the same map": (
        {"a": (3, 3, 2, 5), "mean": (20, 3), "variance": (20, 3), "up": (3, 20)},
        {"mean": (2, 2, 5), "variance": (2, 2, 5)},
    ),
    "a layer behind one that gives as many values": ({"a": (3, 3, 2, 5), "b": (20, 20), "c": (20, 3)}, {"b": (2, 2, 5)}),
    "a recurrent layer behind a convolution": ({"a": (3, 2, 5), "lstm": (5, 40), "fc": (10, 3)}, {}),
    "steps of a convolution inside time": ({"a": (3, 2, 5), "lstm": (30, 40), "fc": (10, 3)}, {"lstm": (6, 5)}),
    "columns of a picture as steps": ({"a": (3, 3, 2, 5), "lstm": (20, 40)}, {"lstm": (None, None, 5)}),
    "an embedding behind a convolution": ({"a": (3, 2, 5), "words": (9, 4), "fc": (20, 3)}, {}),
    "convolutions of several widths side by side": (
        {"a": (3, 8, 5), "b": (4, 8, 5), "c": (5, 8, 5), "fc": (15, 2)},
        {},
    ),
    "convolutions side by side or one behind the other": (
        {"a": (3, 5, 5), "b": (4, 5, 5), "c": (5, 5, 5), "fc": (15, 2)},
        {"fc": ()},
    ),
    "pictures' convolutions one behind the other": ({"a": (3, 3, 5, 5), "b": (3, 3, 5, 5), "fc": (20, 2)}, {"fc": (2, 2, 5)}),
    "a normalisation that tells the channels of joined maps": (
        {"a": (3, 3, 2, 4), "b": (3, 3, 4, 3), "n": (7,), "c": (3, 3, 7, 3), "m": (10,), "fc": (40, 2)},
        {"fc": (2, 2, 10)},
    ),
    "the same, pooled": (
        {"a": (3, 3, 2, 4), "b": (3, 3, 4, 3), "n": (7,), "c": (3, 3, 7, 3), "m": (12,), "fc": (12, 2)},
        {},
    ),
    "joined maps whose channels nothing tells": ({"a": (3, 2, 4), "b": (3, 4, 3), "c": (3, 7, 3), "fc": (30, 2)}, {"fc": ()}),
    "attention": ({"a": (3, 2, 5), "att__query": (5, 2, 4), "att__attention_output": (2, 4, 5), "fc": (20, 3)}, {}),
}


@pytest.mark.parametrize("kind", GUESSED)
def test_shapes_alone_tell(kind: str) -> None:
    kernels, expected = GUESSED[kind]
    assert {layer: flat.shape for layer, flat in maps_of(weights(**kernels)).inputs.items()} == expected


def described(model: Any) -> Source:
    """The architecture of a Keras model, without weights and without the shapes that Keras 3 says."""

    def unsaid(value: Any) -> Any:
        if isinstance(value, dict):
            if "keras_history" in value:
                return {"keras_history": value["keras_history"]}
            return {key: unsaid(each) for key, each in value.items()}
        return [unsaid(each) for each in value] if isinstance(value, list) else value

    return Source({}, format="", architecture=unsaid(json.loads(model.to_json())))


LAYERS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(
                "Conv SeparableConv DepthwiseConv ConvTranspose MaxPooling AveragePooling ZeroPadding Cropping UpSampling".split()
            ),
            "sizes": st.tuples(*[st.integers(1, 4)] * 3),
            "strides": st.tuples(*[st.integers(1, 3)] * 3),
            "dilation": st.tuples(*[st.integers(1, 2)] * 3),
            "edges": st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 3),
            "more": st.tuples(*[st.integers(0, 2)] * 3),
            "filters": st.integers(1, 4),
            "padding": st.sampled_from(["same", "valid"]),
            "choice": st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=5,
)


def layer_of(L: Any, rank: int, first: bool, given: Mapping[str, Any]) -> Any:
    """The layer that is described, or None where Keras has none."""
    kind, data_format = given["kind"], {"data_format": "channels_first" if first else "channels_last"}
    name = f"Conv{rank}DTranspose" if kind == "ConvTranspose" else f"{kind}{rank}D"
    made = getattr(L, name, None)
    if made is None or (first and kind in ("SeparableConv", "DepthwiseConv", "ConvTranspose")):
        return None
    sizes, strides, dilation, edges, more = (given[key][:rank] for key in ("sizes", "strides", "dilation", "edges", "more"))
    padding = {"padding": given["padding"]}
    plain = {} if rank == 1 and first else data_format
    choice = given["choice"]
    if kind in ("ZeroPadding", "Cropping"):
        if rank == 1 and first:
            return None
        one = edges[0] if rank == 1 else edges
        return made((1, one, edges[0][0])[choice], **({} if rank == 1 and kind == "Cropping" else plain))
    if kind == "UpSampling":
        return None if rank == 1 and first else made(sizes[0] if rank == 1 else sizes, **({} if rank == 1 else plain))
    if kind.endswith("Pooling"):
        return made(sizes, (None, strides, strides[0])[choice], **padding, **data_format)
    if kind == "ConvTranspose":
        extra = {"output_padding": tuple(min(each, step - 1) for each, step in zip(more, strides, strict=True))}
        return made(given["filters"], sizes, strides=strides, **padding, **(extra if choice == 2 else {}))
    stretched = {"dilation_rate": dilation} if choice else {"strides": strides}
    if kind == "DepthwiseConv" or kind == "SeparableConv":
        stretched = {"dilation_rate": dilation[0]} if choice else {"strides": strides[0]}
    named = {"depth_multiplier": given["filters"]} if kind == "DepthwiseConv" else {"filters": given["filters"]}
    return made(kernel_size=sizes, **named, **padding, **stretched, **data_format)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rank=st.integers(1, 3), first=st.booleans(), sizes=st.tuples(*[st.integers(5, 9)] * 3), made=LAYERS)
def test_the_size_of_every_map_is_what_keras_says(
    rank: int, first: bool, sizes: tuple[int, ...], made: list[dict[str, Any]], keras: Any
) -> None:
    layers = keras.layers
    inputs = layers.Input((2, *sizes[:rank]) if first else (*sizes[:rank], 2))
    convolution = (layers.Conv1D, layers.Conv2D, layers.Conv3D)[rank - 1]
    x = convolution(3, 1, data_format="channels_first" if first else "channels_last")(inputs)
    for each in made:
        layer = layer_of(layers, rank, first, each)
        try:
            x = x if layer is None else layer(x)
        except (ValueError, RuntimeError):  # nothing would be left of the map
            break
    size = tuple(x.shape[1:])
    kept = maps_of(described(keras.Model(inputs, layers.Dense(1, name="fc")(layers.Flatten()(x))))).inputs.get("fc")
    moved = layers.Flatten(data_format="channels_first")(x)
    turned = maps_of(described(keras.Model(inputs, layers.Dense(1, name="fc")(moved)))).inputs.get("fc")
    flat, other = (turned, kept) if first else (kept, turned)
    last = (*size[1:], size[0]) if first else size
    if last[-1] != 1 and max(last[:-1]) > 1:
        assert flat is not None
        assert flat.shape == last
    else:
        assert flat is None
    assert other is None or other.mixed  # as PyTorch has it, or in no order that it has
