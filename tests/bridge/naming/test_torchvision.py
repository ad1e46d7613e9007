"""VGG16 under torchvision's names, both ways: features.N and classifier.N are computed from block and place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bridge
from torch_convae.models import VGG16Encoder, create

torchvision = pytest.importorskip("torchvision")
DEPTHS = (2, 2, 3, 3, 3)
WIDTHS = (4, 6, 8, 10, 12)


def keras_vgg(keras: Any, size: tuple[int, int], norm: bool = False, pooled: bool = True) -> Any:
    """VGG16 with a few channels; with `norm`, as torchvision's vgg16_bn: convolution, normalisation, ReLU."""
    layers = keras.layers
    x = inputs = layers.Input((*size, 3))
    for block, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=1):
        for conv in range(1, depth + 1):
            name = f"block{block}_conv{conv}"
            x = layers.Conv2D(width, 3, padding="same", activation=None if norm else "relu", name=name)(x)
            if norm:
                x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
                x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D()(x) if pooled or block < 5 else x
    return keras.Model(inputs, x)


def features(norm: bool = False) -> nn.Sequential:
    """torchvision's own builder, with a few channels."""
    widths: list[Any] = []
    for depth, width in zip(DEPTHS, WIDTHS, strict=True):
        widths += [width] * depth + ["M"]
    return torchvision.models.vgg.make_layers(widths, batch_norm=norm)


