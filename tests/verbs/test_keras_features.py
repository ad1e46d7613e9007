"""Every layer's features are what Keras's Model(inputs, layer.output) gives with the same weights."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision

import bridge
import torch_convae


def every_layer(keras: Any, model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """What Keras gives at each of its layers."""
    found = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    outputs = keras.Model(model.input, [layer.output for layer in found])(images, training=False)
    return {layer.name: output.detach().numpy() for layer, output in zip(found, outputs, strict=True)}


def assert_every_layer(module: torch.nn.Module, expected: dict[str, np.ndarray], images: np.ndarray) -> None:
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    given = torch_convae.features(module, x, list(expected), order="hwc")
    for name, value in expected.items():
        assert np.abs(value).max() > 1e-3, f"{name} is all but zero: the comparison would prove nothing"
        np.testing.assert_allclose(given[name].numpy(), value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_vgg16_without_a_top(keras: Any, randomised: Any, saved: Any, images: Any) -> None:
    model = randomised(keras.applications.VGG16(weights=None, include_top=False, input_shape=(48, 32, 3)))
    module = torch_convae.create("vgg16")
    bridge.load(module, saved(model), strict=True)
    expected = every_layer(keras, model, images(1, 48, 32, 3))
    assert len(expected) == 18
    assert_every_layer(module, expected, images(1, 48, 32, 3))


def conv_autoencoder(keras: Any, classes: int | None) -> Any:
    """DataCamp's network in a fresh session, its decoder or the head of the classifier behind the encoder."""
    layers = keras.layers

    def units(x: Any, *widths: int) -> Any:
        for width in widths:
            x = layers.BatchNormalization()(layers.Conv2D(width, 3, activation="relu", padding="same")(x))
        return x

    inputs = layers.Input((12, 16, 1))
    x = layers.MaxPooling2D()(units(inputs, 32, 32))
    x = units(layers.MaxPooling2D()(units(x, 64, 64)), 128, 128, 256, 256)
    if classes:
        x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
        return keras.Model(inputs, layers.Dense(classes)(x))
    x = layers.UpSampling2D()(units(x, 128, 128, 64, 64))
    x = layers.UpSampling2D()(units(x, 32, 32))
    return keras.Model(inputs, layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x))


@pytest.mark.parametrize("classes", [None, 3], ids=["decoder", "classifier"])
def test_the_autoencoder_and_its_classifier(
    classes: int | None, keras: Any, randomised: Any, saved: Any, images: Any
) -> None:
    model = randomised(conv_autoencoder(keras, classes))
    options = {"classes": classes, "size": (12, 16)} if classes else {}
    module = torch_convae.create("convae-classifier" if classes else "convae", **options)
    bridge.load(module, saved(model), strict=True)
    expected = every_layer(keras, model, images(2, 12, 16, 1))
    assert {"max_pooling2d_1", "batch_normalization_7", "flatten" if classes else "up_sampling2d_1"} <= set(expected)
    assert_every_layer(module, expected, images(2, 12, 16, 1))


def test_azaveas_unet_whose_second_relu_is_a_layer_of_its_own(
    keras: Any, randomised: Any, saved: Any, images: Any
) -> None:
    layers = keras.layers

    def block(number: int, x: Any, width: int) -> Any:
        for stage in (1, 2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv_{number}_{stage}")(x)
            x = layers.Activation("relu")(layers.BatchNormalization(name=f"batch_norm_{number}_{stage}")(x))
        return x

    inputs = layers.Input((8, 12, 3))
    fine = block(1, inputs, 32)
    coarse = block(2, layers.MaxPooling2D()(fine), 64)
    x = block(3, layers.Concatenate()([layers.UpSampling2D()(coarse), fine]), 32)
    model = randomised(keras.Model(inputs, layers.Conv2D(2, 1, name="conv_4_1")(x)))
    module = torch_convae.create("azavea_unet", classes=2, blocks=2)
    bridge.load(module, saved(model), strict=True)
    expected = every_layer(keras, model, images(1, 8, 12, 3))
    assert {"activation_5", "concatenate", "up_sampling2d", "conv_4_1"} <= set(expected)
    assert_every_layer(module, expected, images(1, 8, 12, 3))


@pytest.mark.slow
def test_densenet_121_in_torchvisions_module(keras: Any, randomised: Any, saved: Any, images: Any) -> None:
    model = randomised(keras.applications.DenseNet121(weights=None, include_top=False, input_shape=(64, 64, 3)))
    module = torchvision.models.densenet121()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = 1.001e-5
    bridge.load(module, saved(model, weights_only=True))
    expected = every_layer(keras, model, images(1, 64, 64, 3))
    padding = {"zero_padding2d", "zero_padding2d_1"}  # PyTorch's layers pad by themselves
    assert len(expected.keys() - padding) == 424
    assert expected["bn"].shape == expected["relu"].shape == (1, 2, 2, 1024)
    assert_every_layer(module, {name: expected[name] for name in expected.keys() - padding}, images(1, 64, 64, 3))
