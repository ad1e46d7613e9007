"""The autoencoder's variants: a code of a chosen size, and noise in training."""

from typing import Any

import originals
import pytest
import torch
from small_models import small

import bridge
from torch_convae.errors import ConvaeError
from torch_convae.models import create


def test_a_code_has_the_size_that_was_chosen() -> None:
    model, x = small("convae, a code of 5")
    assert model.encode(x)[-1].shape == (2, 5)
    assert small("convae-classifier, a code of 5")[0].encode(x).shape == (2, 5)
    assert small("convae")[0].encode(x)[-1].shape == (2, 256, 3, 5)


def test_noise_is_added_in_training_alone_and_a_seed_repeats_it() -> None:
    model, x = small("convae", noise=0.3)
    quiet, _ = small("convae")
    assert torch.equal(model(x), quiet(x))
    seen: list[torch.Tensor] = []
    model.encoder.conv2d.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.train()
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model(x)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    noise = seen[0] - x
    assert noise.std() == pytest.approx(0.3, rel=0.1)
    assert abs(float(noise.mean())) < 0.05


def test_a_frozen_encoder_still_sees_noise_while_the_network_trains() -> None:
    """Noise belongs to the training, not to the encoder: whether features may be kept is for both to say."""
    model, x = small("convae", noise=0.3)
    model.train()
    model.encoder.eval()
    assert not torch.equal(model.encode(x)[-1], model.encode(x)[-1])
    assert "noise" in model.ENCODING


@pytest.mark.parametrize("noise", [-0.1, float("nan")])
def test_noise_that_is_no_deviation_is_refused(noise: float) -> None:
    with pytest.raises(ConvaeError, match="a standard deviation of 0 or more"):
        create("convae", noise=noise)


@pytest.mark.parametrize("name", ["convae, a code of 5", "convae-classifier", "convae-classifier, a code of 5"])
def test_images_of_another_size_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConvaeError, match=r"maps of 5 x 3 in front of a Dense layer for 3 x 5\. Resize") as caught:
        small(name)[0](torch.zeros(1, 3, 22, 13))
    assert "\n" not in str(caught.value)


def test_a_file_for_images_of_other_sides_is_refused_though_it_has_as_many_values(
    keras: Any, randomised: Any, saved: Any
) -> None:
    path = saved(randomised(originals.conv_classifier(keras, 3, (13, 22), 3)))
    module = create("convae-classifier", classes=3, in_channels=3, size=(22, 13))
    with pytest.raises(bridge.BridgeError, match=r"dense is for a map of \(3, 5, 256\), but .* for \(5, 3, 256\)"):
        bridge.load(module, path)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no classes": ("convae-classifier", {"classes": 0}, "a whole number of at least 1 for classes, not 0"),
    "classes in words": ("segnet", {"classes": "six"}, "a whole number of at least 1 for classes, not 'six'"),
    "no channels": ("vgg16", {"in_channels": 0}, "a whole number of at least 1 for in_channels, not 0"),
    "no code": ("convae", {"code": 0}, "a whole number of at least 1 for code, not 0"),
    "a width in words": ("shallow_unet", {"classes": 2, "widths": "wide"}, "at least 1 for widths, not 'wide'"),
    "a size in words": ("convae", {"code": 4, "size": "28x28"}, "one number for both, for size, not '28x28'"),
    "five of four": ("vgg16", {"widths": (1, 2, 3, 4)}, "channels of 5 blocks, not (1, 2, 3, 4)"),
}


@pytest.mark.parametrize(("name", "options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_options_that_cannot_be_are_refused_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvaeError) as caught:
        create(name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