class Whole(nn.Module):
    """As torchvision.models.VGG, without its classifier."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.features = features(norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)


def randomise(module: nn.Module) -> None:
    numbers = torch.Generator().manual_seed(7)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.copy_(torch.rand(tensor.shape, generator=numbers) + 0.5)
        elif tensor.is_floating_point():
            inputs = max(1, tensor[0].numel())
            tensor.copy_(torch.randn(tensor.shape, generator=numbers) * (2 / inputs) ** 0.5)


@pytest.mark.parametrize("weights_only", [False, True], ids=["whole model", "weights only"])
@pytest.mark.parametrize("norm", [False, True], ids=["vgg16", "vgg16_bn"])
@pytest.mark.parametrize("build", [Whole, features], ids=["the network", "its features"])
def test_keras_weights_go_into_torchvisions_vgg16_without_any_mapping(
    build: Callable[[bool], nn.Module],
    norm: bool,
    weights_only: bool,
    keras: Any,
    randomised: Any,
    saved: Any,
    assert_same: Any,
    images: Any,
) -> None:
    model, module = randomised(keras_vgg(keras, (40, 36), norm)), build(norm)
    plan = bridge.load(module, saved(model, weights_only=weights_only), strict=True)
    assert len(plan.copied) == 13 * (6 if norm else 2)
    assert_same(model, module, images(2, 40, 36, 3))


@pytest.mark.parametrize("norm", [False, True], ids=["vgg16", "vgg16_bn"])
def test_converted_to_torchvision_a_file_is_a_state_dict_of_it(
    norm: bool, keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, bridge_cli: Any, tmp_path: Path
) -> None:
    model, module = randomised(keras_vgg(keras, (40, 36), norm)), Whole(norm)
    assert bridge_cli("convert", saved(model), tmp_path / "tv.pt", "--to", "torchvision").code == 0
    missing, unexpected = module.load_state_dict(torch.load(tmp_path / "tv.pt"), strict=False)
    assert unexpected == []
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert_same(model, module, images(2, 40, 36, 3))


@pytest.mark.parametrize("norm", [False, True], ids=["vgg16", "vgg16_bn"])
@pytest.mark.parametrize("scheme", ["keras", "torchvision"])
def test_torchvisions_weights_go_into_our_encoder(scheme: str, norm: bool, tmp_path: Path, images: Any) -> None:
    theirs = Whole(norm).eval()
    randomise(theirs)
    encoder = VGG16Encoder(batch_norm=norm, widths=WIDTHS).eval()
    torch.save(theirs.state_dict(), tmp_path / "tv.pth")
    bridge.convert(tmp_path / "tv.pth", tmp_path / "converted.safetensors", to=scheme)
    x = torch.from_numpy(images(2, 3, 40, 36))
    with torch.inference_mode():
        expected = theirs(x)
        for weights in (theirs.state_dict(), tmp_path / "tv.pth", tmp_path / "converted.safetensors"):
            randomise(encoder)
            plan = bridge.load(encoder, weights)
            assert plan.untouched == ()
            assert plan.skipped == ()
            torch.testing.assert_close(encoder.pool(encoder(x)[-1]), expected, rtol=1e-4, atol=1e-5)


def test_our_weights_go_into_torchvision_and_back_bit_for_bit(tmp_path: Path) -> None:
    ours, theirs, again = VGG16Encoder(widths=WIDTHS), Whole(), VGG16Encoder(widths=WIDTHS)
    randomise(ours)
    torch.save(ours.state_dict(), tmp_path / "ours.pt")
    bridge.convert(tmp_path / "ours.pt", tmp_path / "tv.pt", to="torchvision")
    theirs.load_state_dict(torch.load(tmp_path / "tv.pt"))
    bridge.convert(tmp_path / "tv.pt", tmp_path / "back.pt", to="keras")
    again.load_state_dict(torch.load(tmp_path / "back.pt"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in ours.state_dict().items())


def test_the_places_are_those_of_torchvisions_real_networks() -> None:
    for name, norm in (("vgg16", False), ("vgg16_bn", True)):
        with torch.device("meta"):
            real = getattr(torchvision.models, name)(weights=None)
            ours = create("vgg16", classes=1000, batch_norm=norm)
        source = bridge.Source(
            {
                key.replace(".", "/"): bridge.source.Stored(tuple(t.shape), "float32", lambda: None)
                for key, t in real.state_dict().items()
            },
            format="state dict",
            layout="torch",
        )
        plan = bridge.match(source, ours)
        assert plan.untouched == ()
        assert plan.skipped == ()
        assert {copy.source: copy.target for copy in plan.copied.values()}[
            "classifier/6/bias"
        ] == "head.predictions.bias"


@pytest.mark.parametrize("weights_only", [False, True], ids=["whole model", "weights only"])
def test_the_top_of_keras_vgg16_becomes_torchvisions_classifier(
    weights_only: bool, keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any, tmp_path: Path
) -> None:
    """fc1 takes flattened maps: its inputs change their order."""
    base = keras_vgg(keras, (64, 64))
    x = keras.layers.Flatten()(base.output)
    for name, width, activation in (("fc1", 20, "relu"), ("fc2", 16, "relu"), ("predictions", 5, None)):
        x = keras.layers.Dense(width, activation=activation, name=name)(x)
    model = randomised(keras.Model(base.input, x))
    bridge.convert(saved(model, weights_only=weights_only), tmp_path / "tv.safetensors", to="torchvision")
    with torch.device("meta"):
        module = torchvision.models.VGG(features(), num_classes=5, init_weights=False)
    module.avgpool = nn.Identity()
    module.classifier[0] = nn.Linear(12 * 2 * 2, 20)
    module.classifier[3], module.classifier[6] = nn.Linear(20, 16), nn.Linear(16, 5)
    module = module.to_empty(device="cpu")
    given = torch_state(tmp_path / "tv.safetensors")
    module.load_state_dict(given)  # every name and every shape, strictly
    assert_same(model, module, images(2, 64, 64, 3))
    randomise(module)
    bridge.load(module, tmp_path / "tv.safetensors", strict=True)
    assert all(torch.equal(tensor, given[name]) for name, tensor in module.state_dict().items())


def torch_state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_the_imagenet_vgg16_gives_in_torchvision_what_it_gives_in_keras(
    vgg16_file: Path, photograph: np.ndarray, keras: Any, bridge_cli: Any, tmp_path: Path
) -> None:
    there = tmp_path / "tv.safetensors"
    assert bridge_cli("convert", vgg16_file, there, "--to", "torchvision").code == 0
    with torch.device("meta"):
        module = torchvision.models.vgg16(weights=None).features
    module = module.to_empty(device="cpu").eval()
    state = {name.removeprefix("features."): tensor for name, tensor in torch_state(there).items()}
    module.load_state_dict(state)  # every name and every shape, strictly

    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=photograph.shape[1:])
    model.load_weights(vgg16_file)
    prepared = np.ascontiguousarray(keras.applications.vgg16.preprocess_input(photograph.copy()))
    expected = model(prepared).detach().numpy()
    with torch.inference_mode():
        given = module(torch.from_numpy(prepared).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    assert expected.max() > 10  # a natural image says something to it
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-3)

    ours = create("vgg16")
    bridge.load(ours, vgg16_file, strict=True)
    predicted = ours.predict(photograph.transpose(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-3)


def test_a_file_without_vgg_layers_has_no_torchvision_names(
    written: Any, numbers: Any, refused: Any, tmp_path: Path
) -> None:
    path = written({"conv": {"kernel": numbers(3, 3, 1, 2)}})
    line = refused("convert", path, tmp_path / "x.pt", "--to", "torchvision")
    assert "made.h5 holds no layer that torchvision has a name for: it has conv" in line


def test_layers_that_torchvision_has_no_name_for_are_left_out_by_name(
    keras: Any, saved: Any, bridge_cli: Any, tmp_path: Path
) -> None:
    model = keras_vgg(keras, (32, 32))
    x = keras.layers.Conv2D(2, 1, name="extra")(model.output)
    answer = bridge_cli("convert", saved(keras.Model(model.input, x)), tmp_path / "x.pt", "--to", "torchvision")
    assert answer.code == 0
    assert "skipped extra/kernel: torchvision has no name for it" in answer.out.splitlines()
    assert len(torch.load(tmp_path / "x.pt")) == 26


def test_the_scheme_of_a_module_can_be_said(
    keras: Any, randomised: Any, saved: Any, assert_same: Any, images: Any
) -> None:
    model, module = randomised(keras_vgg(keras, (32, 32))), Whole()
    path = saved(model)
    bridge.load(module, path, names="torchvision", strict=True)
    assert_same(model, module, images(1, 32, 32, 3))
    with pytest.raises(bridge.BridgeError, match=r"nothing for Whole.*the module has features\.0"):
        bridge.load(module, path, names="keras")
