"""A folder that holds the four IDX files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_convae.data import Request, load_data
from torch_convae.data.dataset import FASHION_MNIST_CLASSES
from torch_convae.data.idx import idx_bytes
from torch_convae.errors import ConvaeError

Write = Callable[..., Path]


@pytest.mark.parametrize("place", [".", "raw", "FashionMNIST/raw", "MNIST/raw"])
def test_the_four_files_are_found_in_each_usual_place(tmp_path: Path, idx_set: Write, place: str) -> None:
    idx_set(tmp_path / "mine" / place)
    data = load_data(Request(str(tmp_path / "mine")))
    assert (data.name, data.task) == ("mine", "classes")
    assert data.classes == (FASHION_MNIST_CLASSES if "Fashion" in place else ("0", "1", "2"))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 20, "test": 10}
    train = data.splits["train"]
    assert train.images.shape == (20, 1, 8, 6)
    assert (train.images.dtype, train.targets.dtype) == (torch.uint8, torch.int64)
    assert torch.equal(train.images[:, 0, 0, 0].long(), train.targets * 10)


def test_a_limit_is_even_over_the_classes_and_a_size_resizes(tmp_path: Path, idx_set: Write) -> None:
    data = load_data(Request(str(idx_set(tmp_path)), size=(5, 9), limit=6))
    for split in data.splits.values():
        assert split.images.shape == (6, 1, 5, 9)
        assert split.targets.bincount().tolist() == [2, 2, 2]
        assert torch.equal(split.images[:, 0, 2, 2].long(), split.targets * 10)


def test_three_of_four_files_are_refused_by_the_name_of_the_fourth(tmp_path: Path, idx_set: Write) -> None:
    idx_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ConvaeError, match=r"lacks t10k-labels-idx1-ubyte .*; put it there"):
        load_data(Request(str(tmp_path)))


def test_two_sets_below_one_folder_are_refused(tmp_path: Path, idx_set: Write) -> None:
    idx_set(tmp_path / "MNIST" / "raw")
    idx_set(tmp_path / "FashionMNIST" / "raw")
    with pytest.raises(ConvaeError, match=r"several places; name one of them: .*FashionMNIST/raw or .*MNIST/raw"):
        load_data(Request(str(tmp_path)))


def test_as_many_labels_as_images_are_wanted(tmp_path: Path, idx_set: Write) -> None:
    idx_set(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(19, np.uint8)))
    with pytest.raises(ConvaeError, match=r"train-images.* holds 20 images but .*train-labels.* 19 labels; take"):
        load_data(Request(str(tmp_path)))


def test_a_label_that_train_does_not_know_is_refused(tmp_path: Path, idx_set: Write) -> None:
    idx_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(10, 7, np.uint8)))
    with pytest.raises(ConvaeError, match=r"t10k-labels.* holds label 7, outside 0\.\.2; check"):
        load_data(Request(str(tmp_path)))


def test_one_class_is_refused(tmp_path: Path, idx_set: Write) -> None:
    with pytest.raises(ConvaeError, match=r"train-labels.* fewer than two classes"):
        load_data(Request(str(idx_set(tmp_path, classes=1))))


def test_no_images_are_refused(tmp_path: Path, idx_set: Write) -> None:
    with pytest.raises(ConvaeError, match=r"t10k-images.* holds no pixels"):
        load_data(Request(str(idx_set(tmp_path, counts=(20, 0)))))


def test_train_and_test_of_two_sizes_want_a_size(tmp_path: Path, idx_set: Write) -> None:
    idx_set(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((10, 5, 5), np.uint8)))
    with pytest.raises(ConvaeError, match=r"t10k-images.* of \(5, 5\); pass a --size"):
        load_data(Request(str(tmp_path)))
    assert load_data(Request(str(tmp_path), size=(4, 4))).splits["test"].images.shape == (10, 1, 4, 4)


def test_a_resize_beyond_memory_is_refused(tmp_path: Path, idx_set: Write) -> None:
    with pytest.raises(ConvaeError, match=r"18.6 GiB of memory, more than 8 GiB; use a smaller --size or a --limit"):
        load_data(Request(str(idx_set(tmp_path)), size=(10**5, 10**4)))
