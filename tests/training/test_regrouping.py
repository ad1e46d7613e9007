"""A trained run for fewer classes, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import torch_convae

GROUPS = "first=class0,others=class1+class2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, train_in: Callable[[Path], Any], class_folder: Path) -> Path:
    """A classifier of three classes."""
    folder = tmp_path_factory.mktemp("trained")
    assert train_in(folder)("--data", class_folder, "--epochs", "0,2,0", "--batch-size", "8", "--out", "run").code == 0
    return folder / "run"


@pytest.fixture(scope="module")
def regrouped(
    tmp_path_factory: pytest.TempPathFactory, train_in: Callable[[Path], Any], class_folder: Path, trained: Path
) -> Path:
    """The same for two of them."""
    folder = tmp_path_factory.mktemp("regrouped")
    flags = ("--classes", GROUPS, "--dropout", "0.2", "--weight-decay", "1e-4", "--batch-size", "8")
    answer = train_in(folder)("--data", class_folder, "--weights", trained, *flags, "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    return folder / "run"


def summary(run: Path) -> Any:
    return json.loads((run / "summary.json").read_text())


def test_the_new_run_has_the_new_classes_and_no_pretraining(regrouped: Path) -> None:
    assert summary(regrouped)["classes"] == ["first", "others"]
    assert list(summary(regrouped)["stages"]) == ["head", "finetune"]
    assert summary(regrouped)["regrouped"]["groups"] == {"first": ["class0"], "others": ["class1", "class2"]}
    assert torch_convae.load(regrouped).classes == ("first", "others")


def test_the_figures_before_are_those_of_the_old_network(trained: Path, class_folder: Path, regrouped: Path) -> None:
    old = torch_convae.load(trained)
    data = torch_convae.data.load_data(torch_convae.data.Request(str(class_folder))).splits["test"]
    fine = old.predict(data.images)
    summed = torch.stack([fine[:, 0], fine[:, 1] + fine[:, 2]], dim=1)
    truth = (data.targets > 0).long()
    figures = summary(regrouped)["regrouped"]
    assert figures["summed_probabilities"]["accuracy"] == pytest.approx((summed.argmax(1) == truth).float().mean())
    likelihood = summed.log().gather(1, truth[:, None]).mean().item()
    assert figures["summed_probabilities"]["loss"] == pytest.approx(-likelihood, rel=1e-3)
    for when in ("carried_head", "after_head", "after_finetune"):
        assert 0 <= figures[when]["accuracy"] <= 1
    assert figures["after_finetune"]["accuracy"] == summary(regrouped)["test_accuracy"]


def test_it_says_what_it_was_calibrated_with_and_the_saved_network_is(
    train: Any, drawn_classes: Callable[..., Path], trained: Path, tmp_path: Path
) -> None:
    many = drawn_classes(tmp_path / "many", each=140)
    command = ("--data", many, "--weights", trained, "--classes", GROUPS, "--epochs", "0,1,0", "--out", "many_run")
    assert train(*command).code == 0
    calibration = summary(tmp_path / "many_run")["regrouped"]["calibration"]
    assert calibration["on"] == "a tenth of train, held out"
    assert calibration["temperature"] != 1
    assert 0.05 < calibration["temperature"] < 20
    assert calibration["after"]["nll"] < calibration["before"]["nll"]
    data = torch_convae.data.load_data(torch_convae.data.Request(str(many))).splits["test"]
    probabilities = torch_convae.load(tmp_path / "many_run").predict(data.images)
    likelihood = probabilities.log().gather(1, (data.targets > 0).long()[:, None]).mean().item()
    assert calibration["after"]["nll"] == pytest.approx(-likelihood, rel=1e-3)


def test_a_handful_of_images_makes_no_network_certain(regrouped: Path) -> None:
    calibration = summary(regrouped)["regrouped"]["calibration"]
    assert calibration["on"] == "a tenth of train, held out, too few to divide the logits by"
    assert calibration["temperature"] == 1
    assert calibration["after"] == calibration["before"]


def test_class_weights_are_those_of_the_new_classes(
    train: Any, refused: Callable[..., str], class_folder: Path, trained: Path, tmp_path: Path
) -> None:
    command = ("--data", class_folder, "--weights", trained, "--classes", GROUPS, "--epochs", "0,1,0")
    assert train(*command, "--class-weights", "1,2", "--out", tmp_path / "new").code == 0
    assert "should hold 2 numbers" in refused(*command, "--class-weights", "1,2,3", "--out", "other")


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("first=class0,others=class1", "leaves out class2"),
        ("first=class0,others=class1+clas2", "did you mean class2"),
        ("a=class0+class1,b=class1+class2", "'class1' is in more than one place"),
    ],
)
def test_classes_that_are_not_covered_once_are_refused(
    refused: Callable[..., str], class_folder: Path, trained: Path, classes: str, said: str
) -> None:
    assert said in refused("--data", class_folder, "--weights", trained, "--classes", classes, "--out", "new")


def test_regrouping_needs_a_trained_network(refused: Callable[..., str], class_folder: Path, tmp_path: Path) -> None:
    assert "--weights" in refused("--data", class_folder, "--classes", GROUPS, "--out", "new")
    (tmp_path / "empty").mkdir()
    line = refused("--data", class_folder, "--classes", GROUPS, "--weights", tmp_path / "empty", "--out", "new")
    assert "holds no model.safetensors" in line


def test_a_network_of_other_classes_is_refused(
    refused: Callable[..., str], drawn_classes: Callable[..., Path], trained: Path, tmp_path: Path
) -> None:
    folder = drawn_classes(tmp_path / "other")
    (folder / "class2").rename(folder / "class9")
    line = refused("--data", folder, "--weights", trained, "--classes", "a=class0,b=class1+class9", "--out", "new")
    assert "was trained on the classes class0, class1, class2" in line


def test_masks_are_regrouped_too(train: Any, mask_folder: Path, tmp_path: Path) -> None:
    short = ("--data", tmp_path / "m", "--size", "16", "--batch-size", "2", "--epochs", "1", "--limit", "2")
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (tmp_path / "m" / split / kind).mkdir(parents=True)
            for path in (mask_folder / split / kind).iterdir():
                image = np.array(Image.open(path))
                if kind == "masks":
                    image[:8][image[:8] == 1] = 2
                Image.fromarray(image).save(tmp_path / "m" / split / kind / path.name)
    (tmp_path / "m" / "classes.txt").write_text("left\nright\nupper\n")
    assert train("unet:shallow_unet", *short, "--out", "old", "--void", "255").code == 0
    classes = ("--classes", "left,right=right+upper", "--weights", tmp_path / "old")
    answer = train("unet:shallow_unet", *short, *classes, "--out", "new", "--void", "255")
    assert (answer.code, answer.err) == (0, "")
    found = summary(tmp_path / "new")["regrouped"]
    assert found["calibration"]["on"] == "val"
    assert 0 <= found["summed_probabilities"]["mean_iou"] <= 1
