"""What cannot be used is refused through the command line: exit code 2, one line that names it, nothing written."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

Refused = Callable[..., str]
Draw = Callable[..., Path]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--epochs 1,2", ["--epochs '1,2'", "3 stages"]),
        ("--epochs 0", ["0 epochs", "--epochs"]),
        ("--epochs 1.5", ["--epochs '1.5'", "whole"]),
        ("--epochs -1", ["--epochs", "-1"]),
        ("--epochs two", ["--epochs 'two'"]),
        ("--epochs nan", ["--epochs 'nan'"]),
        ("--epochs inf", ["--epochs 'inf'"]),
        ("--lr abc", ["--lr 'abc'"]),
        ("--lr -0.1", ["--lr", "-0.1"]),
        ("--lr nan", ["--lr 'nan'"]),
        ("--lr inf", ["--lr 'inf'"]),
        ("--lr 1e-3,1e-3", ["--lr '1e-3,1e-3'", "3 stages"]),
        ("--batch-size 0", ["--batch-size 0"]),
        ("--batch-size -4", ["--batch-size -4"]),
        ("--batch-size many", ["--batch-size", "many"]),
        ("--size nonsense", ["--size 'nonsense'"]),
        ("--size 0", ["--size '0'"]),
        ("--size 8x8x8", ["--size '8x8x8'"]),
        ("--size 2", ["2 x 2"]),
        ("--size 4 --batch-size 1", ["pretrain", "4 x 4", "BatchNorm", "--batch-size"]),
        ("--size 4 --batch-size 8 --accumulate 8", ["4 x 4", "BatchNorm", "--accumulate"]),
        ("densenet --size 32 --batch-size 1", ["head", "32 x 32", "BatchNorm"]),
        ("--limit 0", ["limit 0", "--limit"]),
        ("--limit few", ["--limit", "few"]),
        ("--void 3", ["--void 3"]),
        ("--seed one", ["--seed", "one"]),
        ("--seed 99999999999999999999999", ["--seed 99999999999999999999999"]),
        ("--device nonsense", ["'nonsense'", "--device"]),
        ("--device meta", ["'meta'", "--device"]),
        ("--precision float8", ["--precision", "float8"]),
        ("--layout sideways", ["--layout", "sideways"]),
        ("--data fashion-mnits", ["fashion-mnits", "did you mean fashion-mnist"]),
        ("--data ./nowhere", ["nowhere", "fashion-mnist-mini"]),
        ("--weights nowhere.h5", ["nowhere.h5"]),
        ("--nonsense 3", ["unrecognized arguments: --nonsense", "--help"]),
        ("resnet", ["resnet", "convae", "unet"]),
        ("unet", ["unet needs --data"]),
    ],
)
def test_a_wrong_value_is_refused_by_name(refused: Refused, arguments: str, named: list[str]) -> None:
    line = refused(*arguments.split(), "--limit", "20") if "--limit" not in arguments else refused(*arguments.split())
    for text in named:
        assert text in line


def test_a_name_of_several_lines_still_gives_one(refused: Refused) -> None:
    assert "--no nsense" in refused("--no\nnsense")
    assert "no where.h5" in refused("--weights", "no\nwhere.h5")


@pytest.mark.parametrize("option", ["--data", "--weights", "--out", "--size"])
def test_an_empty_value_as_of_an_unset_variable_is_not_taken_for_none_given(refused: Refused, option: str) -> None:
    assert option in refused(option, "", "--limit", "20")


def test_cuda_where_there_is_none_is_refused(refused: Refused) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "'cuda'" in refused("--device", "cuda")


def test_an_empty_folder_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} holds no data" in refused("--data", tmp_path / "empty")


def test_one_class_only_is_refused(refused: Refused, drawn_classes: Draw, tmp_path: Path) -> None:
    drawn_classes(tmp_path / "one", classes=1)
    line = refused("--data", "one")
    assert "two or more classes" in line
    assert "class0" in line


def test_an_image_that_cannot_be_decoded_is_named(refused: Refused, drawn_classes: Draw, tmp_path: Path) -> None:
    bad = drawn_classes(tmp_path / "bars") / "class1" / "3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    assert "bars/class1/3.png cannot be decoded" in refused("--data", "bars")


def test_images_of_several_sizes_ask_for_a_size(refused: Refused, drawn_classes: Draw, tmp_path: Path) -> None:
    drawn_classes(tmp_path / "bars")
    Image.new("L", (20, 24)).save(tmp_path / "bars" / "class1" / "3.png")
    line = refused("--data", "bars")
    assert "bars/class1/3.png" in line
    assert "24 x 20" in line
    assert "--size" in line


def test_a_mask_of_another_size_than_its_image_is_named(refused: Refused, drawn_masks: Draw, tmp_path: Path) -> None:
    drawn_masks(tmp_path / "halves", train=2, test=1)
    Image.fromarray(np.zeros((16, 32), np.uint8)).save(tmp_path / "halves/train/masks/1.png")
    line = refused("unet", "--data", "halves")
    assert "halves/train/masks/1.png is 16 x 32" in line
    assert "32 x 32" in line


def test_a_mask_value_that_is_no_class_is_named(refused: Refused, drawn_masks: Draw, tmp_path: Path) -> None:
    drawn_masks(tmp_path / "halves", train=2, test=1)
    (tmp_path / "halves/classes.txt").write_text("left\nright\n")
    spoilt = np.zeros((32, 32), np.uint8)
    spoilt[:, 5], spoilt[3, 3] = 1, 7
    Image.fromarray(spoilt).save(tmp_path / "halves/test/masks/0.png")
    line = refused("unet", "--data", "halves", "--void", "255")
    assert "halves/test/masks/0.png holds the value 7" in line
    assert "0..1 and 255" in line


def test_images_too_small_for_the_network_are_refused(refused: Refused, mask_folder: Path) -> None:
    line = refused("unet", "--data", mask_folder, "--size", "8")
    assert "8 x 8" in line
    assert "--size" in line


def test_a_recipe_on_data_of_the_other_kind_is_refused(refused: Refused, mask_folder: Path, class_folder: Path) -> None:
    line = refused("unet", "--data", class_folder)
    assert "unet trains on images with masks" in line
    assert "bars" in line
    assert "convae trains on images with one class each" in refused("convae", "--data", mask_folder)


def test_a_truncated_weights_file_is_named(refused: Refused, tmp_path: Path, class_folder: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = np.zeros(10000, np.float32)
    path.write_bytes(path.read_bytes()[:5000])
    assert "weights.h5" in refused("--data", class_folder, "--weights", path)


def test_a_weights_file_that_is_none_is_named(refused: Refused, tmp_path: Path, class_folder: Path) -> None:
    (tmp_path / "weights.txt").write_text("not weights")
    assert "weights.txt" in refused("--data", class_folder, "--weights", "weights.txt")
    (tmp_path / "folder.h5").mkdir()
    assert "folder.h5" in refused("--data", class_folder, "--weights", "folder.h5")


def test_weights_that_do_not_fit_name_both_shapes(refused: Refused, tmp_path: Path, class_folder: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv2d"]
        group = file.create_group("conv2d")
        group.attrs["weight_names"] = [b"conv2d/kernel:0", b"conv2d/bias:0"]
        group["conv2d/kernel:0"] = np.zeros((5, 5, 1, 32), np.float32)
        group["conv2d/bias:0"] = np.zeros(32, np.float32)
    line = refused("--data", class_folder, "--weights", "other.h5")
    assert "conv2d" in line
    assert "(5, 5, 1, 32)" in line
    assert "(32, 1, 3, 3)" in line


def test_weights_of_another_network_altogether_are_refused(
    refused: Refused, tmp_path: Path, class_folder: Path
) -> None:
    torch.save({"transformer.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    line = refused("--data", class_folder, "--weights", "other.pt")
    assert "other.pt" in line
    assert "transformer" in line


@pytest.mark.parametrize("out", ["file", "file/below", "file/far/below"])
def test_an_out_that_cannot_be_written_is_refused(refused: Refused, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("here first")
    line = refused("--limit", "20", "--out", out)
    assert f"{out} cannot be written" in line
    assert "--out" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_out_without_permission_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o500)
    assert "mine/run cannot be written" in refused("--limit", "20", "--out", "mine/run")


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
@pytest.mark.parametrize("name", ["holiday.png", "config.json", "model.safetensors"])
def test_an_out_that_holds_something_else_is_refused_and_left_as_it_is(
    refused: Refused, tmp_path: Path, name: str, fresh: list[str]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text('{"model_type": "somebody else\'s"}')
    line = refused("--limit", "20", "--out", "other", *fresh)
    assert "other" in line
    assert "no run" in line
    assert name in line
