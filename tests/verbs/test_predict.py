"""python -m torch_convae.predict: its tables and pictures, and what it does with files that are none."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from predicted import NAMES, drawn, table

import torch_convae
from torch_convae.pictures.colours import class_colours


def pixels(path: Path) -> torch.Tensor:
    array = np.array(drawn(path))
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)[None]


def test_classes_come_with_their_probabilities(run: Any, command: Any, pictures: Any) -> None:
    folder = run("convae-classifier")
    answer = command("predict", folder, pictures(5, grey=True), "--out", "out", "--batch-size", 2)
    assert (answer.code, answer.err) == (0, "")
    lines = table(Path("out/classes.csv"))
    assert [Path(line["file"]).name for line in lines] == [f"{index}.png" for index in range(5)]
    model = torch_convae.load(folder)
    for line in lines:
        expected = model.predict(pixels(Path(line["file"])))[0]
        np.testing.assert_allclose([float(line[name]) for name in NAMES], expected.numpy(), atol=2e-6)
        assert line["class"] == NAMES[int(expected.argmax())]


@pytest.mark.parametrize("name", ["shallow_unet", "vgg_segnet", "segnet", "azavea_unet"])
def test_masks_are_what_the_network_predicts_with_a_palette_and_an_overlay(
    name: str, run: Any, command: Any, pictures: Any
) -> None:
    folder = run(name)
    answer = command("predict", folder, pictures(3, (32, 48)), "--out", "out")
    assert (answer.code, answer.err) == (0, "")
    model, lines = torch_convae.load(folder), table(Path("out/masks.csv"))
    for line in lines:
        given = model.predict(pixels(Path(line["file"])))
        given = torch.nn.functional.interpolate(given, (32, 48), mode="bilinear") if name == "vgg_segnet" else given
        expected = given[0].argmax(0).numpy()
        mask = drawn(f"out/masks/{line['picture']}")
        assert mask.mode == "P"
        assert (np.array(mask) == expected).mean() > 0.999  # batches of other sizes round otherwise
        np.testing.assert_array_equal(np.array(mask.convert("RGB")), class_colours(3)[np.array(mask)])
        assert drawn(f"out/overlays/{line['picture']}").size == (48, 32)
        shares = [float(line[name]) for name in NAMES]
        np.testing.assert_allclose(shares, [(np.array(mask) == index).mean() for index in range(3)], atol=1e-6)


def test_reconstructions_come_with_their_errors(run: Any, command: Any, pictures: Any) -> None:
    folder = run("convae")
    assert command("predict", folder, pictures(2, grey=True), "--out", "out").code == 0
    model = torch_convae.load(folder)
    for line in table(Path("out/reconstructions.csv")):
        image = pixels(Path(line["file"]))
        expected = model.predict(image)
        made = np.array(drawn(f"out/reconstructions/{line['picture']}"))
        np.testing.assert_allclose(made, expected[0, 0].numpy() * 255, atol=0.51)
        assert float(line["mean_squared_error"]) == pytest.approx(float((expected - image / 255).square().mean()), 1e-4)
        assert drawn(f"out/errors/{line['picture']}").mode == "RGB"


def test_a_bayesian_segnet_says_how_sure_it_is_and_the_same_again(run: Any, command: Any, pictures: Any) -> None:
    folder, images = run("bayesian_segnet"), pictures(1)
    found = []
    for out in ("one", "two"):
        assert command("predict", folder, images, "--out", out, "--samples", 3).code == 0
        found.append((Path(out) / "uncertainty" / "0.png").read_bytes())
    assert found[0] == found[1]
    assert float(table(Path("one/masks.csv"))[0]["uncertainty"]) > 0


def test_a_run_that_is_called_like_a_model_is_the_run(run: Any, command: Any, pictures: Any, tmp_path: Path) -> None:
    run("convae-classifier").rename(tmp_path / "convae")
    answer = command("predict", "convae", pictures(1, grey=True), "--out", "out")
    assert (answer.code, answer.err) == (0, "")
    assert "classes of 1 images" in answer.out


def test_what_a_command_made_is_not_predicted_the_next_time(run: Any, command: Any, pictures: Any) -> None:
    folder, images = run("shallow_unet"), pictures(2)
    for _ in range(2):
        answer = command("predict", folder, images, "--out", images / "predictions")
        assert "masks of 2 images" in answer.out
    layer = "max_pooling2d"
    for _ in range(2):
        assert command("features", folder, images, "--layer", layer, "--out", images / "features.npz").code == 0


def test_frames_and_sequences_in_one_folder_are_refused(run: Any, command: Any, pictures: Any) -> None:
    folder = run("encoder_gru")
    pictures(2, folder="clip", grey=True)
    pictures(2, folder="clip/thumbs", grey=True)
    assert "0.png lies beside" in command("predict", folder, "clip", "--out", "out").line


def test_a_sequence_has_no_mirror_image(run: Any, command: Any, pictures: Any) -> None:
    folder = run("encoder_gru")
    pictures(2, folder="clips/one", grey=True)
    assert "--flips is for images" in command("predict", folder, "clips", "--flips", "--out", "out").line


def test_a_batch_with_bad_files_finishes_the_others_and_lists_them(run: Any, command: Any, pictures: Any) -> None:
    folder, images = run("convae-classifier"), pictures(30, grey=True)
    (images / "10.png").write_bytes((images / "10.png").read_bytes()[:60])
    (images / "11.png").write_text("no picture")
    (images / "loop.png").symlink_to("loop.png")
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(images / "12.png")
    (images / ".hidden.png").write_text("hidden")
    (images / "notes.txt").write_text("notes")
    (images / "deeper").symlink_to(images)
    os.mkfifo(images / "pipe.png")
    answer = command("predict", folder, images, "--out", "out")
    assert answer.code == 1
    bad = ("10.png", "11.png", "12.png", "loop.png")
    assert [any(name in line for line in answer.err.splitlines()) for name in bad] == [True] * 4
    assert len(answer.err.splitlines()) == 4
    assert len(table(Path("out/classes.csv"))) == 27
    assert len(Path("out/failed.txt").read_text().splitlines()) == 4


def test_images_of_every_kind_are_read_as_training_reads_them(run: Any, command: Any, pictures: Any) -> None:
    folder, images = run("vgg16"), pictures(1, (40, 32))
    picture = drawn(images / "0.png")
    turned = Image.Exif()
    turned[0x112] = 6
    picture.rotate(90, expand=True).save(images / "exif.png", exif=turned)
    picture.convert("RGBA").save(images / "alpha.png")
    picture.convert("CMYK").save(images / "cmyk.tif")
    picture.quantize(16).save(images / "palette.png")
    answer = command("predict", folder, images, "--out", "out")
    assert (answer.code, answer.err) == (0, "")
    lines = {Path(line["file"]).name: line for line in table(Path("out/classes.csv"))}
    assert len(lines) == 5
    for same in ("exif.png", "alpha.png"):
        assert lines[same]["probability"] == lines["0.png"]["probability"]


def test_pictures_of_one_name_do_not_overwrite_each_other(run: Any, command: Any, pictures: Any) -> None:
    folder, images = run("shallow_unet"), pictures(1)
    drawn(images / "0.png").save(images / "0.bmp")
    drawn(images / "0.png").save(images / "0.png-2.png")
    other = pictures(1, folder="other")
    assert command("predict", folder, images, other / "0.png", "--out", "out").code == 0
    assert len(list(Path("out/masks").rglob("*.png"))) == 4


def test_what_others_made_is_not_overwritten(run: Any, command: Any, pictures: Any) -> None:
    folder, images = run("convae-classifier"), pictures(1, grey=True)
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")
    line = command("predict", folder, images, "--out", "out").line
    assert "out holds thesis.txt" in line
    assert "--overwrite" in line
    assert command("predict", folder, images, "--out", "out", "--overwrite").code == 0
    assert Path("out/thesis.txt").read_text() == "mine"
    assert command("predict", folder, images, "--out", "out").code == 0  # its own it replaces


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no FILES"),
        (("nowhere.png",), "nowhere.png"),
        (("pictures", "--window", "8"), "--window"),
        (("pictures", "--size", "0"), "--size"),
        (("pictures", "--largest", "0.0001"), "million pixels"),
        (("pictures", "--batch-size", "0"), "--batch-size"),
        (("pictures", "--samples", "0"), "--samples 0 is not a number of passes"),
        (("pictures", "--samples", "1"), "--samples 1 is one pass"),
        (("pictures", "--seed", str(2**64)), f"--seed {2**64} does not fit into 64 bits"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], said: str, run: Any, command: Any, pictures: Any
) -> None:
    folder = run("convae-classifier")
    pictures(1, grey=True)
    assert said in command("predict", folder, *arguments, "--out", "out").line
    assert not Path("out").exists()


def test_a_network_without_an_answer_is_refused(command: Any, pictures: Any) -> None:
    assert "features" in command("predict", "vgg16", pictures(1)).line


def test_a_class_that_is_called_like_a_column_has_one_beside_it(run: Any, command: Any, pictures: Any) -> None:
    names = ("file", "probability", "class", "class (class)")
    folder = run("convae-classifier", names, classes=4)
    assert command("predict", folder, pictures(2, grey=True), "--out", "classes").code == 0
    lines = table(Path("classes/classes.csv"))
    marked = ["file (class)", "probability (class)", "class (class) (class)", "class (class)"]
    assert list(lines[0]) == ["file", "class", "probability", *marked]
    assert [Path(line["file"]).name for line in lines] == ["0.png", "1.png"]
    for line in lines:
        assert line["class"] in names
        assert line["probability"] == line[marked[names.index(line["class"])]]
    folder = run("bayesian_segnet", ("height", "picture", "uncertainty"))
    assert command("predict", folder, pictures(1, (32, 48)), "--samples", 2, "--out", "masks").code == 0
    line = table(Path("masks/masks.csv"))[0]
    assert (line["picture"], line["height"], line["width"]) == ("0.png", "32", "48")
    assert sum(float(line[f"{name} (class)"]) for name in ("height", "picture", "uncertainty")) == pytest.approx(1)
    assert 0 < float(line["uncertainty"]) < 0.25


def test_the_share_of_one_class_is_that_of_its_foreground(run: Any, command: Any, pictures: Any) -> None:
    folder = run("jocicmarko_unet", ("cell",), classes=1)
    assert command("predict", folder, pictures(1, grey=True), "--out", "out").code == 0
    line = table(Path("out/masks.csv"))[0]
    assert float(line["cell"]) == pytest.approx((np.array(drawn("out/masks/0.png")) == 1).mean(), abs=1e-6)


def test_an_image_is_no_sequence(run: Any, command: Any, pictures: Any) -> None:
    line = command("predict", run("encoder_gru"), pictures(1, grey=True) / "0.png", "--out", "out").line
    assert "0.png is no sequence. Name a folder of frames, or an .npy array (T, H, W, 1) of uint8." in line
    assert not Path("out").exists()


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_layers_that_the_given_weights_have_nothing_for_answer_nothing(
    verb: str, command: Any, pictures: Any, headless: tuple[str, ...]
) -> None:
    answer = command(verb, *headless, pictures(1, (32, 32)), "--out", "said")
    assert answer.code == 2
    assert "has no weights for head.fc1 and 2 more layers, whose random numbers would answer" in answer.line
    assert not Path("said").exists()
