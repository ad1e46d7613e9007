"""Weights for images of other channels: each change is what its name says, and Keras agrees."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapted_models import described, given, rebuilt, same
from torch import nn

import bridge
from bridge import adapt
from bridge.preprocessing import CAFFE, TF, TORCH
from bridge.source import Source, Stored

Draw = Callable[..., np.ndarray]
Save = Callable[..., Path]


def plain(keras: Any, channels: int = 3) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((7, 9, channels)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(4, (3, 2), activation="relu", name="a"),
            layers.Conv2D(5, 3, name="b"),
        ]
    )


def nested(keras: Any, channels: int = 3) -> Any:
    """An augmentation, a scaling and a whole model stand between the image and the first convolution."""
    layers = keras.layers
    image = keras.Input((7, 9, channels))
    inner_input = keras.Input((7, 9, channels))
    inner = keras.Model(inner_input, layers.Conv2D(4, 3, name="a")(inner_input), name="inner")
    x = keras.Sequential([keras.Input((7, 9, channels)), layers.RandomFlip()], name="augment")(image)
    x = layers.Rescaling(1 / 255, offset=-0.5)(x)
    return keras.Model(image, layers.Conv2D(5, 3, name="b")(inner(x)))


def residual(keras: Any, channels: int = 3) -> Any:
    """The image goes to two convolutions."""
    layers = keras.layers
    image = keras.Input((7, 9, channels))
    x = layers.Add()([layers.Conv2D(4, 3, padding="same", name="a")(image), layers.Conv2D(4, 1, name="b")(image)])
    return keras.Model(image, layers.Conv2D(5, 3, name="c")(x))


def channels_first(keras: Any, channels: int = 3) -> Any:
    # Keras itself moves the channels on the way, so that the kernel lies as ever.
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((channels, 7, 9)), layers.Conv2D(4, 3, data_format="channels_first", name="a")]
    )


MODELS = {"plain": plain, "nested": nested, "residual": residual}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("channels", [1, 6])
def test_keras_gives_the_same_for_equal_channels_whatever_their_number(
    make: Any, channels: int, keras: Any, randomised: Any, saved: Save, images: Draw
) -> None:
    model = randomised(make(keras))
    grey = images(2, 7, 9, 1)
    adapted = adapt.in_channels(described(saved(model), model), channels)
    other = rebuilt(keras, adapted)
    assert other.input_shape == (None, 7, 9, channels)
    same(given(other, grey.repeat(channels, -1)), given(model, grey.repeat(3, -1)))


def test_a_grey_kernel_becomes_one_for_colours(keras: Any, randomised: Any, saved: Save, images: Draw) -> None:
    model = randomised(plain(keras, channels=1))
    grey = images(2, 7, 9, 1)
    other = rebuilt(keras, adapt.in_channels(described(saved(model), model), 3))
    same(given(other, grey.repeat(3, -1)), given(model, grey))


def test_the_axis_of_the_channels_is_found_where_they_come_first(keras: Any, saved: Save) -> None:
    model = channels_first(keras)
    adapted = adapt.in_channels(described(saved(model), model), 1)
    assert adapted.shapes["a/kernel"] == (3, 3, 1, 4)
    assert keras.models.model_from_json(json.dumps(adapted.architecture)).input_shape == (None, 1, 7, 9)


def test_grey_images_are_exact_in_pytorch_too(
    keras: Any, randomised: Any, saved: Save, images: Draw, chain: Any
) -> None:
    model = randomised(keras.Sequential([keras.Input((7, 9, 3)), keras.layers.Conv2D(4, 3, name="a")]))
    module, grey = chain(("a", nn.Conv2d(1, 4, 3))), images(2, 7, 9, 1)
    bridge.load(module, adapt.in_channels(bridge.read(saved(model, weights_only=True)), 1), strict=True)
    with torch.inference_mode():
        out = module(torch.from_numpy(grey).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    same(out, given(model, grey.repeat(3, -1)))


def test_a_state_dict_is_adapted_in_its_own_axes(chain: Any) -> None:
    coloured, grey = (
        chain(("a", nn.Conv2d(3, 4, (3, 2))), ("b", nn.Conv2d(4, 5, 3))),
        chain(("a", nn.Conv2d(1, 4, (3, 2)))),
    )
    source = adapt.in_channels(bridge.apply.source_of(coloured.state_dict()), 1)
    bridge.load(grey, source, skip="b")
    assert torch.equal(grey.a.weight, coloured.a.weight.double().sum(1, keepdim=True).float())
    flipped = adapt.flip_input(bridge.apply.source_of(coloured.state_dict()))
    assert np.array_equal(flipped["a/weight"], coloured.a.weight.detach().numpy()[:, ::-1])
    assert np.array_equal(flipped["b/weight"], coloured.b.weight.detach().numpy())


def arrays(numbers: Draw, **layers: tuple[int, ...]) -> Source:
    """A source of kernels alone."""
    return bridge.apply.source_of({f"{name}/kernel": numbers(*shape) for name, shape in layers.items()})


@pytest.mark.parametrize(
    ("channels", "order", "factor", "how"),
    [
        (2, [0, 1], 3 / 2, "3 -> 2 channels: repeated, times 3/2"),
        (4, [0, 1, 2, 0], 3 / 4, "3 -> 4 channels: repeated, times 3/4"),
        (6, [0, 1, 2, 0, 1, 2], 1 / 2, "3 -> 6 channels: repeated, times 1/2"),
    ],
)
def test_the_kernel_is_repeated_in_turn_and_scaled(
    channels: int, order: list[int], factor: float, how: str, numbers: Draw
) -> None:
    source = arrays(numbers, a=(3, 2, 3, 4), b=(3, 3, 4, 5))
    adapted = adapt.in_channels(source, channels)
    expected = (source["a/kernel"].astype(np.float64)[:, :, order] * factor).astype(np.float32)
    assert np.array_equal(adapted["a/kernel"], expected)
    assert (adapted.stored["a/kernel"].how, adapted.shapes["a/kernel"]) == (how, (3, 2, channels, 4))
    assert "a, the first convolution in the file's order, takes" in adapted.notes[-1]
    assert ("nearly kept" in adapted.notes[-1]) == (channels != 6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sums_are_rounded_once_and_keep_their_type(dtype: Any, numbers: Draw) -> None:
    kernel = numbers(3, 3, 3, 8).astype(dtype)
    summed = adapt.in_channels(bridge.apply.source_of({"a/kernel": kernel}), 1)["a/kernel"]
    assert summed.dtype == dtype
    assert np.array_equal(summed, kernel.astype(np.float64).sum(2, keepdims=True).astype(dtype))


@pytest.mark.parametrize("shape", [(5, 3, 4), (3, 2, 2, 3, 4)], ids=["sound", "volume"])
def test_other_numbers_of_dimensions_are_adapted_alike(shape: tuple[int, ...], numbers: Draw) -> None:
    source = arrays(numbers, a=shape)
    assert adapt.in_channels(source, 1).shapes["a/kernel"] == (*shape[:-2], 1, 4)
    assert np.array_equal(adapt.flip_input(source)["a/kernel"], source["a/kernel"][..., ::-1, :])


def test_as_many_channels_as_there_are_change_nothing_and_the_notes_say_so(numbers: Draw) -> None:
    source = arrays(numbers, a=(3, 3, 3, 4))
    adapted = adapt.in_channels(source, 3)
    assert adapted.stored == source.stored
    assert "already has 3 input channels" in adapted.notes[-1]


def test_nothing_is_read_before_it_is_asked_for_and_the_source_stays_as_it_was() -> None:
    def never() -> np.ndarray:
        raise AssertionError("fetched")

    stored = {"a/kernel": Stored((3, 3, 3, 4), "float32", never), "a/bias": Stored((4,), "float32", never)}
    source = Source(stored, format="arrays")
    adapted = adapt.flip_input(adapt.in_channels(adapt.in_channels(source, 1), 3))
    assert source.shapes["a/kernel"] == (3, 3, 3, 4)
    assert (source.notes, source.stored["a/kernel"].how) == ((), "")
    assert adapted.stored["a/kernel"].how == (
        "3 -> 1 channels: summed, 1 -> 3 channels: repeated, times 1/3, input channels BGR <-> RGB"
    )


def test_images_in_the_other_order_give_the_same(keras: Any, randomised: Any, saved: Save, images: Draw) -> None:
    model, shown = randomised(nested(keras)), images(2, 7, 9, 3)
    other = rebuilt(keras, adapt.flip_input(described(saved(model), model)))
    same(given(other, shown[..., ::-1].copy()), given(model, shown))


def test_the_preprocessing_is_flipped_with_the_kernel_and_back(vgg16_file: Path) -> None:
    source = bridge.read(vgg16_file)
    flipped = adapt.flip_input(source)
    assert flipped.preprocessing is not None
    assert str(flipped.preprocessing) == "caffe: RGB, 0..255 minus (123.68, 116.779, 103.939)"
    assert flipped.stored["block1_conv1/kernel"].how == "input channels BGR -> RGB"
    assert np.array_equal(flipped["block1_conv1/kernel"], source["block1_conv1/kernel"][:, :, ::-1])
    back = adapt.flip_input(flipped)
    assert back.preprocessing == source.preprocessing == CAFFE
    assert back["block1_conv1/kernel"].tobytes() == source["block1_conv1/kernel"].tobytes()


def test_the_preprocessing_of_grey_images_is_exact_only_where_it_was_one_for_all_channels(numbers: Draw) -> None:
    source = arrays(numbers, a=(3, 3, 3, 4))
    grey = {mode.mode: adapt.in_channels(replace(source, preprocessing=mode), 1) for mode in (CAFFE, TF, TORCH)}
    assert str(grey["tf"].preprocessing) == "tf: grey, 0..255 / 127.5 minus 1"
    assert "close" not in grey["tf"].notes[-1]
    assert str(grey["torch"].preprocessing) == "torch: grey, 0..255 / 255 minus 0.449, divided by 0.226"
    assert str(grey["caffe"].preprocessing) == "caffe: grey, 0..255 minus 114.799"
    assert all("only close to what it was" in grey[mode].notes[-1] for mode in ("torch", "caffe"))


def test_the_preprocessing_of_other_channels_is_dropped_aloud(numbers: Draw) -> None:
    adapted = adapt.in_channels(replace(arrays(numbers, a=(3, 3, 3, 4)), preprocessing=CAFFE), 4)
    assert adapted.preprocessing is None
    assert "The preprocessing was caffe: BGR, 0..255 minus (103.939, 116.779, 123.68)" in adapted.notes[-1]


def depthwise(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([keras.Input((7, 9, 3)), layers.DepthwiseConv2D(3, name="a"), layers.Conv2D(4, 3)])


def separable(keras: Any) -> Any:
    return keras.Sequential([keras.Input((7, 9, 3)), keras.layers.SeparableConv2D(4, 3, name="a")])


def grouped(keras: Any) -> Any:
    return keras.Sequential([keras.Input((7, 9, 3)), keras.layers.Conv2D(6, 3, groups=3, name="a")])


def normalised(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([keras.Input((7, 9, 3)), layers.BatchNormalization(name="bn"), layers.Conv2D(4, 3)])


def scaled(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([keras.Input((7, 9, 3)), layers.Rescaling([1, 2, 3], name="by"), layers.Conv2D(4, 3)])


def skipping(keras: Any) -> Any:
    """A denoiser: the image is added to what the network gives."""
    image = keras.Input((7, 9, 3))
    noise = keras.layers.Conv2D(3, 3, padding="same", name="a")(image)
    return keras.Model(image, keras.layers.Subtract(name="less")([image, noise]))


def two_images(keras: Any) -> Any:
    one, other = keras.Input((7, 9, 3)), keras.Input((7, 9, 3))
    x = keras.layers.Conv2D(4, 3, name="a")(one)
    return keras.Model([one, other], keras.layers.Add()([x, keras.layers.Conv2D(4, 3, name="b")(other)]))


def flat(keras: Any) -> Any:
    return keras.Sequential([keras.Input((7, 9, 3)), keras.layers.Flatten(name="flat"), keras.layers.Dense(2)])


REFUSED = {
    "depthwise": (depthwise, r"the image goes to a \(DepthwiseConv2D\)"),
    "separable": (separable, r"the image goes to a \(SeparableConv2D\)"),
    "grouped": (grouped, "a has filters of its own for each input channel or group of channels"),
    "normalised": (normalised, r"the image goes to bn \(BatchNormalization\)"),
    "scaled channel by channel": (scaled, r"the image goes to by \(Rescaling\)"),
    "taken by something else too": (skipping, r"the image goes to less \(Subtract\)"),
    "two images": (two_images, "a, b are fed by different inputs"),
    "no convolution": (flat, r"the image goes to flat \(Flatten\)"),
}


@pytest.mark.parametrize("change", [lambda source: adapt.in_channels(source, 1), adapt.flip_input], ids=["1", "flip"])
@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_changed_exactly_is_refused(
    make: Any, message: str, change: Any, keras: Any, saved: Save
) -> None:
    source = bridge.read(saved(make(keras)))
    with pytest.raises(bridge.BridgeError, match=message) as error:
        change(source)
    assert "\n" not in str(error.value)


def test_a_named_layer_is_changed_whatever_else_takes_the_image(keras: Any, saved: Save) -> None:
    source = bridge.read(saved(skipping(keras)))
    assert adapt.in_channels(source, 1, layer="a").shapes["a/kernel"] == (3, 3, 1, 3)


ORDERED: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "a value for each channel": ({"n/mean": (3,), "a/kernel": (3, 3, 3, 4)}, "n/mean, in front of a, has a value"),
    "separable": (
        {"a/depthwise_kernel": (3, 3, 3, 1), "a/pointwise_kernel": (1, 1, 3, 4)},
        "a has filters of its own",
    ),
    "depthwise": ({"a/depthwise_kernel": (3, 3, 3, 1)}, "a has filters of its own"),
    "depthwise as Keras 3 calls it": ({"a/kernel": (3, 3, 3, 2), "a/bias": (6,)}, "a has filters of its own"),
    "dense only": ({"a/kernel": (3, 4)}, "holds no convolution's kernel"),
    "recurrent": ({"a/kernel": (3, 3, 4), "a/recurrent_kernel": (4, 4)}, "holds no convolution's kernel"),
    "whole numbers": ({"a/kernel": (3, 3, 3, 4)}, "holds int8, whole numbers"),
    "five channels": ({"a/kernel": (3, 3, 5, 4)}, "a has 5 input channels"),
}


@pytest.mark.parametrize(("shapes", "message"), ORDERED.values(), ids=ORDERED.keys())
def test_without_an_architecture_the_same_is_refused_by_names_and_shapes(
    shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    dtype = np.int8 if "int8" in message else np.float32
    source = bridge.apply.source_of({key: np.ones(shape, dtype) for key, shape in shapes.items()})
    with pytest.raises(bridge.BridgeError, match=message):
        adapt.in_channels(source, 6)


def test_wrong_options_are_refused_in_one_line(numbers: Draw) -> None:
    source = arrays(numbers, first=(3, 3, 3, 4), second=(3, 3, 4, 5))
    with pytest.raises(bridge.BridgeError, match="0 input channels are not between 1 and 4096"):
        adapt.in_channels(source, 0)
    with pytest.raises(bridge.BridgeError, match=r"layer 'fisrt' matches nothing. The nearest names are first"):
        adapt.in_channels(source, 1, layer="fisrt")
    with pytest.raises(bridge.BridgeError, match="second has 4 input channels; only 3 can be flipped"):
        adapt.flip_input(source, layer="second")


def test_a_sum_that_the_type_cannot_hold_is_refused_when_it_is_fetched() -> None:
    source = bridge.apply.source_of({"a/kernel": np.full((1, 1, 3, 1), 3e4, np.float16)})
    with pytest.raises(bridge.BridgeError, match="a/kernel does not fit into float16"):
        adapt.in_channels(source, 1)["a/kernel"]


def test_a_damaged_architecture_is_refused(numbers: Draw) -> None:
    record = {"class_name": "__keras_tensor__"}
    layers = [{"class_name": "Conv2D", "config": {"name": "a"}, "inbound_nodes": [{"args": [record]}]}]
    damaged = replace(
        arrays(numbers, a=(3, 3, 3, 4)), architecture={"class_name": "Functional", "config": {"layers": layers}}
    )
    with pytest.raises(bridge.BridgeError, match="its architecture is not one of Keras"):
        adapt.in_channels(damaged, 1)
