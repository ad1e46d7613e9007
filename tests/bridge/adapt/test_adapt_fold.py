"""Batch normalisations folded away: Keras and PyTorch give the same without; what cannot be folded is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from bridge import adapt
from bridge.source import Source

Draw = Callable[..., np.ndarray]
Save = Callable[..., Path]
ROLES = ("gamma", "beta", "moving_mean", "moving_variance")


def rebuilt(keras: Any, source: Source) -> Any:
    """The Keras model of the source's architecture, with the source's arrays; every one of them has its place."""
    model = keras.models.model_from_json(json.dumps(source.architecture))
    for key in source:
        *path, role = key.split("/")
        layer = model
        for name in path:
            layer = layer.get_layer(name)
        next(weight for weight in layer.weights if weight.name == role).assign(source[key])
    assert len(model.weights) == len(source)
    return model


def given(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False).detach().numpy())


def same(one: np.ndarray, other: np.ndarray) -> None:
    assert np.abs(other).max() > 1e-3
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def described(path: Path, model: Any) -> Source:
    """The file with the architecture as a .keras file words it, which is what Keras builds from."""
    return replace(bridge.read(path), architecture=json.loads(model.to_json()))


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


def weights(numbers: Draw, *layers: tuple[str, int], given: int = 3) -> Source:
    """A weights-only source: convolutions (name, outputs), and normalisations, whose names hold bn, norm or "/n"."""
    arrays: dict[str, np.ndarray] = {}
    for name, width in layers:
        if any(word in name for word in ("bn", "norm")):
            arrays |= {f"{name}/{role}": np.abs(numbers(width)) + 0.5 for role in ROLES}
            arrays[f"{name}/moving_mean"] *= -1
        else:
            arrays |= {f"{name}/kernel": numbers(3, 3, given, width)}
            given = width
    return bridge.apply.source_of(arrays)


def pairs(source: Source, **more: Any) -> dict[str, str]:
    """Which layer each normalisation was folded into."""
    folded = adapt.fold_batch_norm(source, **more)
    return {
        stored.how.removesuffix(" folded in"): key.rpartition("/")[0]
        for key, stored in folded.stored.items()
        if stored.how and key.endswith(("/kernel", "/weight"))
    }


NAMED = {
    "X_bn": ([("a", 4), ("a_bn", 4)], {"a_bn": "a"}),
    "bn_X": ([("Conv1", 4), ("bn_Conv1", 4)], {"bn_Conv1": "Conv1"}),
    "X/bn": ([("a", 4), ("a/bn", 4)], {"a/bn": "a"}),
    "conv for bn": ([("b/conv", 4), ("b/bn", 4)], {"b/bn": "b/conv"}),
    "numbers": ([("conv1", 4), ("conv2", 4), ("bn1", 4), ("bn2", 4)], {"bn1": "conv1", "bn2": "conv2"}),
    "a residual block of keras.applications": (
        [("b1_0_conv", 4), ("b1_3_conv", 4), ("b1_0_bn", 4), ("b1_3_bn", 4)],
        {"b1_0_bn": "b1_0_conv", "b1_3_bn": "b1_3_conv"},
    ),
    "the first ResNet50": ([("res2a_branch2a", 4), ("bn2a_branch2a", 4)], {"bn2a_branch2a": "res2a_branch2a"}),
    "automatic": (
        [("conv2d", 4), ("batch_normalization", 4), ("conv2d_1", 4), ("batch_normalization_1", 4)],
        {"batch_normalization": "conv2d", "batch_normalization_1": "conv2d_1"},
    ),
    "a pre-activation network": ([("conv1", 4), ("bn1", 4), ("pre_bn", 4), ("conv2", 4)], {"bn1": "conv1"}),
    "a normalisation before its convolution": (
        [("conv0", 4), ("norm0", 4), ("b1/norm1", 4), ("b1/conv1", 4), ("b1/norm2", 4), ("b1/conv2", 4)],
        {"norm0": "conv0"},
    ),
    "another width": ([("conv1", 4), ("bn1", 4), ("conv2", 5), ("bn2", 9)], {"bn1": "conv1"}),
}


@pytest.mark.parametrize(("layers", "expected"), NAMED.values(), ids=NAMED.keys())
def test_without_an_architecture_names_tell_what_follows_what(
    layers: list[tuple[str, int]], expected: dict[str, str], numbers: Draw
) -> None:
    source = weights(numbers, *layers)
    assert pairs(source) == expected
    assert any("told by names and order alone" in note for note in adapt.fold_batch_norm(source).notes)


def test_names_that_tell_nothing_are_left_unless_they_are_paired_by_hand(numbers: Draw) -> None:
    source = weights(numbers, ("first", 4), ("normed", 4))
    with pytest.raises(bridge.BridgeError, match="neither its name nor the order of the layers says what it follows"):
        adapt.fold_batch_norm(source)
    assert pairs(source, pairs={"normed": "first"}) == {"normed": "first"}
    with pytest.raises(bridge.BridgeError, match=r"'first' is not a batch normalisation of as many channels"):
        adapt.fold_batch_norm(source, pairs={"first": "normed"})


def test_statistics_like_those_behind_a_relu_are_left_without_an_architecture(
    keras: Any, saved: Save, images: Draw
) -> None:
    """The activation inside a convolution is not in a weights-only file, but its traces are."""
    layers = keras.layers
    conv = layers.Conv2D(6, 3, activation="relu", name="a")
    model = keras.Sequential([keras.Input((7, 9, 3)), conv, layers.BatchNormalization(momentum=0.0, name="a_bn")])
    model(images(4, 7, 9, 3), training=True)
    source = bridge.read(saved(model, weights_only=True))
    with pytest.raises(bridge.BridgeError, match="a_bn: no moving mean is below 0, as behind a ReLU"):
        adapt.fold_batch_norm(source)
    assert pairs(source, pairs={"a_bn": "a"}) == {"a_bn": "a"}


def test_two_layers_in_front_are_refused_and_not_chosen_from(numbers: Draw) -> None:
    source = weights(numbers, ("conv2d", 4), ("conv2d_1", 4), ("batch_normalization", 4), ("batch_normalization_1", 4))
    message = "batch_normalization may follow conv2d_1 or conv2d, and nothing tells which"
    with pytest.raises(bridge.BridgeError, match=message):
        adapt.fold_batch_norm(source)
    by_hand = {"batch_normalization": "conv2d", "batch_normalization_1": "conv2d_1"}
    assert pairs(source, pairs=by_hand) == by_hand
    with pytest.raises(bridge.BridgeError, match="both seem to follow conv1"):
        adapt.fold_batch_norm(weights(numbers, ("conv1", 4), ("conv1_bn", 4), ("bn1", 4)))


def test_a_weights_only_file_gives_what_keras_gave(
    keras: Any, randomised: Any, saved: Save, images: Draw, assert_same: Any, chain: Any
) -> None:
    layers = keras.layers
    steps = [
        layers.Conv2D(8, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2DTranspose(9, 2),
        layers.BatchNormalization(),
    ]
    model = randomised(keras.Sequential([keras.Input((7, 9, 3)), *steps]))
    module = chain(("conv2d", nn.Conv2d(3, 8, 3)), ("", nn.ReLU()), ("conv2d_transpose", nn.ConvTranspose2d(8, 9, 2)))
    folded = adapt.fold_batch_norm(bridge.read(saved(model, weights_only=True)))
    bridge.load(module, folded, strict=True)
    assert_same(model, module, images(2, 7, 9, 3))
    assert any("epsilon; 0.001 was taken, the default" in note for note in folded.notes)


def drawn(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    for norm in (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.neg_()
    return module.eval()


TORCH_LAYERS: dict[str, tuple[nn.Module, nn.Module, tuple[int, ...]]] = {
    "Conv1d": (nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5), (3, 9)),
    "Conv2d": (nn.Conv2d(3, 5, (3, 2), bias=False), nn.BatchNorm2d(5), (3, 7, 9)),
    "Conv2d, square": (nn.Conv2d(5, 5, 3), nn.BatchNorm2d(5), (5, 7, 9)),
    "Conv2d, depthwise": (nn.Conv2d(5, 5, 3, groups=5, bias=False), nn.BatchNorm2d(5), (5, 7, 9)),
    "Conv3d": (nn.Conv3d(3, 5, 2), nn.BatchNorm3d(5), (3, 4, 5, 6)),
    "ConvTranspose2d": (nn.ConvTranspose2d(3, 5, 2), nn.BatchNorm2d(5), (3, 7, 9)),
    "Linear": (nn.Linear(3, 5, bias=False), nn.BatchNorm1d(5), (3,)),
    "without scale and shift": (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, affine=False), (3, 7, 9)),
}


@pytest.mark.parametrize(("layer", "norm", "shape"), TORCH_LAYERS.values(), ids=TORCH_LAYERS.keys())
def test_a_state_dict_is_folded_in_its_own_axes(layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]) -> None:
    model = drawn(nn.Sequential(layer, norm))
    folded = adapt.fold_batch_norm(bridge.apply.source_of(model.state_dict()))
    assert list(folded) == ["0/weight", "0/bias"]
    shown = torch.rand(2, *shape)
    options = {
        name: getattr(layer, name)
        for name in ("in_channels", "out_channels", "kernel_size", "groups")
        if hasattr(layer, name)
    }
    plain = type(layer)(**options) if options else nn.Linear(3, 5)
    plain.load_state_dict({name: torch.from_numpy(folded[f"0/{name}"]) for name in ("weight", "bias")})
    with torch.inference_mode():
        torch.testing.assert_close(plain(shown), model(shown), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("a", 2), ("up1", 3)])
def test_a_square_kernel_that_may_be_transposed_is_refused_unless_its_class_is_given(name: str, size: int) -> None:
    model = nn.ModuleDict({name: nn.ConvTranspose2d(4, 4, size), f"{name}_bn": nn.BatchNorm2d(4)})
    source = bridge.apply.source_of(drawn(model).state_dict())
    with pytest.raises(bridge.BridgeError, match="of a convolution or of a transposed one, and nothing tells which"):
        adapt.fold_batch_norm(source)
    folded = adapt.fold_batch_norm(replace(source, kinds={name: "Conv2DTranspose"}))
    norm = model[f"{name}_bn"]
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = (model[name].weight * factor.view(1, -1, 1, 1)).detach().numpy()
    np.testing.assert_allclose(folded[f"{name}/weight"], expected, rtol=1e-6)


def test_a_folded_vgg_of_torchvision_goes_into_the_one_without_normalisations() -> None:
    vgg = pytest.importorskip("torchvision.models.vgg")
    widths = [4, 5, "M", 6, 7, "M", 8]
    normalised, plain = (
        nn.ModuleDict({"features": vgg.make_layers(widths, batch_norm=batch_norm)}).eval()
        for batch_norm in (True, False)
    )
    folded = adapt.fold_batch_norm(bridge.apply.source_of(drawn(normalised).state_dict()))
    bridge.load(plain, folded, strict=True)
    shown = torch.rand(2, 3, 9, 11)
    with torch.inference_mode():
        expected = normalised["features"](shown)
        torch.testing.assert_close(plain["features"](shown), expected, rtol=1e-4, atol=1e-5)
    assert "The layers have their Keras names now" in folded.notes[-1]


@pytest.mark.parametrize(
    ("version", "epsilon"),
    [
        ("1", 1e-3),
        ("1.0.6", 1e-6),
        ("1.0.8", 1e-5),
        ("1.1.2", 1e-5),
        ("1.2.0", 1e-3),
        ("2.15.0-tf", 1e-3),
        (None, 1e-3),
    ],
)
def test_the_epsilon_that_a_file_does_not_say_is_the_default_of_its_time(
    version: str | None, epsilon: float, numbers: Draw
) -> None:
    source = replace(weights(numbers, ("a", 4), ("a_bn", 4)), keras_version=version)
    for folded, used in ((adapt.fold_batch_norm(source), epsilon), (adapt.fold_batch_norm(source, epsilon=0.2), 0.2)):
        gamma, beta, mean, variance = (source[f"a_bn/{role}"].astype(np.float64) for role in ROLES)
        factor = gamma / np.sqrt(variance + used)
        assert np.array_equal(folded["a/kernel"], (source["a/kernel"] * factor).astype(np.float32))
        assert np.array_equal(folded["a/bias"], ((0 - mean) * factor + beta).astype(np.float32))


def test_the_oldest_keras_divided_by_the_deviation_plus_epsilon(numbers: Draw) -> None:
    source = replace(weights(numbers, ("a", 4), ("a_bn", 4)), keras_version="1.0.5")
    gamma, _, _, variance = (source[f"a_bn/{role}"].astype(np.float64) for role in ROLES)
    folded = adapt.fold_batch_norm(source, epsilon=0.2)
    assert np.array_equal(folded["a/kernel"], (source["a/kernel"] * (gamma / (variance**0.5 + 0.2))).astype(np.float32))


def test_a_negative_variance_is_refused_when_fetched_and_the_module_stays_as_it_was(
    numbers: Draw, chain: Any, unchanged: Any
) -> None:
    arrays = dict(weights(numbers, ("a", 4), ("a_bn", 4))) | {"a_bn/moving_variance": np.float32([1, 1, -1, 1])}
    module = chain(("a", nn.Conv2d(3, 4, 3)))
    untouched = unchanged(module)
    with pytest.raises(bridge.BridgeError, match="a_bn has a variance that is not positive"):
        bridge.load(module, adapt.fold_batch_norm(bridge.apply.source_of(arrays)))
    assert untouched()


def test_half_precision_stays_half_precision(numbers: Draw) -> None:
    arrays = {key: array.astype(np.float16) for key, array in weights(numbers, ("a", 4), ("a_bn", 4)).items()}
    folded = adapt.fold_batch_norm(bridge.apply.source_of(arrays))
    assert {folded[key].dtype for key in folded} == {np.dtype(np.float16)}
    state = {"0.weight": torch.rand(4, 3, 3, 3), "1.running_mean": -torch.rand(4), "1.running_var": torch.rand(4)}
    narrow = adapt.fold_batch_norm(bridge.apply.source_of({key: value.bfloat16() for key, value in state.items()}))
    assert [(stored.dtype, narrow[key].dtype) for key, stored in narrow.stored.items()] == [
        ("bfloat16", np.float32)
    ] * 2


def test_wrong_options_and_shapes_are_refused_in_one_line(numbers: Draw) -> None:
    source = weights(numbers, ("a", 4), ("a_bn", 4))
    with pytest.raises(bridge.BridgeError, match="epsilon -1 is not between 0 and 1"):
        adapt.fold_batch_norm(source, epsilon=-1)
    with pytest.raises(bridge.BridgeError, match="there is none"):
        adapt.fold_batch_norm(weights(numbers, ("a", 4)))
    damaged = dict(source) | {"a_bn/gamma": np.ones(3, np.float32)}
    with pytest.raises(bridge.BridgeError, match=r"a_bn/gamma is \(3,\), not \(4,\)"):
        adapt.fold_batch_norm(bridge.apply.source_of(damaged))


def test_thousands_of_layers_are_paired_in_linear_time(numbers: Draw) -> None:
    kernel, vectors = numbers(1, 1, 2, 2), dict(zip(ROLES, np.float32([[1, 1], [1, 1], [-1, 1], [1, 1]]), strict=True))
    arrays = {}
    for index in range(3000):
        arrays |= {f"conv2d_{index}/kernel": kernel}
        arrays |= {f"batch_normalization_{index}/{role}": vector for role, vector in vectors.items()}
    assert len(adapt.fold_batch_norm(bridge.apply.source_of(arrays))) == 6000
