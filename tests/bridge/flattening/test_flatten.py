"""Weights behind a Flatten give in PyTorch what they gave in Keras."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_steps import CHANNELS_FIRST, CHANNELS_LAST, FLATTEN, FOLD, OUTPUTS, Steps, to, unfold

import bridge
from bridge.keras_files.keras_v3 import read_archive


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
