"""Batch normalisations folded away: Keras and PyTorch give the same without; what cannot be folded is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapted_models import ROLES, described, given, rebuilt, same, weights
from torch import nn

import bridge
from bridge import adapt
from bridge.source import Source

Draw = Callable[..., np.ndarray]
Save = Callable[..., Path]


def after(keras: Any, layer: Any, shape: tuple[int, ...], **options: Any) -> Any:
    """A layer, its normalisation, and something behind."""
    layers = keras.layers
    options = {"epsilon": 0.01, "name": "bn"} | options
    return keras.Sequential([keras.Input(shape), layer, layers.BatchNormalization(**options), layers.ReLU()])


LAYERS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "Conv1D": (lambda layers, **more: layers.Conv1D(5, 3, **more), (9, 3)),
    "Conv2D": (lambda layers, **more: layers.Conv2D(5, (3, 2), **more), (7, 9, 3)),
    "Conv2D in groups": (lambda layers, **more: layers.Conv2D(6, 3, groups=3, **more), (7, 9, 3)),
    "Conv3D": (lambda layers, **more: layers.Conv3D(5, (3, 2, 2), **more), (5, 7, 6, 3)),
    "Conv1DTranspose": (lambda layers, **more: layers.Conv1DTranspose(5, 3, **more), (9, 3)),
    "Conv2DTranspose": (lambda layers, **more: layers.Conv2DTranspose(5, (3, 2), **more), (7, 9, 3)),
    "Conv2DTranspose, square": (lambda layers, **more: layers.Conv2DTranspose(3, 2, **more), (7, 9, 3)),
    "Conv3DTranspose": (lambda layers, **more: layers.Conv3DTranspose(5, 2, **more), (3, 4, 2, 3)),
    "DepthwiseConv1D": (lambda layers, **more: layers.DepthwiseConv1D(3, depth_multiplier=2, **more), (9, 3)),
    "DepthwiseConv2D": (lambda layers, **more: layers.DepthwiseConv2D(3, depth_multiplier=2, **more), (7, 9, 3)),
    "SeparableConv1D": (lambda layers, **more: layers.SeparableConv1D(5, 3, depth_multiplier=2, **more), (9, 3)),
    "SeparableConv2D": (lambda layers, **more: layers.SeparableConv2D(5, 3, depth_multiplier=2, **more), (7, 9, 3)),
    "Dense": (lambda layers, **more: layers.Dense(5, **more), (6,)),
    "Dense on a map": (lambda layers, **more: layers.Dense(5, **more), (7, 9, 3)),
}


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_keras_gives_the_same_without_the_normalisation(
    make: Any, shape: tuple[int, ...], use_bias: bool, keras: Any, randomised: Any, saved: Save, images: Draw
) -> None:
    model = randomised(after(keras, make(keras.layers, name="a", use_bias=use_bias), shape))
    folded = adapt.fold_batch_norm(described(saved(model), model))
    assert "a/bias" in folded
    assert not any(key.startswith("bn/") for key in folded)
    shown = images(2, *shape)
    same(given(rebuilt(keras, folded), shown), given(model, shown))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_a_normalisation_without_scale_or_shift_is_folded_too(
    scale: bool, center: bool, keras: Any, randomised: Any, saved: Save, images: Draw, chain: Any
) -> None:
    conv = keras.layers.Conv2D(4, 3, use_bias=False, name="a")
    model = randomised(after(keras, conv, (7, 9, 3), scale=scale, center=center))
    module, shown = chain(("a", nn.Conv2d(3, 4, 3)), ("", nn.ReLU())), images(2, 7, 9, 3)
    bridge.load(module, adapt.fold_batch_norm(bridge.read(saved(model))), strict=True)
    with torch.inference_mode():
        out = module(torch.from_numpy(shown).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    same(out, given(model, shown))


def branches(keras: Any) -> Any:
    """A residual block; Keras stores both convolutions and then both normalisations, of one width."""
    layers = keras.layers
    image = keras.Input((7, 9, 3))
    sides = [
        layers.Conv2D(4, size, padding="same", name=f"block_{index}_conv")(image) for index, size in enumerate((3, 1))
    ]
    sides = [layers.BatchNormalization(name=f"block_{index}_bn")(side) for index, side in enumerate(sides)]
    x = layers.ReLU()(layers.Add()(sides))
    inner_input = keras.Input((7, 9, 4))
    inner = layers.BatchNormalization(name="bn")(layers.Conv2D(5, 3, use_bias=False, name="a")(inner_input))
    return keras.Model(image, keras.Model(inner_input, inner, name="inner")(x))


def mobile_net(keras: Any) -> Any:
    return keras.applications.MobileNetV2(input_shape=(32, 64, 3), alpha=0.35, weights=None, classes=5)


@pytest.mark.parametrize(("make", "shape"), [(branches, (7, 9, 3)), (mobile_net, (32, 64, 3))])
def test_whole_models_give_the_same(
    make: Any, shape: tuple[int, ...], keras: Any, randomised: Any, saved: Save, images: Draw
) -> None:
    model = randomised(make(keras))
    folded = adapt.fold_batch_norm(described(saved(model), model))
    assert not any(key.endswith("moving_mean") for key in folded)
    shown = images(2, *shape)
    same(given(rebuilt(keras, folded), shown), given(model, shown))


def activated(keras: Any) -> Any:
    return after(keras, keras.layers.Conv2D(4, 3, activation="relu", name="a"), (7, 9, 3))


def activation_between(keras: Any) -> Any:
    layers = keras.layers
    steps = [layers.Conv2D(4, 3, name="a"), layers.ReLU(name="r"), layers.BatchNormalization(name="bn")]
    return keras.Sequential([keras.Input((7, 9, 3)), *steps])


def taken_elsewhere(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((7, 9, 3))
    x = layers.Conv2D(4, 3, name="a")(image)
    return keras.Model(image, layers.Add()([x, layers.BatchNormalization(name="bn")(x)]))


def given_out(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((7, 9, 3))
    x = layers.Conv2D(4, 3, name="a")(image)
    return keras.Model(image, [x, layers.BatchNormalization(name="bn")(x)])


def used_twice(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((7, 9, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="a")
    return keras.Model(image, layers.BatchNormalization(name="bn")(conv(conv(image))))


def norm_used_twice(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((7, 9, 3))
    norm = layers.BatchNormalization(name="bn")
    return keras.Model(image, norm(norm(layers.Conv2D(3, 3, name="a")(image))))


def first_of_all(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([keras.Input((7, 9, 3)), layers.BatchNormalization(name="bn"), layers.Conv2D(3, 3)])


def of_rows(keras: Any) -> Any:
    return after(keras, keras.layers.Conv2D(5, 3, name="a"), (7, 9, 3), axis=1)


LEFT = {
    "an activation inside": (activated, "a has an activation of its own in between"),
    "an activation between": (activation_between, "it follows r, which is ReLU"),
    "also taken elsewhere": (taken_elsewhere, "a is needed without it, too"),
    "also an output": (given_out, "a is needed without it, too"),
    "a layer used twice": (used_twice, "a is used more than once"),
    "a normalisation used twice": (norm_used_twice, "it is used more than once"),
    "nothing in front": (first_of_all, "it follows input_layer, which is InputLayer"),
    "another axis": (of_rows, "it does not normalise the channels of a"),
}


@pytest.mark.parametrize(("make", "reason"), LEFT.values(), ids=LEFT.keys())
def test_what_cannot_be_folded_is_refused_with_the_reason(make: Any, reason: str, keras: Any, saved: Save) -> None:
    with pytest.raises(bridge.BridgeError, match=rf"no batch normalisation can be folded \(bn: {reason}\)") as error:
        adapt.fold_batch_norm(bridge.read(saved(make(keras))))
    assert "\n" not in str(error.value)


def test_what_can_be_folded_is_and_the_rest_is_named(keras: Any, randomised: Any, saved: Save, images: Draw) -> None:
    layers = keras.layers
    steps = [
        layers.Conv2D(4, 3, name="a", use_bias=False),
        layers.BatchNormalization(name="bn_a"),
        layers.Conv2D(5, 3, name="b", activation="relu"),
        layers.BatchNormalization(name="bn_b"),
    ]
    model = randomised(keras.Sequential([keras.Input((7, 9, 3)), *steps]))
    source = bridge.read(saved(model))
    folded = adapt.fold_batch_norm(source)
    assert list(folded) == ["a/kernel", "a/bias", "b/kernel", "b/bias", *(f"bn_b/{role}" for role in ROLES)]
    assert folded.notes == (
        "Folded 1 batch normalisation into the layer in front: bn_a into a.",
        "a had no bias and now has one.",
        "Left 1 batch normalisation in place: bn_b (b has an activation of its own in between).",
    )
    assert [folded.stored[f"a/{role}"].how for role in ("kernel", "bias")] == ["bn_a folded in", "new: bn_a folded in"]
    assert (source.notes, "bn_a/gamma" in source, source.stored["a/kernel"].how) == ((), True, "")
    rest = described(saved(model, "again.h5"), model)
    shown = images(2, 7, 9, 3)
    same(given(rebuilt(keras, adapt.fold_batch_norm(rest)), shown), given(model, shown))


def older(numbers: Draw, conv: dict[str, Any], norm: dict[str, Any]) -> Source:
    """A convolution and its normalisation as Keras 1 and 2 describe them."""
    source = weights(numbers, ("a", 4), ("bn", 4))
    kind = "Convolution2D" if "dim_ordering" in conv else "Conv2D"
    layers = [
        {"class_name": "InputLayer", "name": "i", "config": {"name": "i"}, "inbound_nodes": []},
        {"class_name": kind, "name": "a", "config": {"name": "a", **conv}, "inbound_nodes": [[["i", 0, 0, {}]]]},
        {
            "class_name": "BatchNormalization",
            "name": "bn",
            "config": {"name": "bn", **norm},
            "inbound_nodes": [[["a", 0, 0, {"training": False}]]],
        },
    ]
    config = {"layers": layers, "output_layers": [["bn", 0, 0]]}
    return replace(source, architecture={"class_name": "Model", "config": config})


OLDER: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "Keras 2": ({"activation": "linear", "data_format": "channels_last"}, {"axis": -1}, True),
    "tf.keras": ({"activation": "linear", "data_format": "channels_last"}, {"axis": [3]}, True),
    "channels first": ({"data_format": "channels_first"}, {"axis": 1}, True),
    "channels first, axis last": ({"data_format": "channels_first"}, {"axis": -1}, False),
    "Keras 1": ({"dim_ordering": "tf", "bias": False}, {"axis": -1, "mode": 0}, True),
    "Keras 1, th": ({"dim_ordering": "th", "bias": False}, {"axis": 1, "mode": 0}, True),
    "Keras 1, th, axis last": ({"dim_ordering": "th"}, {"axis": -1, "mode": 0}, False),
    "Keras 1, statistics of the batch": ({"dim_ordering": "tf"}, {"axis": -1, "mode": 2}, False),
    "several axes": ({"data_format": "channels_last"}, {"axis": [1, 3]}, False),
}


@pytest.mark.parametrize(("conv", "norm", "folds"), OLDER.values(), ids=OLDER.keys())
def test_the_axis_of_older_architectures_decides(
    conv: dict[str, Any], norm: dict[str, Any], folds: bool, numbers: Draw
) -> None:
    source = older(numbers, conv, norm | {"epsilon": 0.3})
    if not folds:
        with pytest.raises(bridge.BridgeError, match="it does not normalise the channels of a"):
            adapt.fold_batch_norm(source)
        return
    folded = adapt.fold_batch_norm(source)
    gamma, _, _, variance = (source[f"bn/{role}"].astype(np.float64) for role in ROLES)
    assert np.array_equal(
        folded["a/kernel"], (source["a/kernel"] * (gamma / np.sqrt(variance + 0.3))).astype(np.float32)
    )
    assert folded.architecture is not None
    _, changed, gone = folded.architecture["config"]["layers"]
    assert changed["config"] == {"name": "a", **conv} | ({"bias": True} if "bias" in conv else {})
    assert gone == {
        "class_name": "Activation",
        "name": "bn",
        "config": {"name": "bn", "activation": "linear"},
        "inbound_nodes": [[["a", 0, 0, {}]]],
    }
