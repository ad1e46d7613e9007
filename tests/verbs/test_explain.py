"""Grad-CAM, input gradients and occlusion: the numbers, the model afterwards, and the command."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torch_convae import ConvaeError, create
from torch_convae.explain import default_layer, gradcam, gradients, occlusion
from torch_convae.layers import layers

from .conftest import SMALL, small


def by_hand(model: Any, x: torch.Tensor, target: int) -> torch.Tensor:
    """Grad-CAM at the last map of VGG16's encoder, from its definition."""
    maps = model.encoder(x)[-1].detach().requires_grad_()
    logits = model.head(model.encoder.pool(maps))
    logits[:, target].sum().backward()
    weights = maps.grad.sum((2, 3)) / (maps.shape[2] * maps.shape[3])
    cam = torch.einsum("nk,nkhw->nhw", weights, maps.detach()).clamp(min=0)
    cam = cam / cam.flatten(1).max(1).values[:, None, None].clamp(min=1e-30)
    return nn.functional.interpolate(cam[:, None], x.shape[-2:], mode="bilinear")[:, 0]


def test_gradcam_is_that_of_its_definition() -> None:
    model, x = small("vgg16"), torch.randn(3, 3, 64, 64)
    model = create("vgg16", classes=3, size=64).eval()
    given = gradcam(model, x, "block5_conv3", target=1)
    expected = by_hand(model, x, 1)
    scale = expected.amax((-2, -1), keepdim=True).clamp(min=1e-30)  # each is normalised at its own size
    torch.testing.assert_close(given, expected / scale, rtol=1e-4, atol=1e-5)
    assert float(given.max()) == 1


def test_gradcam_is_that_of_captum() -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = small("convae-classifier"), torch.randn(2, 1, 32, 32)
    theirs, brightest = attr.LayerGradCam(model, model.encoder.batch_normalization_7), 0.0
    for target in range(3):
        cam = theirs.attribute(x, target, relu_attributions=True).detach()
        expected = nn.functional.interpolate(cam, (32, 32), mode="bilinear")[:, 0]
        expected = expected / expected.amax((-2, -1), keepdim=True).clamp(min=1e-30)
        given = gradcam(model, x, "batch_normalization_7", target)
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
        brightest = max(brightest, float(given.max()))
    assert brightest == 1


def test_occlusion_is_that_of_captum() -> None:
    attr = pytest.importorskip("captum.attr")
    model = small("convae-classifier")
    x = torch.randn(1, 1, 32, 32)
    x -= x.mean()
    lost = attr.Occlusion(model).attribute(x, (1, 8, 8), strides=(1, 4, 4), target=1, baselines=0)
    torch.testing.assert_close(occlusion(model, x, 1, patch=8), lost.detach()[:, 0], rtol=1e-3, atol=1e-4)


def test_the_gradients_of_the_input_are_autograds() -> None:
    model, x = small("convae-classifier"), torch.randn(2, 1, 32, 32)
    given = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(given)[:, 0].sum(), given)
    expected = expected.abs().amax(1) / expected.abs().amax((1, 2, 3))[:, None, None]
    torch.testing.assert_close(gradients(model, x, 0), expected)


