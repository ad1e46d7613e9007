"""Folders of images with masks: pairs, splits, sizes, and what the values mean."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torch_convae.data import VOID, DataSet, Request, load_data
from torch_convae.errors import ConvaeError

Write = Callable[..., Path]

CAMVID = Path(__file__).parents[2].parent / "shared" / "data" / "camvid"


def held(data: DataSet, split: str = "train") -> list[int]:
    return [int(value) for value in data.splits[split].targets.unique()]


def test_images_and_masks_are_paired_by_stem(tmp_path: Path, picture: Write, mask: Write) -> None:
    for number, name in enumerate(("b", "a", "c")):
        for split in ("train", "test"):
            picture(tmp_path / split / "images" / f"{name}.bmp", 10 * number)
            mask(tmp_path / split / "masks" / f"{name}.png", (0, number))
    data = load_data(Request(str(tmp_path)))
    train = data.splits["train"]
    assert (data.task, data.classes) == ("masks", ("0", "1", "2"))
    assert (train.images.shape, train.targets.shape) == ((3, 3, 6, 4), (3, 6, 4))
    assert train.targets.dtype == torch.uint8
    assert train.images[:, 0, 0, 0].tolist() == [10, 0, 20]
    assert train.targets.amax((1, 2)).tolist() == [1, 0, 2]


MEANINGS = {
    "plain": ([(0, 1, 2)], None, ("0", "1", "2"), [0, 1, 2]),
    "a class no mask shows": ([(0, 3)], None, ("0", "1", "2", "3"), [0, 3]),
    "255 beside two values": ([(0, 1, 2, 255)], None, ("0", "1", "2"), [0, 1, 2, VOID]),
    "255 beside two in several files": ([(0, 255), (1,)], None, ("background", "foreground"), [0, 1, VOID]),
    "0 and 255": ([(0, 255), (0,)], None, ("background", "foreground"), [0, 1]),
    "0 and 1": ([(0, 1)], None, ("background", "foreground"), [0, 1]),
    "void asked for": ([(0, 1, 2, 3)], 3, ("0", "1", "2"), [0, 1, 2, VOID]),
    "void below the classes": ([(0, 1, 2)], 0, ("1", "2"), [0, 1, VOID]),
    "void between the classes": ([(0, 128, 255)], 128, ("background", "foreground"), [0, 1, VOID]),
}


@pytest.mark.parametrize(("values", "void", "names", "targets"), MEANINGS.values(), ids=MEANINGS.keys())
def test_values_without_names_are_understood(
    tmp_path: Path,
    pairs: Write,
    values: list[tuple[int, ...]],
    void: int | None,
    names: tuple[str, ...],
    targets: list[int],
) -> None:
    for split in ("train", "test"):
        pairs(tmp_path / split, *values)
    data = load_data(Request(str(tmp_path), void=void))
    assert data.classes == names
    assert held(data) == held(data, "test") == targets


NAMED = {
    "names": ("sea\nland\nice\n", None, (0, 1), ("sea", "land", "ice"), [0, 1]),
    "a void line": ("void\nsea\nland\n", None, (0, 1, 2), ("sea", "land"), [0, 1, VOID]),
    "0 and 255": ("sea\nland", None, (0, 255), ("sea", "land"), [0, 1]),
    "255 beside two": ("sea\nland", None, (0, 1, 255), ("sea", "land"), [0, 1, VOID]),
    "void asked for wins": ("sea\nland\nvoid", 1, (0, 1, 2), ("sea", "void"), [0, 1, VOID]),
}


@pytest.mark.parametrize(("text", "void", "values", "names", "targets"), NAMED.values(), ids=NAMED.keys())
def test_names_come_from_classes_txt(
    tmp_path: Path,
    pairs: Write,
    text: str,
    void: int | None,
    values: tuple[int, ...],
    names: tuple[str, ...],
    targets: list[int],
) -> None:
    for split in ("train", "test"):
        pairs(tmp_path / split, values)
    (tmp_path / "classes.txt").write_text(text)
    data = load_data(Request(str(tmp_path), void=void))
    assert (data.classes, held(data)) == (names, targets)


def test_a_folder_called_camvid_is_known(tmp_path: Path, pairs: Write) -> None:
    for split in ("train", "test"):
        pairs(tmp_path / "CamVid" / split, (0, 10, 11))
    data = load_data(Request(str(tmp_path / "CamVid")))
    assert (len(data.classes), data.classes[0], data.classes[10]) == (11, "Sky", "Bicyclist")
    assert held(data) == [0, 10, VOID]
    pairs(tmp_path / "CamVid" / "test", (0, 12))
    with pytest.raises(ConvaeError, match=r"test/masks/000\.png holds the value 12, but only 0\.\.10 and 11 for void"):
        load_data(Request(str(tmp_path / "CamVid")))


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the repository")
def test_the_real_camvid_loads() -> None:
    data = load_data(Request(str(CAMVID), size=(96, 128), limit=6))
    for split in ("train", "val", "test"):
        assert data.splits[split].images.shape == (6, 3, 96, 128)
        assert set(held(data, split)) <= {*range(11), VOID}
    share = (data.splits["train"].targets == data.classes.index("Road")).float().mean((0, 2))
    assert share[60:].mean() > 5 * share[:40].mean()  # the road is below


def test_without_test_val_serves_and_without_both_a_fifth_of_train(tmp_path: Path, pairs: Write) -> None:
    pairs(tmp_path / "train", *[(0, 1)] * 10)
    data = load_data(Request(str(tmp_path)))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "test": 2}
    assert not set(data.splits["train"].images[:, 0, 0, 0].tolist()) & set(
        data.splits["test"].images[:, 0, 0, 0].tolist()
    )
    pairs(tmp_path / "val", *[(0, 1)] * 3)
    data = load_data(Request(str(tmp_path)))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 10, "test": 3}


def test_a_limit_is_spread_over_the_sorted_files(tmp_path: Path, pairs: Write) -> None:
    for split in ("train", "test"):
        pairs(tmp_path / split, *[(0, 1)] * 10)
    for seed in (1, 2):
        train = load_data(Request(str(tmp_path), limit=2, seed=seed)).splits["train"]
        assert train.images[:, 0, 0, 0].tolist() == [2, 7]


@pytest.mark.parametrize("mode", ["1", "P", "I;16"])
def test_masks_come_in_every_mode_of_indices(tmp_path: Path, pairs: Write, mode: str) -> None:
    for split in ("train", "test"):
        pairs(tmp_path / split, (0, 1), (0, 1))
    image = Image.new(mode, (4, 6), 1)
    if mode == "P":
        image.putpalette([9, 9, 9, 200, 0, 0])
    image.save(tmp_path / "train" / "masks" / "000.png")
    train = load_data(Request(str(tmp_path))).splits["train"]
    assert train.targets.float().mean((1, 2)).tolist() == [1.0, 0.5]


def test_masks_are_resized_without_new_values(tmp_path: Path, picture: Write) -> None:
    values = np.zeros((40, 40), np.uint8)
    values[:, 20:] = 2
    for split in ("train", "test"):
        picture(tmp_path / split / "images" / "x.png", size=(40, 40))
        (tmp_path / split / "masks").mkdir()
        Image.fromarray(values).save(tmp_path / split / "masks" / "x.png")
    data = load_data(Request(str(tmp_path), size=(7, 10)))
    assert data.splits["train"].targets[0].tolist() == [[0] * 5 + [2] * 5] * 7


def _replace(name: str, image: Image.Image) -> Callable[[Path], object]:
    return lambda folder: image.save(folder / "train" / name, format="JPEG" if image.mode == "YCbCr" else None)


def _save(name: str, image: Image.Image, kind: str | None = None) -> Callable[[Path], object]:
    return lambda folder: image.save(folder / name, format=kind)


def _names(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "classes.txt").write_bytes(content)


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _rename(name: str, other: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).rename(folder / other)


def _pipe(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


IMAGE, MASK = "train/images/001.png", "train/masks/001.png"
GREY, RGB, WIDE = (Image.new(mode, (4, 6), 0) for mode in ("L", "RGB", "I;16"))
WIDE.putpixel((0, 0), 256)
DAMAGE = {
    "no mask": (_remove(MASK), r"images/001\.png has no partner 001\.\* in .*masks; add"),
    "no image": (_remove(IMAGE), r"masks/001\.png has no partner 001\.\* in .*images; add"),
    "a pipe for a mask": (_pipe(MASK), r"images/001\.png has no partner"),
    "no folder of masks": (
        _rename("train/masks", "train/labels"),
        "train/masks is missing; images and masks",
    ),
    "no split": (_rename("train/images", "images"), "images belongs below a split; move it"),
    "two images": (_save("train/images/001.bmp", RGB), r"001\.png and 001\.bmp have one name; rename"),
    "another size": (_save(MASK, GREY.resize((3, 6))), "is 6 x 3 .* its image is 6 x 4; export"),
    "colours": (_save(MASK, RGB), r"001\.png is a mask of mode RGB; save class indices"),
    "a JPEG": (_save(MASK, GREY, "JPEG"), r"masks/001\.png is a JPEG; save masks as PNG"),
    "16 bits": (_save(MASK, WIDE), r"001\.png holds the value 256; .* from 0 to 255"),
    "an unseen value": (
        _save("test/masks/000.png", GREY.point([9] * 256)),
        r"test/masks/000\.png holds the value 9, but only 0\.\.2 are known; .*classes\.txt",
    ),
    "no name": (_names(b"a\n\nb"), r"classes\.txt has no name in line 2; write"),
    "one name twice": (_names(b"a\na"), r"classes\.txt has the name a twice; give"),
    "names not in UTF-8": (_names(b"\xff"), r"classes\.txt cannot be read .*; save it as UTF-8"),
    "too few names": (_names(b"a\nb"), r"000\.png holds the value 2, but only 0\.\.1 are known"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_folder_that_is_not_as_meant_is_refused(
    tmp_path: Path, pairs: Write, damage: Callable[[Path], object], message: str
) -> None:
    for split in ("train", "test"):
        pairs(tmp_path / split, (0, 1, 2), (0, 1, 2))
    damage(tmp_path)
    with pytest.raises(ConvaeError, match=message) as caught:
        load_data(Request(str(tmp_path)))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


FEW = {"one value": ((0,), None), "void and one": ((0, 255), 255), "void 0 and one": ((0, 255), 0)}


@pytest.mark.parametrize(("values", "void"), FEW.values(), ids=FEW.keys())
def test_fewer_than_two_classes_are_refused(
    tmp_path: Path, pairs: Write, values: tuple[int, ...], void: int | None
) -> None:
    pairs(tmp_path / "train", values, values)
    with pytest.raises(ConvaeError, match=f"{tmp_path}: fewer than two classes: .*; check the masks"):
        load_data(Request(str(tmp_path), void=void))


def test_a_255_that_is_neither_void_nor_foreground_is_asked_about(tmp_path: Path, pairs: Write) -> None:
    pairs(tmp_path / "train", (7, 255), (7, 255))
    with pytest.raises(ConvaeError, match="256 classes are one too many beside void; name the void value"):
        load_data(Request(str(tmp_path)))


def test_a_train_of_one_image_cannot_be_split(tmp_path: Path, pairs: Write) -> None:
    pairs(tmp_path / "train", (0, 1))
    with pytest.raises(ConvaeError, match="train holds one image and there is no test; add images"):
        load_data(Request(str(tmp_path)))


@pytest.mark.parametrize("names", ["", "sky\nroad\n", "sky\nroad\ntree\n"])
def test_masks_that_are_void_everywhere_are_refused_for_what_they_are(tmp_path: Path, pairs: Write, names: str) -> None:
    pairs(tmp_path / "train", (255,), (255,))
    if names:
        (tmp_path / "classes.txt").write_text(names)
    with pytest.raises(ConvaeError, match=r"every mask of train is void, the value 255, everywhere"):
        load_data(Request(str(tmp_path)))


def test_a_255_beside_one_of_three_names_is_void(tmp_path: Path, pairs: Write) -> None:
    pairs(tmp_path / "train", (0, 255), (0, 255))
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\n")
    targets = load_data(Request(str(tmp_path))).splits["train"].targets
    assert set(targets.unique().tolist()) == {0, VOID}
