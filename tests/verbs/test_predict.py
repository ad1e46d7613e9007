"""python -m torch_convae.predict: its tables and pictures, and what it does with files that are none."""

import csv
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import torch_convae
from torch_convae.pictures.colours import class_colours
from torch_convae.predict import Windows, grow, slide
from torch_convae.verbs import rasters
from torch_convae.verbs.rasters import raster
from torch_convae.weights import save_model

from .conftest import SMALL

NAMES = ("sky", "road", "tree")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Writes what a finished run leaves to predict with."""

    def write(name: str, names: tuple[str, ...] = NAMES, **options: Any) -> Path:
        torch.manual_seed(0)
        chosen = SMALL.get(name, {}) | options
        model = torch_convae.create(name, **chosen)
        (tmp_path / "run").mkdir(exist_ok=True)
        header = {
            "model": name,
            "options": json.dumps(chosen),
            "preprocessing": model.preprocessing.mode,
            "classes": json.dumps(names if "classes" in chosen else []),
            "image_size": "[32, 32]",
        }
        save_model(model, tmp_path / "run" / "model.safetensors", header)
        return tmp_path / "run"

    return write


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def drawn(path: str | Path) -> Image.Image:
    """The picture in a file, which is closed again."""
    with Image.open(path) as image:
        return image.copy()


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


def test_flips_give_the_mean_over_the_mirror_images(run: Any, command: Any, pictures: Any) -> None:
    folder = run("convae-classifier")
    assert command("predict", folder, pictures(1, grey=True), "--out", "out", "--flips").code == 0
    model, image = torch_convae.load(folder), pixels(Path("pictures/0.png"))
    expected = sum(model.predict(image.flip(axes))[0] for axes in ((), (2,), (3,), (2, 3))) / 4
    line = table(Path("out/classes.csv"))[0]
    np.testing.assert_allclose([float(line[name]) for name in NAMES], expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("size", [(40, 70), (64, 33), (100, 64)])
def test_windows_cover_every_pixel_and_agree_where_the_answer_is_the_pixels_own(
    size: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "image.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    seen = []

    def answer(tile: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(tile.shape))
        return torch.cat([tile.float(), tile.float().sum(1, keepdim=True)], dim=1)

    with raster(path, 3) as image:
        bands = list(slide(image, Windows(32, 8), answer))
    assert [top for top, _ in bands] == list(np.cumsum([0, *(band.shape[1] for _, band in bands)])[:-1])
    expected = answer(torch.from_numpy(np.load(path)).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(torch.cat([band for _, band in bands], dim=1), expected)
    assert {shape[2:] for shape in seen[:-1]} == {(32, 32)}


def test_neighbouring_windows_fade_into_each_other(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((32, 56, 1), np.uint8))
    count = iter(range(9))
    with raster(tmp_path / "image.npy", 1) as image:
        bands = list(
            slide(image, Windows(32, 8), lambda tile: torch.full_like(tile, 1.0 * next(count), dtype=torch.float))
        )
    row = torch.cat([band for _, band in bands], dim=1)[0, 16]
    assert bool((row.diff() >= 0).all())
    assert float(row.diff().max()) < 0.2
    assert (float(row[23]), float(row[32])) == (0.0, 1.0)


def test_answers_grow_as_pytorch_grows_them() -> None:
    small = torch.rand(2, 9, 7)
    bands = torch.cat([band for _, band in grow(small, (300, 50))], dim=1)
    expected = torch.nn.functional.interpolate(small[None], (300, 50), mode="bilinear")[0]
    torch.testing.assert_close(bands, expected)


def test_a_large_image_goes_by_windows_and_a_mapped_one_gives_the_same(run: Any, command: Any, pictures: Any) -> None:
    folder, images = run("shallow_unet"), pictures(1, (80, 100))
    picture = drawn(images / "0.png")
    picture.save(images / "1.tif")
    np.save(images / "2.npy", np.array(picture))
    assert command("predict", folder, images, "--window", 32, "--overlap", 8, "--out", "out").code == 0
    masks = [np.array(drawn(f"out/masks/{index}.png")) for index in range(3)]
    assert masks[0].shape == (80, 100)
    assert len(np.unique(masks[0])) > 1
    assert all(np.array_equal(mask, masks[0]) for mask in masks)


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


def test_of_large_images_one_is_open_at_a_time(tmp_path: Path, pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(4, (20, 30))
    monkeypatch.setattr(rasters, "ALONE", 500)
    open_now, most = [], []
    upright = rasters.upright

    def slowly(image: Image.Image, grey: bool) -> Image.Image:
        open_now.append(image)
        time.sleep(0.02)
        most.append(len(open_now))
        open_now.remove(image)
        return upright(image, grey)

    monkeypatch.setattr(rasters, "upright", slowly)
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda path: rasters.read_pixels(path, 3, (5, 5)), sorted(tmp_path.glob("*/*.png"))))
    assert [tuple(one.shape) for one in given] == [(3, 5, 5)] * 4
    assert max(most) == 1


@pytest.mark.parametrize("options", [("--window", "32", "--overlap", "8"), ("--size", "32")])
def test_an_image_that_goes_by_windows_or_is_resized_is_decoded_once(
    options: tuple[str, ...], run: Any, command: Any, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    upright = rasters.upright
    monkeypatch.setattr(rasters, "upright", lambda image, grey: decoded.append(1) or upright(image, grey))
    assert command("predict", run("shallow_unet"), pictures(2, (48, 48)), *options, "--out", "out").code == 0
    assert len(decoded) == 2


def test_a_large_image_that_is_cut_off_leaves_nothing(run: Any, command: Any, pictures: Any) -> None:
    folder, images = run("shallow_unet"), pictures(1, (80, 80))
    (images / "0.png").write_bytes((images / "0.png").read_bytes()[:5000])
    line = command("predict", folder, images, "--window", 32, "--overlap", 8, "--size", 32, "--out", "out").line
    assert line.count("0.png") == 1
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_raster_of_10000_by_10000_takes_less_than_2_gigabytes(run: Any, tmp_path: Path) -> None:
    folder = run("shallow_unet")
    tile = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    Image.fromarray(np.tile(tile, (20, 20, 1))).save(tmp_path / "large.png", compress_level=1)
    command = [sys.executable, "-m", "torch_convae.predict", str(folder), "large.png", "--out", "out"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * 10**9 / 1024
    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    try:
        assert drawn(tmp_path / "out" / "masks" / "large.png").size == (10_000, 10_000)
    finally:
        Image.MAX_IMAGE_PIXELS = before


def test_a_sequence_is_a_folder_of_frames_or_an_array_and_each_has_its_values(
    run: Any, command: Any, pictures: Any, tmp_path: Path
) -> None:
    folder = run("encoder_gru")
    frames = pictures(4, folder="clips/first", grey=True)
    pictures(3, folder="clips/second", grey=True)
    array = np.stack([np.array(drawn(path)) for path in sorted(frames.iterdir())])
    np.save(tmp_path / "clips" / "third.npy", array)
    (tmp_path / "clips" / "empty").mkdir()
    answer = command("predict", folder, "clips", "--out", "out")
    assert answer.code == 1
    assert "empty holds no images" in answer.err
    assert "values of 3 sequences" in answer.out
    lines = table(Path("out/values.csv"))
    assert [Path(line["file"]).name for line in lines] == ["first", "second", "third.npy"]
    expected = torch_convae.load(folder).predict(torch.from_numpy(array)[None, :, None])[0]
    for line in (lines[0], lines[2]):
        given = [float(line["value_0"]), float(line["value_1"])]
        np.testing.assert_allclose(given, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_images_of_another_size_are_resized_where_the_network_takes_one_alone(
    run: Any, command: Any, pictures: Any
) -> None:
    answer = command("predict", run("conv_vae"), pictures(1, (40, 48), grey=True), "--out", "out")
    assert (answer.code, answer.err) == (0, "")
    assert "shown at 32 x 32" in answer.out
    assert drawn("out/reconstructions/0.png").size == (48, 40)


def test_a_name_that_is_no_utf_8_keeps_its_bytes(
    run: Any, pictures: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, images = run("convae-classifier"), pictures(1, grey=True)
    (images / "0.png").rename(images / os.fsdecode(b"caf\xe9.png"))
    (images / os.fsdecode(b"bro\xe9ken.png")).write_text("no picture")
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, "utf-8"))
    answer = command("predict", folder, "pictures", "--out", os.fsdecode(b"\xe9t\xe9"))
    assert answer.code == 1
    assert answer.err.startswith("torch_convae.predict: pictures/bro?ken.png cannot be decoded")
    assert said.getvalue().startswith(b"\xe9t\xe9: classes of 1 images")
    out = Path(os.fsdecode(b"\xe9t\xe9"))
    assert b"pictures/caf\xe9.png" in (out / "classes.csv").read_bytes()
    assert (out / "failed.txt").read_bytes().startswith(b"pictures/bro\xe9ken.png cannot be decoded")


@pytest.mark.parametrize(("name", "options"), [("convae-classifier", {"classes": 4}), ("shallow_unet", {"classes": 2})])
def test_classes_that_are_not_the_networks_are_refused_when_it_is_loaded(
    name: str, options: dict[str, int], run: Any, command: Any, pictures: Any
) -> None:
    folder, images = run(name, **options), pictures(1, grey=name == "convae-classifier")
    line = command("predict", folder, images, "--out", "out").line
    assert f"names 3 classes (sky, road, tree), but its network gives {options['classes']}" in line
    assert not Path("out").exists()


def test_a_resized_image_can_be_written_to_as_pytorch_wants_it(pictures: Any) -> None:
    grey = np.zeros((8, 9, 1), np.uint8)
    assert rasters.resized(grey, (4, 4)).flags.writeable
    with raster(pictures(1, grey=True) / "0.png", 1) as image:
        assert image.whole((4, 4)).flags.writeable


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