def test_the_class_of_a_segmentation_is_explained_over_its_pixels() -> None:
    model, x = small("segnet"), torch.randn(1, 3, 32, 32)
    region = torch.zeros(1, 32, 32)
    region[:, 4:9, 20:] = 1
    maps = {}

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> None:
        output.retain_grad()
        maps["relu"] = output

    handle = model.conv5_3_bn.register_forward_hook(keep)
    (model(x)[:, 2] * region).sum().backward()
    handle.remove()
    weighted = (maps["relu"].grad.mean((2, 3), keepdim=True) * maps["relu"].detach()).sum(1).relu()
    expected = nn.functional.interpolate(weighted[:, None], (32, 32), mode="bilinear")[:, 0]
    expected = expected / expected.amax().clamp(min=1e-30)
    torch.testing.assert_close(gradcam(model, x, "block5_conv3_bn", 2, region), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("method", [gradcam, gradients, occlusion])
def test_a_frozen_model_is_explained_too_and_each_is_left_as_it_was(method: Any, frozen: bool) -> None:
    model = create("convae-classifier", **SMALL["convae-classifier"]).train()
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(not frozen)
    model.encoder.batch_normalization.eval()
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given = method(model, torch.randn(2, 1, 32, 32))
    assert given.shape == (2, 32, 32)
    assert float(given.abs().max()) > 0
    assert not given.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert {parameter.requires_grad for parameter in model.encoder.parameters()} == {not frozen}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.is_grad_enabled()


def test_a_batch_is_explained_image_by_image() -> None:
    model, x = small("convae-classifier"), torch.randn(3, 1, 32, 32)
    one_by_one = torch.cat([gradcam(model, x[index : index + 1]) for index in range(3)])
    torch.testing.assert_close(gradcam(model, x), one_by_one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vgg16", "block5_conv3"),
        ("vgg16_bn", "block5_conv3_relu"),
        ("convae-classifier", "batch_normalization_7"),
        ("azavea_unet", "activation_3"),
    ],
)
def test_the_layer_is_the_last_convolution_at_the_smallest_size(name: str, layer: str) -> None:
    model = small(name)
    assert default_layer(layers(model, (1 if "convae" in name else 3, 32, 32))).name == layer


def test_a_vector_or_an_unknown_layer_is_refused() -> None:
    model, x = small("vgg16"), torch.randn(1, 3, 32, 32)
    with pytest.raises(ConvaeError, match="fc1 gives 4096 values and no map"):
        gradcam(model, x, "fc1")
    with pytest.raises(ConvaeError, match="block5_conv3"):
        gradcam(model, x, "block5_conv4")
    with pytest.raises(ConvaeError, match="no class 3"):
        gradcam(model, x, target=3)


@pytest.mark.parametrize("method", ["gradcam", "gradients", "occlusion"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vgg16", {"classes": 3, "size": 32, "widths": (4, 6, 8, 10, 12), "hidden": 16}),
        ("shallow_unet", {"classes": 3}),
    ],
)
def test_the_command_draws_a_picture_for_each_image(
    name: str, options: dict[str, Any], method: str, command: Any, pictures: Any
) -> None:
    size = ("--size", "32")
    flags = [flag for key, value in options.items() for flag in ("--option", f"{key}={value}")]
    answer = command(
        "explain", name, *flags, pictures(2, (32, 40)), "--method", method, "--target", "1", *size, "--out", "out"
    )
    assert answer.code == 0, answer
    for index in range(2):
        path = Path("out") / f"{index}_{method}.png"
        assert np.array(Image.open(path)).shape == (32, 32, 3)
        assert f"{path}: 1, by" in answer.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "dog"), "no class 'dog'; the nearest are"),
        (("--layer", "block5_conf3"), "block5_conv3"),
        (("--method", "magic"), "invalid choice"),
        (("--method", "occlusion", "--layer", "fc1"), "looks at no layer"),
    ],
)
def test_a_wrong_question_is_refused_in_one_line(
    arguments: tuple[str, ...], said: str, command: Any, pictures: Any
) -> None:
    answer = command(
        "explain", "vgg16", "--option", "classes=3", "--option", "size=32", pictures(1), "--size", "32", *arguments
    )
    assert answer.code == 2
    assert said in answer.err.splitlines()[-1]
    assert not Path("explanations").exists()


def test_a_file_that_is_no_picture_is_named_once(command: Any, pictures: Any) -> None:
    images = pictures(2)
    (images / "0.png").write_text("no picture")
    call = ("explain", "vgg16", "--option", "classes=3", "--option", "size=32", images, "--method", "gradients")
    answer = command(*call, "--out", "out")
    assert answer.code == 1
    last = answer.err.splitlines()[-1]
    assert last.startswith(f"torch_convae.explain: {images}/0.png cannot be decoded")
    assert last.count("0.png") == 1
