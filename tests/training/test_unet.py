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

import torch_convae

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


def test_a_vgg16_does_not_fit_grey_images_and_the_error_names_both_shapes(
    refused: Callable[..., str], drawn_masks: Callable[..., Path], weights: Path, tmp_path: Path
) -> None:
    drawn_masks(tmp_path / "grey", train=2, test=1)
    for path in tmp_path.glob("grey/*/images/*.png"):
        Image.open(path).convert("L").save(path)
    line = refused("unet", "--data", "grey", "--weights", weights)
    assert "block1_conv1" in line
    assert "(3, 3, 3, 64)" in line
    assert "(64, 1, 3, 3)" in line


def test_the_decoder_is_given_maps_of_about_one(transferred: tuple[Path, Any], mask_folder: Path) -> None:
    model = torch_convae.load(transferred[0])
    assert min(model.scales) > 0
    assert model.scales != (1.0,) * 5
    files = sorted((mask_folder / "train" / "images").iterdir())
    images = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files])
    with torch.inference_mode():
        maps = model.encoder(model.preprocessing(images.permute(0, 3, 1, 2)))
    for one, scale in zip(maps, model.scales, strict=True):
        assert 0.9 < float((one / scale).std()) < 1.1


def test_a_decoder_from_a_run_keeps_the_scales_it_was_trained_with(
    transferred: tuple[Path, Any], tmp_path: Path, train_in: Callable[[Path], Any], mask_folder: Path
) -> None:
    trained = transferred[0] / "model.safetensors"
    command = ("unet", "--data", mask_folder, "--weights", trained, "--epochs", "1,0", "--batch-size", "2")
    answer = train_in(tmp_path)(*command, "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    assert torch_convae.load(tmp_path / "run").scales == torch_convae.load(transferred[0]).scales
