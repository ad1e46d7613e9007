"""Images of every size and kind: by windows, mapped, resized, decoded once, and read as training reads them."""

import io
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from predicted import NAMES, drawn, table

import torch_convae
from torch_convae.predict import Windows, grow, slide
from torch_convae.verbs import rasters
from torch_convae.verbs.rasters import raster


def pixels(path: Path) -> torch.Tensor:
    array = np.array(drawn(path))
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)[None]


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
