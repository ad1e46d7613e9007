"""The U-Net recipe on a few small images, with a VGG16 file of random numbers and without."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import bridge
import torch_convae
from torch_convae.data import Split
from torch_convae.models import VGG16UNet
from torch_convae.recipes.unet import map_scales
from torch_convae.weights import load_weights

SHAPES = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16 without its top as Keras 2 wrote it, with random numbers."""
    path = tmp_path_factory.mktemp("weights") / "vgg16_notop.h5"
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        names = []
        for block, widths in enumerate(SHAPES, 1):
            for stage, (inner, outer) in enumerate(pairwise(widths), 1):
                name = f"block{block}_conv{stage}"
                names.append(name.encode())
                group = file.create_group(name)
                group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
                kernel = random.standard_normal((3, 3, inner, outer), dtype=np.float32)
                group[f"{name}/kernel:0"] = kernel * np.float32((2 / (9 * inner)) ** 0.5)
                group[f"{name}/bias:0"] = random.standard_normal(outer, dtype=np.float32) * np.float32(0.01)
        file.attrs["layer_names"] = names
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", b"tensorflow"
    return path


@pytest.fixture(scope="module")
def transferred(
    tmp_path_factory: pytest.TempPathFactory, train_in: Callable[[Path], Any], mask_folder: Path, weights: Path
) -> tuple[Path, Any]:
    """A run of the head alone on the frozen encoder, and what the command gave."""
    folder = tmp_path_factory.mktemp("unet")
    command = ("unet", "--data", mask_folder, "--weights", weights, "--epochs", "1,0", "--batch-size", "2")
    answer = train_in(folder)(*command, "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    return folder / "run", answer


def test_all_of_the_file_is_copied_into_the_encoder(transferred: tuple[Path, Any]) -> None:
    plan = json.loads((transferred[0] / "weights.json").read_text())
    assert len(plan["copied"]) == 26
    assert len(plan["skipped"]) == 0
    assert "26" in transferred[1].out.splitlines()[1]


def test_after_the_head_the_encoder_still_is_what_the_file_holds(transferred: tuple[Path, Any], weights: Path) -> None:
    state = load_file(transferred[0] / "model.safetensors")
    compared = 0
    with h5py.File(weights) as file:
        for name in file:
            kernel, bias = (np.asarray(file[f"{name}/{name}/{role}:0"]) for role in ("kernel", "bias"))
            np.testing.assert_array_equal(state[f"encoder.{name}.weight"].numpy(), kernel.transpose(3, 2, 0, 1))
            np.testing.assert_array_equal(state[f"encoder.{name}.bias"].numpy(), bias)
            compared += 2
    assert compared == 26 == sum(name.startswith("encoder.") for name in state)
    assert not torch.equal(state["decoder.batch_norm_6_1.weight"], torch.ones(256)), "the decoder did not train"


def test_the_figures_of_segmentation_are_there(transferred: tuple[Path, Any]) -> None:
    summary = json.loads((transferred[0] / "summary.json").read_text())
    head = summary["stages"]["head"]
    for figure in ("test_mean_iou", "test_accuracy", "test_loss", "val_mean_iou"):
        assert 0 <= summary[figure] == head[figure]
    assert summary["test_mean_iou"] <= 1
    (line,) = [json.loads(text) for text in (transferred[0] / "metrics.jsonl").read_text().splitlines()]
    figures = ("loss", "accuracy", "f1", "kappa", "mean_iou", "class_accuracy")
    assert line["frozen_sha256_start"] == line["frozen_sha256_end"] == head["frozen_sha256"]
    proof = {"frozen_sha256_start", "frozen_sha256_end"}
    assert line.keys() == {"stage", "epoch", "train_loss", *(f"val_{figure}" for figure in figures)} | proof
    assert list(summary["stages"]) == ["head"]


def test_the_figures_of_each_class_are_there_and_make_the_mean(transferred: tuple[Path, Any]) -> None:
    summary = json.loads((transferred[0] / "summary.json").read_text())
    of_each = summary["per_class"]
    assert list(of_each) == summary["classes"]
    for figure, mean in (("iou", "test_mean_iou"), ("f1", "test_f1"), ("accuracy", "test_class_accuracy")):
        values = [one[figure] for one in of_each.values() if one[figure] is not None]
        assert sum(values) / len(values) == pytest.approx(summary[mean])


def test_the_pictures_are_there(transferred: tuple[Path, Any]) -> None:
    for name in ("curves.png", "confusion.png", "masks.png"):
        with Image.open(transferred[0] / name) as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 20, f"{name} is blank"


def test_the_loaded_network_gives_the_figures_of_the_run(transferred: tuple[Path, Any], mask_folder: Path) -> None:
    model = torch_convae.load(transferred[0])
    assert model.preprocessing.mode == "caffe", "what Keras's VGG16 was trained on"
    images, masks = (
        np.stack([np.asarray(Image.open(path)) for path in sorted((mask_folder / "test" / kind).iterdir())])
        for kind in ("images", "masks")
    )
    predicted = model.predict(images.transpose(0, 3, 1, 2)).argmax(1).numpy()
    right = (predicted == masks)[masks != 255].mean()
    assert right == pytest.approx(json.loads((transferred[0] / "summary.json").read_text())["test_accuracy"], abs=0.002)


def test_without_weights_everything_trains_from_the_start(train: Any, mask_folder: Path, tmp_path: Path) -> None:
    command = ("unet", "--data", mask_folder, "--epochs", "1,0", "--batch-size", "2", "--limit", "2", "--size", "16")
    answer = train(*command, "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    assert not (tmp_path / "run/weights.json").exists()
    assert json.loads((tmp_path / "run/summary.json").read_text())["stages"]["head"]["trained"] == ["*"]
    assert torch_convae.load(tmp_path / "run").preprocessing.mode == "torch"


def test_grey_images_become_three_channels_for_a_vgg16_of_colours(
    train: Any, drawn_masks: Callable[..., Path], weights: Path, tmp_path: Path
) -> None:
    drawn_masks(tmp_path / "grey", train=2, test=1)
    for path in tmp_path.glob("grey/*/images/*.png"):
        Image.open(path).convert("L").save(path)
    answer = train("unet", "--data", "grey", "--weights", weights, "--epochs", "1,0", "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    model = torch_convae.load(tmp_path / "run")
    assert (model.in_channels, model.preprocessing.mode) == (3, "caffe")
    assert len(json.loads((tmp_path / "run/weights.json").read_text())["copied"]) == 26
    # What the run measured on grey images is what the network says of the same in colours.
    image = np.array(Image.open(next((tmp_path / "grey/test/images").iterdir())).convert("RGB"))
    mask = np.array(Image.open(next((tmp_path / "grey/test/masks").iterdir())))
    said = model.predict(torch.from_numpy(image).movedim(-1, 0)[None]).argmax(1)[0].numpy()
    known = mask < len(model.classes)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["test_accuracy"] == pytest.approx((said == mask)[known].mean(), abs=1e-3)


def test_the_decoder_is_given_maps_of_about_one(weights: Path) -> None:
    model, images = VGG16UNet(3), torch.randint(0, 256, (4, 3, 32, 48), dtype=torch.uint8)
    load_weights(model, weights)
    scales = map_scales(model, Split(images, torch.zeros(4, 32, 48, dtype=torch.uint8)))
    with torch.inference_mode():
        maps = model.encoder(model.preprocessing(images))
    for one, scale in zip(maps, scales, strict=True):
        assert 0.9 < float((one / scale).std()) < 1.1


def test_a_run_ends_as_the_network_that_keras_has(transferred: tuple[Path, Any], tmp_path: Path) -> None:
    """All that the run measured is in its weights, which go to Keras and come back."""
    model = torch_convae.load(transferred[0])
    assert (model.scales, model.unlike_keras) == ((1.0,) * 5, "")
    bridge.save(model, tmp_path / "unet.h5")
    other = VGG16UNet(2)
    bridge.load(other, tmp_path / "unet.h5")
    x = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(other.eval()(x), model(x))


def test_a_decoder_from_a_run_goes_on_as_it_was(
    transferred: tuple[Path, Any], tmp_path: Path, train_in: Callable[[Path], Any], mask_folder: Path
) -> None:
    trained = transferred[0] / "model.safetensors"
    command = ("unet", "--data", mask_folder, "--weights", trained, "--epochs", "1,0", "--batch-size", "2")
    answer = train_in(tmp_path)(*command, "--lr", "0,0", "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    before, after = (load_file(folder / "model.safetensors") for folder in (transferred[0], tmp_path / "run"))
    for name in before:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(after[name], before[name])


def test_a_trained_network_starts_one_with_other_classes(
    transferred: tuple[Path, Any], tmp_path: Path, train_in: Callable[[Path], Any], drawn_masks: Callable[..., Path]
) -> None:
    folder = drawn_masks(tmp_path / "other", train=4, test=1)
    for path in folder.glob("*/masks/*.png"):
        mask = np.array(Image.open(path))
        mask[8:12, :4] = 2
        Image.fromarray(mask).save(path)
    command = ("unet", "--data", folder, "--weights", transferred[0], "--epochs", "1,0", "--batch-size", "2")
    answer = train_in(tmp_path)(*command, "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    assert "has other classes than other: decoder.conv_10_1 begins anew" in answer.out
    plan = json.loads((tmp_path / "run/weights.json").read_text())
    assert [each["target"] for each in plan["untouched"]] == ["decoder.conv_10_1.weight", "decoder.conv_10_1.bias"]
