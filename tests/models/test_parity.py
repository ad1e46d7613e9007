"""The models compute what Keras models of the same layers compute, loaded from their .h5 without any mapping."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from originals import DEPTHS, conv_autoencoder, conv_classifier, count_on, unet, vgg_maps
from torch import nn

import bridge
from bridge.preprocessing import MODES as BRIDGE_MODES
from torch_convae.errors import ConvaeError
from torch_convae.models import VGG16Encoder, create
from torch_convae.models.preprocessing import MODES as MODES_HERE
from torch_convae.models.preprocessing import Preprocess


@pytest.mark.parametrize("weights_only", [False, True], ids=["whole model", "weights only"])
@pytest.mark.parametrize(
    ("blocks", "channels", "size"), [(5, 3, (32, 48)), (5, 3, (37, 45)), (5, 1, (33, 32)), (3, 4, (21, 10))]
)
def test_the_encoder_gives_the_map_of_every_block(
    blocks: int,
    channels: int,
    size: tuple[int, int],
    weights_only: bool,
    keras: Any,
    randomised: Any,
    saved: Any,
    images: Any,
) -> None:
    widths = (4, 6, 8, 10, 12)[:blocks]
    inputs = keras.layers.Input((*size, channels))
    maps = vgg_maps(keras.layers, inputs, widths)
    model = randomised(keras.Model(inputs, maps))
    encoder = VGG16Encoder(channels, blocks, widths=(4, 6, 8, 10, 12)).eval()
    plan = bridge.load(encoder, saved(model, weights_only=weights_only), strict=True)
    assert len(plan.copied) == 2 * sum(DEPTHS[:blocks])
    x = images(2, *size, channels)
    with torch.inference_mode():
        ours = encoder(torch.from_numpy(x).permute(0, 3, 1, 2))
    assert len(ours) == blocks
    for given, expected in zip(ours, model(x), strict=True):
        np.testing.assert_allclose(given.permute(0, 2, 3, 1).numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
        assert expected.max() > 0.1


def test_vgg16_without_a_top_is_that_of_keras(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any
) -> None:
    model = randomised(keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 48, 3)))
    module = create("vgg16")
    plan = bridge.load(module, saved(model), strict=True)
    assert plan.copied["block1_conv1/kernel"].target == "encoder.block1_conv1.weight"
    assert_same(model, module, images(1, 64, 48, 3))


def test_vgg16_with_a_top_is_that_of_keras(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any
) -> None:
    model = randomised(
        keras.applications.VGG16(weights=None, classes=5, input_shape=(64, 64, 3), classifier_activation=None)
    )
    path, module = saved(model), create("vgg16", classes=5, size=64)
    plan = bridge.load(module, path, strict=True)
    assert str(plan.copied["fc1/kernel"].transform).startswith("flattened (2, 2, 512)")
    assert_same(model, module, images(1, 64, 64, 3))
    path.unlink()


@pytest.mark.parametrize(("blocks", "size"), [(5, (32, 48)), (2, (10, 12))])
def test_the_unet_is_that_of_keras(
    blocks: int, size: tuple[int, int], keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any
) -> None:
    model = randomised(unet(keras, blocks, 6, size))
    module = create("vgg16_unet", classes=6, blocks=blocks)
    plan = bridge.load(module, saved(model), strict=True)
    assert plan.notes == ()
    assert_same(model, module, images(1, *size, 3))


def test_the_unet_takes_any_size_and_the_weights_of_a_bare_vgg16(
    keras: Any, randomised: Any, saved: Any, images: Any
) -> None:
    inputs = keras.layers.Input((32, 32, 3))
    path = saved(randomised(keras.Model(inputs, vgg_maps(keras.layers, inputs, (64, 128, 256))[-1])))
    module = create("vgg16_unet", classes=4, blocks=3).eval()
    before = {name: tensor.clone() for name, tensor in module.decoder.state_dict().items()}
    plan = bridge.load(module, path)
    assert plan.skipped == ()
    assert all(name.startswith("decoder.") for name in plan.untouched)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.decoder.state_dict().items())
    with torch.inference_mode():
        assert module(torch.from_numpy(images(2, 3, 29, 35))).shape == (2, 4, 29, 35)


@pytest.mark.parametrize(("conv", "bn", "weights_only"), [(0, 0, False), (1, 1, True), (16, 95, False)])
def test_the_autoencoder_is_that_of_keras_wherever_its_numbers_start(
    conv: int, bn: int, weights_only: bool, keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any
) -> None:
    count_on(keras, conv, bn)
    model = randomised(conv_autoencoder(keras))
    module = create("convae")
    bridge.load(module, saved(model, weights_only=weights_only), strict=True)
    assert_same(model, module, images(2, 28, 28, 1))


@pytest.mark.parametrize(
    ("conv", "bn", "dense", "size", "channels"),
    [(0, 0, 0, (28, 28), 1), (15, 14, 1, (28, 28), 1), (7, 99, 9, (13, 22), 3)],
)
def test_the_classifier_is_that_of_keras_wherever_its_numbers_start(
    conv: int,
    bn: int,
    dense: int,
    size: tuple[int, int],
    channels: int,
    keras: Any,
    randomised: Any,
    saved: Any,
    assert_same: Any,
    images: Any,
) -> None:
    count_on(keras, conv, bn, dense)
    model = randomised(conv_classifier(keras, 10, size, channels))
    module = create("convae-classifier", classes=10, size=size, in_channels=channels)
    plan = bridge.load(module, saved(model), strict=True)
    first = next(iter(plan.copied))
    assert first == (f"conv2d_{conv}/kernel" if conv else "conv2d/kernel")
    assert "inferred" not in str(plan)
    assert_same(model, module, images(2, *size, channels))


def test_the_classifier_takes_the_encoder_of_an_autoencoders_file(keras: Any, randomised: Any, saved: Any) -> None:
    count_on(keras, 1, 1)
    path = saved(randomised(conv_autoencoder(keras)))
    autoencoder, classifier = create("convae"), create("convae-classifier", classes=10)
    head = {name: tensor.clone() for name, tensor in classifier.head.state_dict().items()}
    bridge.load(autoencoder, path, strict=True)
    plan = bridge.load(classifier, path)
    assert len(plan.copied) == 8 * 6
    assert {key.split("/")[0] for key in plan.copied} == {f"conv2d_{i}" for i in range(1, 9)} | {
        f"batch_normalization_{i}" for i in range(1, 9)
    }
    assert {key.split("/")[0] for key in plan.skipped} == {f"conv2d_{i}" for i in range(9, 16)} | {
        f"batch_normalization_{i}" for i in range(9, 15)
    }
    assert plan.untouched == ("head.dense.weight", "head.dense.bias", "head.dense_1.weight", "head.dense_1.bias")
    assert all(torch.equal(head[name], tensor) for name, tensor in classifier.head.state_dict().items())
    for name, tensor in autoencoder.encoder.state_dict().items():
        assert torch.equal(tensor, classifier.encoder.state_dict()[name]), name


def test_predict_prepares_images_as_keras_does(keras: Any, randomised: Any, saved: Any, photograph: np.ndarray) -> None:
    """RGB of 0..255 go in, on both sides; the small network stands for any with VGG16's preprocessing."""
    inputs = keras.layers.Input((*photograph.shape[1:3], 3))
    model = randomised(keras.Model(inputs, vgg_maps(keras.layers, inputs, (64,))[0]))
    expected = model(keras.applications.vgg16.preprocess_input(photograph.copy())).detach().numpy()
    module = create("vgg16_unet", classes=2, blocks=2)
    bridge.load(module, saved(model))
    with torch.inference_mode():
        ours = module.eval().encoder(module.preprocessing(torch.from_numpy(photograph).permute(0, 3, 1, 2)))[0]
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_predict_gives_the_probabilities_that_keras_gives(dtype: Any, keras: Any, randomised: Any, saved: Any) -> None:
    model = randomised(conv_classifier(keras, 10, activation="softmax"))
    module = create("convae-classifier", classes=10)
    bridge.load(module, saved(model), strict=True)
    images = np.random.default_rng(5).integers(0, 256, (3, 28, 28, 1)).astype(dtype)
    expected = model(images.astype(np.float32) / 255).detach().numpy()
    given = module.predict(images.transpose(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(given.sum(1), 1, rtol=1e-5)


def test_predict_leaves_every_mode_as_it_was_even_after_an_error() -> None:
    module = create("convae-classifier", classes=3).train()
    module.encoder.batch_normalization.eval()
    modes = {name: part.training for name, part in module.named_modules()}
    statistics = module.encoder.batch_normalization_1.running_mean.clone()
    first = module.predict(torch.full((2, 1, 28, 28), 9.0))
    assert torch.equal(first, module.predict(torch.full((2, 1, 28, 28), 9.0)))
    with pytest.raises(ConvaeError, match=r"become maps of 3 x 3 in front of a Dense layer for 7 x 7\. Resize"):
        module.predict(torch.zeros(2, 1, 12, 12))
    assert {name: part.training for name, part in module.named_modules()} == modes
    assert torch.equal(statistics, module.encoder.batch_normalization_1.running_mean)


def test_predict_refuses_what_is_no_batch_of_images() -> None:
    with pytest.raises(ConvaeError, match=r"ConvAutoencoder takes images \(N, 1, H, W\), not \(28, 28\)"):
        create("convae").predict(np.zeros((28, 28)))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "an unknown model": (lambda: create("resnet"), "no model 'resnet'; there are convae, convae-classifier, vgg16"),
    "an unknown option": (lambda: create("convae", clases=3), "convae takes no option 'clases'; it takes in_channels"),
    "a missing option": (
        lambda: create("convae-classifier"),
        "needs classes: create('convae-classifier', classes=...)",
    ),
    "too few blocks": (lambda: create("vgg16_unet", classes=2, blocks=1), "2 to 5 encoder blocks, not 1"),
    "too many blocks": (lambda: create("vgg16_unet", classes=2, blocks=6), "2 to 5 encoder blocks, not 6"),
    "too small a size": (lambda: create("vgg16", classes=2, size=31), "at least 32 pixels a side, not 31 x 31"),
    "too small a side": (
        lambda: create("convae-classifier", classes=2, size=(28, 3)),
        "at least 4 pixels a side, not 28 x 3",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_create_refuses_in_one_line(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConvaeError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", sorted(BRIDGE_MODES.keys() & MODES_HERE.keys()))
def test_models_and_bridge_prepare_images_alike(mode: str) -> None:
    theirs = BRIDGE_MODES[mode]
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 255
    ordered = images.flip(1) if theirs.order == "BGR" else images
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (theirs.mean, theirs.std))
    torch.testing.assert_close(Preprocess(mode)(images), (ordered / theirs.divisor - mean) / std)


@pytest.mark.parametrize("mode", ["caffe", "torch", "tf"])
def test_images_are_prepared_as_keras_prepares_them(mode: str, keras: Any) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, 4, 5, 3)).astype(np.float32)
    expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), "channels_last", mode)
    given = Preprocess(mode)(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(given.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_every_mode_of_the_bridge_is_one_of_the_models() -> None:
    assert BRIDGE_MODES.keys() <= MODES_HERE.keys()


def test_preprocessing_is_no_weight() -> None:
    assert all(name.startswith("encoder.") for name in create("vgg16").state_dict())


def test_scaled_maps_are_those_that_a_rescaled_kernel_sees() -> None:
    """Dividing a map is the same as dividing the part of the kernel that takes it: Keras can hold such a network."""
    torch.manual_seed(0)
    plain = create("vgg16_unet", classes=3, blocks=2).eval()
    scaled = create("vgg16_unet", classes=3, blocks=2, scales=(4.0, 0.5)).eval()
    scaled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        kernel = plain.decoder.conv_3_1.weight  # takes the upsampled second map, then the first
        kernel[:, :128] /= 0.5
        kernel[:, 128:] /= 4.0
        x = torch.randn(1, 3, 10, 12)
        torch.testing.assert_close(scaled(x), plain(x), rtol=1e-4, atol=1e-5)


def test_a_network_with_scales_computes_the_same_folded_and_is_not_taken_for_keras_s(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = create("vgg16_unet", classes=3, blocks=3, scales=(20.0, 300.0, 0.5)).eval(), torch.randn(1, 3, 20, 24)
    folded = model.folded()
    bridge.save(folded, tmp_path / "folded.h5")
    with pytest.raises(bridge.BridgeError, match=r"VGG16UNet is more than its weights: it divides .* Take its folded"):
        bridge.save(model, tmp_path / "scaled.h5")
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
        other = create("vgg16_unet", classes=3, blocks=3).eval()
        bridge.load(other, tmp_path / "folded.h5", strict=True)
        torch.testing.assert_close(other(x), model(x), rtol=1e-4, atol=1e-5)
        scales, before = (3.0, 7.0, 2.0), model(x)
        model.rescale(scales)
        assert model.scales == scales
        torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)
    bridge.load(model, tmp_path / "folded.h5")
    report = bridge.verify(model, tmp_path / "folded.h5")
    assert (report.ok, report.first.name if report.first else "") == (False, "the whole")
    assert bridge.verify(other, tmp_path / "folded.h5").ok


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.0), (1.0, -2.0)])
def test_scales_that_are_not_one_positive_number_a_map_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(ConvaeError, match="a positive number for each of 2 maps"):
        create("vgg16_unet", classes=3, blocks=2, scales=scales)
