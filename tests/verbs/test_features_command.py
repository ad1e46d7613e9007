"""python -m torch_convae.features: the list of layers, the file of features, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import torch_convae
from torch_convae.models import MODELS
from torch_convae.verbs.rasters import read_pixels

from .conftest import SMALL, small

OPTIONS = {
    name: [word for key, value in options.items() for word in ("--option", f"{key}={value}")]
    for name, options in SMALL.items()
}
VGG = ("vgg16", *OPTIONS["vgg16"])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_lists_its_layers(name: str, command: Any) -> None:
    answer = command("features", name, *OPTIONS.get(name, []), "--list", "--size", "32")
    assert answer.code == 0, answer
    table = answer.out.splitlines()[3:]
    assert table[0].split()[:2] == ["layer", "kind"]
    assert len(table) > len(small(name).keras_layers)


def test_a_file_of_weights_says_which_network_it_is_of(command: Any, tmp_path: Path) -> None:
    torch.save(small("convae-classifier").state_dict(), tmp_path / "weights.pt")
    answer = command("features", "weights.pt", "--list", "--size", "32")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("convae-classifier(classes=3, size=32, in_channels=1) with weights.pt")
    assert "8 x 8 x 256" in next(line for line in answer.out.splitlines() if line.startswith("conv2d_7 "))
    torch.save({"strange.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    assert "no network that is known" in command("features", "other.pt", "--list").line


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_the_file_holds_the_features_their_axes_and_the_files_names(ending: str, command: Any, pictures: Any) -> None:
    images = pictures(3)
    weights = Path("weights.pt")
    torch.save(small("vgg16").state_dict(), weights)
    layers = ("--layer", "block5_conv3", "--layer", "features.28", "--layer", "fc1")
    call = ("features", *VGG, "--weights", weights, images, *layers, "--order", "hwc", "--batch-size", 2)
    answer = command(*call, "--out", f"out.{ending}")
    assert (answer.code, answer.err) == (0, "")
    if ending == "npz":
        with np.load("out.npz") as file:
            found, files, axes = {name: file[name] for name in file}, list(file["files"]), list(file["axes"])
        assert axes == ["block5_conv3: N H W C", "features.28: N H W C", "fc1: N C"]
    else:
        with safe_open("out.safetensors", framework="np") as file:
            found, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        files = json.loads(header["files"])
        assert json.loads(header["axes"])["block5_conv3"] == "N H W C"
        assert json.loads(header["about"])["layers"]["features.28"]["activation"] == "before relu"
    assert files == ["0.png", "1.png", "2.png"]
    read = torch.stack([read_pixels(images / name, 3, None) for name in files])
    expected = torch_convae.features(small("vgg16"), read, ["block5_conv3", "features.28", "fc1"], order="hwc")
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-4, atol=1e-4)


def test_images_of_several_sizes_are_pooled_or_refused(command: Any, pictures: Any) -> None:
    one, other = pictures(1), pictures(1, (40, 48), "other")
    call = ("features", "vgg16", one, other / "0.png", "--layer", "block5_conv3")
    answer = command(*call)
    assert answer.code == 2
    assert "other size" in answer.err
    assert not Path("features.npz").exists()
    assert command(*call, "--pool", "avg").code == 0
    assert command(*call, "--size", "32", "--overwrite").code == 0
    with np.load("features.npz") as file:
        assert file["block5_conv3"].shape == (2, 512, 2, 2)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_pictures_upright_and_across_are_refused_in_one_line(ending: str, command: Any, pictures: Any) -> None:
    folder = pictures(1, (32, 48))
    pictures(1, (48, 32), "other")
    Path("other/0.png").rename(folder / "1.png")
    call = ("features", "vgg16", folder, "--layer", "block1_pool", "--out", f"features.{ending}")
    assert "1.png gives block1_pool as (64, 24, 16), but 0.png gave (64, 16, 24)" in command(*call).line
    assert not Path(f"features.{ending}").exists()
    assert command(*call, "--pool", "avg").code == 0


def test_files_of_one_name_in_two_folders_are_told_apart(command: Any, pictures: Any) -> None:
    one, other = pictures(2), pictures(1, folder="other")
    assert command("features", "vgg16", one, other, "--layer", "block1_pool", "--out", "features.npz").code == 0
    with np.load("features.npz") as file:
        assert list(file["files"]) == [str(one / "0.png"), "1.png", str(other / "0.png")]


def test_arrays_of_other_sizes_are_no_rows_of_one(command: Any, tmp_path: Path) -> None:
    (tmp_path / "arrays").mkdir()
    for name, side in (("a", 64), ("b", 32)):
        np.save(tmp_path / f"arrays/{name}.npy", np.zeros((side, side, 3), np.uint8))
    line = command("features", "vgg16", "arrays", "--layer", "block5_pool").line
    assert "b.npy gives block5_pool as (512, 1, 1), but a.npy gave (512, 2, 2)" in line


def test_a_segnet_s_weights_alone_do_not_say_its_order_which_may_be_said(command: Any, pictures: Any) -> None:
    torch.save(torch_convae.create("segnet", classes=3).state_dict(), "segnet.pt")
    call = ("features", "segnet.pt", pictures(1), "--layer", "conv1_1", "--out", "features.npz")
    answer = command(*call)
    assert answer.code == 0
    assert "does not say in which order its layers compute" in answer.err
    answer = command(*call, "--option", "order=conv-relu-bn", "--overwrite")
    assert (answer.code, answer.err) == (0, "")


def test_bad_files_are_left_out_and_listed(command: Any, pictures: Any) -> None:
    images = pictures(4)
    (images / "1.png").write_text("no picture")
    answer = command("features", "vgg16", images, "--layer", "block1_pool", "--pool", "max")
    assert answer.code == 1
    assert "1.png cannot be decoded" in answer.err
    with np.load("features.npz") as file:
        assert list(file["files"]) == ["0.png", "2.png", "3.png"]


def test_a_file_that_others_made_is_not_overwritten(command: Any, pictures: Any) -> None:
    call = ("features", "vgg16", pictures(1), "--layer", "block1_pool")
    np.savez("features.npz", mine=np.zeros(3))
    assert "--overwrite" in command(*call).err
    with np.load("features.npz") as file:
        assert list(file) == ["mine"]
    assert command(*call, "--overwrite").code == 0
    assert command(*call).code == 0  # its own it replaces


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vgg61", "--list"), "vgg16"),
        (("vgg16", "pictures"), "--layer is missing"),
        (("vgg16", "--layer", "block5_conv3"), "IMAGES is missing"),
        (("vgg16", "pictures", "--layer", "block5_conv4"), "block5_conv3"),
        (("vgg16", "nowhere.png", "--layer", "block5_conv3"), "nowhere.png does not exist"),
        (("vgg16", "pictures", "--layer", "block5_conv3", "--out", "features.txt"), ".npz"),
        (("vgg16", "pictures", "--layer", "block5_conv3", "--out", "no/features.npz"), "no folder"),
        (("vgg16", "--option", "depth=3", "--list"), "depth"),
        (("vgg16", "--option", "classes", "--list"), "NAME=VALUE"),
        (("vgg16", "--option", "batch_norm=no", "--list"), "takes True or False for batch_norm, not 'no'"),
        (("vgg16", "--option", "batch_norm=1", "--list"), "takes True or False for batch_norm, not 1"),
        (("vgg16_unet", "--list"), "needs classes"),
        (("empty", "--list"), "model.safetensors does not exist"),
        (("vgg16", "empty", "--layer", "block5_conv3"), "holds no images"),
        (("vgg16", "--device", "tpu", "--list"), "no device"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], said: str, command: Any, pictures: Any, tmp_path: Path
) -> None:
    pictures(1)
    (tmp_path / "empty").mkdir()
    assert said in command("features", *arguments).line
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "empty"}


@pytest.mark.parametrize(
    ("name", "size"), [("conv_vae", "64 x 64"), ("encoder_gru", "64 x 64"), ("convae-classifier", "28 x 28")]
)
def test_a_network_of_one_size_lists_its_layers_for_it(name: str, size: str, command: Any, pictures: Any) -> None:
    options = ("--option", "classes=2") if name == "convae-classifier" else ()
    assert f"for images of {size} (height" in command("features", name, *options, "--list").out
    assert f"It is built for {size}." in command("features", name, *options, "--list", "--size", 16).line
    if name != "encoder_gru":
        line = command("features", name, *options, pictures(1, grey=True), "--layer", "conv2d").line
        assert f"It is built for {size}." in line


@pytest.mark.parametrize(("value", "norms"), [("true", True), ("False", False), ("FALSE", False)])
def test_true_and_false_are_no_words(value: str, norms: bool, command: Any) -> None:
    answer = command("features", "vgg16_unet", "--option", "classes=2", "--option", f"batch_norm={value}", "--list")
    assert f"batch_norm={norms})" in answer.out
    assert ("encoder.block1_conv1_bn" in answer.out) is norms


def test_a_run_is_a_source_and_a_grey_picture_is_taken_grey(tmp_path: Path, command: Any, pictures: Any) -> None:
    Image.open(pictures(1) / "0.png").convert("L").save(tmp_path / "grey.png")
    answer = command("features", "convae", "grey.png", "--layer", "conv2d_7", "--pool", "avg")
    assert answer.code == 0
    with np.load("features.npz") as file:
        assert file["conv2d_7"].shape == (1, 256)


def test_the_command_is_a_command(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-W", "error", "-m", "torch_convae.features", "vgg16", "--list", "--size", "64"]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "vgg16 has random weights, as no --weights were given.\n")
    assert "block5_conv3" in done.stdout


@pytest.mark.parametrize(("layer", "code"), [("block5_conv3", 0), ("flatten", 0), ("fc1", 2), ("predictions", 2)])
def test_layers_in_front_of_those_without_weights_are_given_and_no_others(
    layer: str, code: int, command: Any, pictures: Any, headless: tuple[str, ...]
) -> None:
    answer = command("features", *headless, pictures(1, (32, 32)), "--layer", layer)
    assert answer.code == code, answer
    assert code == 0 or "has no weights for head.fc1" in answer.line
