"""Weights behind a Flatten and in front of a Reshape give in PyTorch what they gave in Keras."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge.flattening.flatten import maps_of
from bridge.keras_files.keras_v3 import read_archive
from bridge.options import Options
from bridge.source import Source

Steps = list[tuple[str, nn.Module]]
FLATTEN, RELU = ("", nn.Flatten()), ("", nn.ReLU())


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
    "Conv1D": (lambda layers: [layers.Conv1D(5, 3, name="a")], (9, 3), lambda: [("a", nn.Conv1d(3, 5, 3))], 35),
    "Conv1D, causal": (
        lambda layers: [layers.Conv1D(5, 3, padding="causal", dilation_rate=2, name="a")],
        (9, 3),
        lambda: [("", nn.ConstantPad1d((4, 0), 0)), ("a", nn.Conv1d(3, 5, 3, dilation=2))],
        45,
    ),
    "Conv1D, poolings, padding, cropping": (
        lambda layers: [
            layers.Conv1D(5, 2, strides=2, name="a"),
            layers.ZeroPadding1D((2, 1)),
            layers.UpSampling1D(3),
            layers.Cropping1D((1, 2)),
            layers.MaxPooling1D(2),
            layers.AveragePooling1D(2, strides=1),
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
        lambda layers: [layers.SeparableConv1D(5, 2, depth_multiplier=2, name="a")],
        (7, 3),
        lambda: [("a", separable(1))],
        30,
    ),
    "DepthwiseConv1D": (
        lambda layers: [layers.DepthwiseConv1D(3, depth_multiplier=2, name="a")],
        (7, 3),
        lambda: [("a", nn.Conv1d(3, 6, 3, groups=3))],
        30,
    ),
    "Conv1DTranspose": (
        lambda layers: [layers.Conv1DTranspose(5, 3, strides=2, name="a")],
        (4, 3),
        lambda: [("a", nn.ConvTranspose1d(3, 5, 3, stride=2))],
        45,
    ),
    "SeparableConv2D": (
        lambda layers: [layers.SeparableConv2D(5, 2, depth_multiplier=2, name="a")],
        (5, 4, 3),
        lambda: [("a", separable(2))],
        60,
    ),
    "Conv2DTranspose": (
        lambda layers: [layers.Conv2DTranspose(5, (3, 2), strides=(2, 1), name="a")],
        (3, 2, 3),
        lambda: [("a", nn.ConvTranspose2d(3, 5, (3, 2), stride=(2, 1)))],
        105,
    ),
    "Conv2D, SpatialDropout2D, BatchNormalization": (
        lambda layers: [
            layers.Conv2D(5, 2, name="a"),
            layers.SpatialDropout2D(0.5),
            layers.BatchNormalization(name="b"),
        ],
        (5, 4, 3),
        lambda: [("a", nn.Conv2d(3, 5, 2)), ("b", nn.BatchNorm2d(5, eps=1e-3))],
        60,
    ),
    "Conv3D": (
        lambda layers: [layers.Conv3D(5, (2, 3, 1), strides=(1, 2, 1), name="a")],
        (3, 5, 4, 2),
        lambda: [("a", nn.Conv3d(2, 5, (2, 3, 1), stride=(1, 2, 1)))],
        80,
    ),
    "Conv3D, poolings, padding, cropping": (
        lambda layers: [
            layers.Conv3D(5, 2, name="a"),
            layers.ZeroPadding3D(((1, 0), (2, 1), (0, 1))),
            layers.Cropping3D(((0, 1), (1, 0), (1, 0))),
            layers.MaxPooling3D((1, 2, 1)),
            layers.UpSampling3D((1, 1, 2)),
            layers.AveragePooling3D((2, 1, 1), strides=1),
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
        lambda layers: [layers.Conv3DTranspose(5, (3, 2, 1), strides=(2, 1, 1), name="a")],
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


def sequence(layers: Any, kind: str) -> tuple[list[Any], Steps, bool]:
    """Layers whose flattened output PyTorch has in Keras's order, and whether images or sequences go in."""
    conv, ours = layers.Conv1D(5, 3, name="a"), ("a", nn.Conv1d(3, 5, 3))
    lstm, ours_lstm = layers.LSTM(4, return_sequences=True, name="lstm"), ("lstm", nn.LSTM(5, 4, batch_first=True))
    both = nn.GRU(3, 2, batch_first=True, bidirectional=True)
    dense = layers.Dense(4, name="td")
    cases: dict[str, tuple[list[Any], Steps, bool]] = {
        "LSTM": (
            [layers.LSTM(4, return_sequences=True, name="lstm")],
            [("lstm", nn.LSTM(3, 4, batch_first=True)), OUTPUTS],
            False,
        ),
        "Bidirectional": (
            [layers.Bidirectional(layers.GRU(2, return_sequences=True, name="gru"), name="bi")],
            [("bi", both), OUTPUTS],
            False,
        ),
        "Conv1D, LSTM": ([conv, lstm], [ours, CHANNELS_LAST, ours_lstm, OUTPUTS], True),
        "Conv1D, TimeDistributed": (
            [conv, layers.TimeDistributed(layers.Dense(4), name="td")],
            [ours, CHANNELS_LAST, ("td", nn.Linear(5, 4))],
            True,
        ),
        "Conv1D, Dense": ([conv, dense], [ours, CHANNELS_LAST, ("td", nn.Linear(5, 4))], True),
        "Conv1D, Permute": ([conv, layers.Permute((2, 1))], [ours], True),
        "an input": ([layers.Dropout(0.5)], [], False),
    }
    return cases[kind]


