"""A class of a segmentation at one pixel of the image, and which class is asked about where nobody says it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from torch_convae import ConvaeError, create
from torch_convae.explain import gradients, question
from torch_convae.explain.place import Place
from torch_convae.explain.question import class_index
from torch_convae.models import MODELS
from torch_convae.pictures.colours import heat, over

from .conftest import SMALL, small

NETWORK = ("shallow_unet", "--option", "classes=3", "--option", "widths=4,6,8")


@pytest.mark.parametrize("name", ["éléphant", "e\u0301le\u0301phant", "1"])
def test_a_class_is_found_however_its_accents_are_written(name: str) -> None:
    assert class_index(name, ("chat", "éléphant")) == 1


def test_without_a_target_it_is_the_class_of_most_of_the_region() -> None:
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 1] = 1
    logits[:, 2, :2, :2] = 2
    region = torch.zeros(1, 4, 4)
    region[:, 1, 1] = 1
    assert question(logits, None).targets.tolist() == [1]
    assert question(logits, None, region).targets.tolist() == [2]


@pytest.mark.parametrize(
    ("region", "said"),
    [(torch.zeros(1, 4, 4), "has no pixel"), (torch.ones(1, 4, 5), r"\(1, 4, 5\), but the output's pixels are")],
)
def test_a_region_that_marks_nothing_of_the_output_is_refused(region: Tensor, said: str) -> None:
    with pytest.raises(ConvaeError, match=said):
        question(torch.zeros(1, 3, 4, 4), 0, region)


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_the_only_class_of_a_segmentation_is_the_target_however_much_of_it_there_is(bias: float) -> None:
    logits = torch.full((2, 1, 4, 4), bias)
    logits[:, :, 0, 0] *= -1
    asked = question(logits, None)
    assert asked.targets.tolist() == [0, 0]
    assert asked.region is not None
    assert asked.region.sum((-2, -1)).tolist() == [15 if bias > 0 else 1] * 2


@pytest.mark.parametrize(
    ("file", "shown", "padded", "output", "expected"),
    [
        ((10, 20), (10, 20), (10, 20), (10, 20), (7, 13)),
        ((10, 20), (20, 40), (20, 40), (20, 40), (15, 27)),
        ((10, 20), (10, 20), (32, 32), (32, 32), (7, 13)),
        ((10, 20), (10, 20), (32, 32), (16, 16), (3, 6)),
    ],
)
def test_a_pixel_of_the_file_is_found_in_what_the_network_gives(
    file: Any, shown: Any, padded: Any, output: Any, expected: tuple[int, int]
) -> None:
    assert Place(7, 13).region(file, shown, padded, output).nonzero().tolist() == [[0, *expected]]


@pytest.mark.parametrize("place", [Place(0, 0), Place(9, 19)])
def test_the_corners_of_the_file_are_within_the_output(place: Place) -> None:
    region = place.region((10, 20), (3, 7), (32, 32), (16, 16))
    assert region.sum() == 1


def test_a_pixel_is_explained_by_the_logit_it_has(command: Any, pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("shallow_unet")
    monkeypatch.setitem(MODELS, "shallow_unet", lambda classes, widths: model)  # noqa: ARG005
    folder = pictures(1, (33, 40))
    answer = command("explain", *NETWORK, folder, "--method", "gradients", "--at", "20,31", "--target", "2")
    assert answer.code == 0, answer
    assert "2 at 20,31, by the gradients" in answer.out
    pixels = np.array(Image.open(folder / "0.png"))
    x = model.preprocessing(torch.from_numpy(pixels).permute(2, 0, 1)[None])  # type: ignore[operator]
    x = torch.nn.functional.pad(x, (0, 0, 0, 3), mode="replicate")
    region = torch.zeros(1, 36, 40)
    region[:, 20, 31] = 1
    expected = gradients(model, x, 2, region)[0, :33, :40]
    assert 0 < int((expected > 0).sum()) < 33 * 40  # only what this pixel sees
    drawn = np.array(Image.open(Path("explanations") / "0_gradients.png"))
    assert np.array_equal(drawn, over(pixels, heat(expected.numpy())))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*NETWORK, "--at", "33,0"), "--at 33,0 lies outside of 33 x 40 pixels (height x width)"),
        ((*NETWORK, "--at", "0,40"), "--at 0,40 lies outside of 33 x 40 pixels"),
        ((*NETWORK, "--at", "3"), "--at '3' is no pixel. Write its row and column"),
        ((*NETWORK, "--at", "3,-1"), "--at '3,-1' is no pixel"),
        (("vgg16", "--option", "classes=3", "--option", "size=32", "--at", "3,3"), "Leave --at out"),
    ],
)
def test_a_pixel_that_is_none_is_refused(arguments: tuple[str, ...], said: str, command: Any, pictures: Any) -> None:
    answer = command("explain", *arguments, pictures(1, (33, 40)))
    assert answer.code == 2
    assert said in answer.err.splitlines()[-1]
    assert not Path("explanations").exists()


@pytest.mark.parametrize("verb", ["explain", "predict"])
def test_a_network_has_as_many_classes_as_it_gives_whatever_parameters_it_ends_with(
    verb: str, command: Any, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create("shallow_unet", **SMALL["shallow_unet"]).eval()
    model.register_parameter("unused", torch.nn.Parameter(torch.ones(7)))
    monkeypatch.setitem(MODELS, "shallow_unet", lambda classes, widths: model)  # noqa: ARG005
    out = ("--out", "out")
    if verb == "explain":
        answer = command(verb, *NETWORK, pictures(1), "--target", "3", *out)
        assert "There is no class '3'; the nearest are 0, 1, 2" in answer.err
        return
    assert command(verb, *NETWORK, pictures(1), *out).code == 0
    assert Path("out/masks.csv").read_text().splitlines()[0] == "file,picture,height,width,0,1,2"
