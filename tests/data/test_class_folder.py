"""Folders of images, one for each class."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torch_convae.data import Request, load_data
from torch_convae.errors import ConvaeError

Write = Callable[..., Path]


def test_classes_are_the_sorted_folder_names_and_a_fifth_of_each_is_test(tmp_path: Path, classes: Write) -> None:
    data = load_data(Request(str(classes(tmp_path / "pets", dog=10, cat=5))))
    assert (data.name, data.task, data.classes) == ("pets", "classes", ("cat", "dog"))
    assert data.splits["train"].targets.bincount().tolist() == [4, 8]
    assert data.splits["test"].targets.bincount().tolist() == [1, 2]
    assert data.splits["train"].images.shape == (12, 3, 6, 4)
    assert data.splits["train"].images.dtype == torch.uint8


def test_the_held_out_images_follow_the_seed_and_no_image_is_in_both(tmp_path: Path, classes: Write) -> None:
    folder = str(classes(tmp_path, dog=50, cat=50))

    def held(seed: int) -> list[tuple[int, int]]:
        test = load_data(Request(folder, seed=seed)).splits["test"]
        return list(zip(test.targets.tolist(), test.images[:, 0, 0, 0].tolist(), strict=True))

    assert held(1) == held(1)
    assert held(1) != held(2)
    train = load_data(Request(folder, seed=1)).splits["train"]
    seen = set(zip(train.targets.tolist(), train.images[:, 0, 0, 0].tolist(), strict=True))
    assert len(seen) == 80
    assert not seen & set(held(1))


def test_train_test_and_val_folders_are_splits(tmp_path: Path, classes: Write) -> None:
    for split, count in (("train", 4), ("test", 2), ("val", 3)):
        classes(tmp_path / split, a=count, b=count)
    data = load_data(Request(str(tmp_path), limit=5))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 5, "val": 5, "test": 4}
    assert data.splits["train"].targets.bincount().tolist() == [2, 3]


def test_val_serves_as_test_where_there_is_none(tmp_path: Path, classes: Write) -> None:
    classes(tmp_path / "train", a=4, b=4)
    classes(tmp_path / "val", a=1, b=2)
    data = load_data(Request(str(tmp_path)))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "test": 3}


def test_train_alone_is_split(tmp_path: Path, classes: Write) -> None:
    data = load_data(Request(str(classes(tmp_path / "train", a=5, b=5).parent)))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "test": 2}


def test_a_class_may_be_called_train(tmp_path: Path, classes: Write) -> None:
    assert load_data(Request(str(classes(tmp_path, train=2, tram=2)))).classes == ("train", "tram")


def test_a_small_class_gives_its_share_of_the_limit_to_the_others(tmp_path: Path, classes: Write) -> None:
    classes(tmp_path / "train", a=1, b=9, c=9)
    classes(tmp_path / "test", a=1, b=1, c=1)
    data = load_data(Request(str(tmp_path), limit=9))
    assert data.splits["train"].targets.bincount().tolist() == [1, 4, 4]


def test_hidden_files_notes_and_pipes_are_left_out(tmp_path: Path, classes: Write) -> None:
    classes(tmp_path, a=2, b=2)
    (tmp_path / ".git").mkdir()
    (tmp_path / "readme.md").touch()
    for name in (".DS_Store", "._x.png", "Thumbs.db", "notes.TXT", "boxes.json", "boxes.csv"):
        (tmp_path / "a" / name).touch()
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert len(load_data(Request(str(tmp_path))).splits["train"]) == 2


def _put(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.write_bytes(b"not a picture")

    return damage


DAMAGE = {
    "one class": (lambda folder: (folder / "b").rename(folder / ".b"), "two or more classes; found only a"),
    "an empty class": (lambda folder: (folder / "c").mkdir(), "c holds no images; put some there"),
    "a class of one": (
        lambda folder: (folder / "a" / "000.png").unlink(),
        "class a has one image, .*; add images",
    ),
    "a nested folder": (_put("a/deeper/x.png"), "deeper is a folder where images are due; move"),
    "a loose image": (_put("x.png"), r"x\.png lies beside folders, in none of them; move"),
    "another file": (_put("a/x.zip"), r"x\.zip has no ending of an image; convert"),
    "no picture": (_put("a/x.png"), r"a/x\.png cannot be decoded .*; repair"),
    "a dead link": (
        lambda folder: (folder / "a" / "x.png").symlink_to("gone"),
        r"x\.png is a link to nothing",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_folder_that_is_not_as_meant_is_refused(
    tmp_path: Path, classes: Write, damage: Callable[[Path], object], message: str
) -> None:
    damage(classes(tmp_path, a=2, b=2))
    with pytest.raises(ConvaeError, match=message) as caught:
        load_data(Request(str(tmp_path)))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_splits_with_other_classes_are_refused(tmp_path: Path, classes: Write) -> None:
    classes(tmp_path / "train", a=1, b=1)
    classes(tmp_path / "test", a=1, c=1)
    with pytest.raises(ConvaeError, match="class c is in test but not in train; splits need the same"):
        load_data(Request(str(tmp_path)))


def test_a_split_of_another_name_is_not_passed_over(tmp_path: Path, classes: Write) -> None:
    classes(tmp_path / "train", a=2, b=2)
    classes(tmp_path / "valid", a=2, b=2)
    with pytest.raises(ConvaeError, match="valid lies beside train; call it val or test"):
        load_data(Request(str(tmp_path)))


def test_a_void_value_means_nothing_without_masks(tmp_path: Path, classes: Write) -> None:
    with pytest.raises(ConvaeError, match="no masks; leave --void 5 out"):
        load_data(Request(str(classes(tmp_path, a=2, b=2)), void=5))


def test_more_than_memory_holds_is_refused_before_decoding(tmp_path: Path, classes: Write) -> None:
    with pytest.raises(ConvaeError, match="GiB of memory, more than 8 GiB; use a smaller --size or a --limit"):
        load_data(Request(str(classes(tmp_path, a=2, b=2)), size=(40_000, 40_000)))