SEQUENCES = ["LSTM", "Bidirectional", "Conv1D, LSTM", "Conv1D, TimeDistributed", "Conv1D, Dense", "Conv1D, Permute"]


@pytest.mark.parametrize("kind", [*SEQUENCES, "an input"])
def test_sequences_that_pytorch_has_in_kerass_order_keep_it(kind: str, keras: Any, same: Any, chain: Any) -> None:
    steps, ours, first = sequence(keras.layers, kind)
    model = keras.Sequential(
        [keras.layers.Input((7, 3)), *steps, keras.layers.Flatten(), keras.layers.Dense(2, name="fc")]
    )
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
        [
            layers.Input((6,)),
            layers.Embedding(11, 4, name="words"),
            *between,
            layers.Flatten(),
            layers.Dense(2, name="fc"),
        ]
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
        steps = [
            layers.Conv2D(5, 2, name="conv"),
            layers.MaxPooling2D((2, 1)),
            layers.Flatten(),
            layers.Dense(6, name="fc"),
        ]
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
    assert [copy.target for copy in plan.copied.values() if "flattened" in str(copy.transform)] == [
        f"{before}fc.weight"
    ]
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
    "Permute": lambda layers: [layers.Permute((2, 3, 1))],
    "Reshape": lambda layers: [layers.Reshape((6, 10))],
    "Reshape over places": lambda layers: [layers.Reshape((12, 5))],
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
        lambda layers: [layers.Reshape((2, 3, 4)), layers.Conv2DTranspose(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("up", nn.ConvTranspose2d(4, 3, 2))],
        24,
    ),
    "to a picture, one size left open": (
        lambda layers: [layers.Reshape((2, -1, 4)), layers.UpSampling2D(2), layers.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("", nn.Upsample(scale_factor=2)), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to a picture and nothing else": (
        lambda layers: [layers.Reshape((2, 3, 4)), layers.Activation("tanh")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("", nn.Tanh())],
        24,
    ),
    "to steps": (
        lambda layers: [layers.Reshape((5, 4)), layers.ReLU(), layers.Conv1DTranspose(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 5))), ("", nn.ReLU()), ("up", nn.ConvTranspose1d(4, 3, 2))],
        20,
    ),
    "to a volume": (
        lambda layers: [
            layers.Reshape((2, 3, 1, 4)),
            layers.BatchNormalization(name="bn"),
            layers.Conv3D(3, 1, name="up"),
        ],
        lambda: [
            ("", nn.Unflatten(1, (4, 2, 3, 1))),
            ("bn", nn.BatchNorm3d(4, eps=1e-3)),
            ("up", nn.Conv3d(4, 3, 1)),
        ],
        24,
    ),
    "to channels first, permuted": (
        lambda layers: [layers.Reshape((4, 2, 3)), layers.Permute((2, 3, 1)), layers.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to a picture, turned": (
        lambda layers: [layers.Reshape((2, 3, 4)), layers.Permute((2, 1, 3)), layers.Conv2D(3, 2, name="up")],
        lambda: [("", nn.Unflatten(1, (4, 2, 3))), to(lambda x: x.transpose(2, 3)), ("up", nn.Conv2d(4, 3, 2))],
        24,
    ),
    "to steps of a recurrent layer": (
        lambda layers: [layers.Reshape((5, 4)), layers.LSTM(3, name="up")],
        lambda: [("", nn.Unflatten(1, (5, 4))), ("up", nn.LSTM(4, 3, batch_first=True)), LAST_STEP],
        20,
    ),
}
BETWEEN: dict[str, tuple[Callable[[Any], list[Any]], Callable[[int], Steps]]] = {
    "at once": (lambda _: [], lambda _: []),
    "an activation between": (
        lambda layers: [layers.LeakyReLU(), layers.Dropout(0.5)],
        lambda _: [("", nn.LeakyReLU(0.3))],
    ),
    "normalisations between": (
        lambda layers: [
            layers.BatchNormalization(name="norm"),
            layers.PReLU(name="relu"),
            layers.LayerNormalization(name="layer"),
        ],
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
    steps = [
        layers.Flatten(),
        layers.BatchNormalization(name="bn"),
        layers.Reshape((3, 4, 5)),
        layers.Conv2D(2, 2, name="b"),
    ]
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
    steps = [
        layers.Dense(12, name="fc"),
        layers.Reshape((3, 4, 1)),
        layers.Conv2D(2, (3, 4), name="a"),
        layers.Flatten(),
    ]
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
    model = keras.Model(
        inputs, [layers.Conv2D(2, 2, name="a")(layers.Reshape((3, 2, 4))(row)), layers.Dense(2, name="b")(row)]
    )
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
    with pytest.raises(
        bridge.BridgeError, match=r"fc gives 24 values, not those of a \(5, 5, 5\) map\. Correct unflatten"
    ):
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
