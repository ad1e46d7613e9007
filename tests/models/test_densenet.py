"""DenseNet-121: torchvision's network, Keras's numbers."""

from typing import Any

import numpy as np
import originals
import pytest
import torch
from small_models import small
from torchvision.models import densenet121

import bridge
from torch_convae.errors import ConvaeError
from torch_convae.models import create


@pytest.fixture(scope="module")
def torchvisions() -> Any:
    torch.manual_seed(0)
    network = densenet121(num_classes=5).eval()
    for name, buffer in network.named_buffers():
        if "running_" in name:
            buffer.uniform_(0.5, 1.5)
    return network


def test_torchvisions_state_dict_fits_as_it_is_and_computes_the_same(torchvisions: Any) -> None:
    model = create("densenet121", classes=5, keras=False).eval()
    model.load_state_dict(torchvisions.state_dict())
    x = torch.randn(2, 3, 64, 48)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), torchvisions(x), rtol=1e-4, atol=1e-5)
        maps = create("densenet121", keras=False).eval()
        plan = bridge.load(maps, torchvisions.state_dict())
        assert {key.split("/")[0] for key in plan.skipped} == {"classifier"}
        expected = torchvisions.features(x).relu()
        torch.testing.assert_close(maps(x), expected, rtol=1e-4, atol=1e-5)
    assert expected.min() == 0


def test_kerass_epsilon_and_momentum_are_used_unless_torchvisions_are_asked_for() -> None:
    def settings(**options: Any) -> set[tuple[float, float]]:
        with torch.device("meta"):
            parts = create("densenet121", **options).modules()
        return {(part.eps, part.momentum) for part in parts if isinstance(part, torch.nn.BatchNorm2d)}

    assert settings() == {(1.001e-5, 0.01)}
    assert settings(keras=False) == {(1e-5, 0.1)}


def test_no_layer_changes_what_the_one_before_gave() -> None:
    """torchvision's ReLUs work in place: a hook on a normalisation would see its values without the negative ones."""
    model, x = small("densenet121")
    seen: dict[str, torch.Tensor] = {}
    model.features.norm5.register_forward_hook(lambda *given: seen.update(norm5=given[2]))
    model.features.denseblock1.denselayer1.norm1.register_forward_hook(lambda *given: seen.update(norm1=given[2]))
    with torch.inference_mode():
        model(x)
    assert all(values.min() < 0 for values in seen.values())


def test_64_pixels_flattened_are_4096_values() -> None:
    with torch.device("meta"):
        model = create("densenet121", classes=7, pool="flatten", size=64, head=(256, 128))
    shapes = [tuple(value.shape) for name, value in model.classifier.named_parameters() if "weight" in name]
    assert shapes == [(256, 4096), (128, 256), (7, 128)]
    assert model.preprocessing.mode == "torch"


@pytest.mark.parametrize("side", range(29, 70, 5))
def test_the_size_of_the_last_map_is_foretold(side: int) -> None:
    model, _ = small("densenet121, flattened", size=(side, 96))
    assert model(torch.zeros(1, 3, side, 96)).shape == (1, 7)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a head without classes": ({"head": (5,)}, "a head in front of classes"),
    "another pooling": ({"classes": 2, "pool": "max"}, "pool='avg' or 'flatten', not 'max'"),
    "no classes": ({"classes": 0}, "a whole number of at least 1 for classes, not 0"),
    "half a layer": ({"classes": 2, "head": (1.5,)}, "whole numbers of at least 1 for head, not (1.5,)"),
    "too small": ({"classes": 2, "pool": "flatten", "size": 28}, "at least 29 pixels a side, not 28"),
    "three sides": (
        {"classes": 2, "pool": "flatten", "size": (64, 64, 64)},
        "one number for both, for size, not (64, 64, 64)",
    ),
    "three blocks": ({"depths": (2, 2, 2)}, "the layers of 4 blocks, not (2, 2, 2)"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_options_that_cannot_be_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvaeError) as caught:
        create("densenet121", **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_that_would_be_pooled_away_are_refused() -> None:
    with pytest.raises(ConvaeError, match="at least 29 pixels a side, not 28 x 64"):
        small("densenet121")[0](torch.zeros(1, 3, 28, 64))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [None, 4])
def test_the_whole_network_is_that_of_keras(
    classes: int | None, keras: Any, randomised: Any, saved: Any, images: Any
) -> None:
    if classes:
        theirs = keras.applications.DenseNet121(
            weights=None, classes=classes, input_shape=(64, 64, 3), classifier_activation=None
        )
    else:
        theirs = originals.densenet(keras, (64, 64, 3), None)
    model = create("densenet121", classes=classes).eval()
    notes = bridge.load(model, saved(randomised(theirs)), strict=True).notes
    named = ["a model in it is called densenet121"] if classes else []  # which tells its images
    assert [note.partition(":")[0] for note in notes] == named
    x = images(1, 64, 64, 3)
    expected = np.moveaxis(theirs(x, training=False).detach().numpy(), -1, 1)
    with torch.inference_mode():
        given = model(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    size = max(np.abs(expected).max(), 1)
    np.testing.assert_allclose(given / size, expected / size, rtol=1e-4, atol=1e-5)
