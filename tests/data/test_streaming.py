"""Splits read from files while they are used: the same bits as in memory, and no process left behind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torch_convae.data import DataSet, Request, Split, load_data
from torch_convae.errors import ConvaeError

Write = Callable[..., Path]


@pytest.fixture
def masked(tmp_path: Path, pairs: Write) -> Path:
    """Images with masks of classes 0, 1 and void 255; the last of train lies on its side."""
    folder = tmp_path / "masked"
    pairs(folder / "train", (0, 1, 255), (0, 1), (1, 0), (0, 0, 1))
    pairs(folder / "test", (0, 1, 255), (1, 0))
    for kind, suffix, mode in (("images", "jpg", "RGB"), ("masks", "png", "L")):
        (folder / "train" / kind / "003.png").unlink()
        numbers = np.random.default_rng(1).integers(0, 2, (4, 6), np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        target = folder / "train" / kind / f"003.{suffix}"
        Image.fromarray(numbers).convert(mode).save(target, exif=exif)
    return folder


def both(folder: Path, workers: int, **options: object) -> tuple[DataSet, DataSet]:
    """The data in memory, and read by so many processes."""
    return tuple(load_data(Request(str(folder), workers=number, **options)) for number in (None, workers))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", [None, (5, 3)])
def test_masks_come_from_files_as_they_are_held_in_memory(
    masked: Path, workers: int, size: tuple[int, int] | None
) -> None:
    held, streamed = both(masked, workers, size=size)
    assert streamed.classes == held.classes
    assert streamed.image_shape == held.image_shape
    order = [torch.tensor([3, 0]), torch.tensor([1]), torch.tensor([2, 1, 3])]
    for split in ("train", "test"):
        assert streamed.splits[split].shape == held.splits[split].shape
    ours, theirs = (list(data.splits["train"].batches(order)) for data in (streamed, held))
    assert len(ours) == 3
    for batch, expected in zip(ours, theirs, strict=True):
        for got, due in zip(batch, expected, strict=True):
            assert torch.equal(got, due)
            assert got.dtype == due.dtype
    assert torch.equal(torch.cat(list(streamed.splits["test"].all_targets())), held.splits["test"].targets)


@pytest.mark.parametrize("workers", [0, 3])
def test_classes_come_from_files_as_they_are_held_in_memory(tmp_path: Path, classes: Write, workers: int) -> None:
    held, streamed = both(classes(tmp_path / "c", a=5, b=7), workers, limit=6)
    for name, split in held.splits.items():
        assert isinstance(split, Split)
        indices = torch.arange(len(split)).flip(0)
        images, targets = streamed.splits[name].take(indices)
        assert torch.equal(images, split.images.flip(0))
        assert torch.equal(targets, split.targets.flip(0))
        ((images, targets, same),) = streamed.splits[name].batches([indices])
        assert torch.equal(images, split.images.flip(0))
        assert torch.equal(targets, split.targets.flip(0))
        assert torch.equal(same, indices)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_meanwhile_is_named_in_one_line(tmp_path: Path, classes: Write, workers: int) -> None:
    folder = classes(tmp_path / "c", a=4, b=4)
    train = load_data(Request(str(folder), workers=workers)).splits["train"]
    for path in folder.glob("a/*.png"):
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConvaeError, match=r"\.png cannot be decoded \([^\n]*\); repair it, or remove it\.$"):
        list(train.batches([torch.arange(len(train))]))


def test_a_mask_of_another_size_or_value_is_refused_before_anything_is_read(masked: Path, mask: Write) -> None:
    mask(masked / "train" / "masks" / "001.png", size=(4, 6))
    with pytest.raises(ConvaeError, match=r"001\.png is 4 x 6 .* but its image is 6 x 4"):
        load_data(Request(str(masked), workers=0))
    (masked / "classes.txt").write_text("a\nb\n")
    mask(masked / "train" / "masks" / "001.png", (0, 1, 9))
    with pytest.raises(ConvaeError, match=r"001\.png holds the value 9"):
        load_data(Request(str(masked), workers=0, void=255))


def test_what_does_not_fit_into_memory_is_read_from_files(masked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch_convae.data.memory.LARGEST", 100)
    with pytest.raises(ConvaeError, match=r"--workers"):
        load_data(Request(str(masked)))
    assert len(load_data(Request(str(masked), workers=0)).splits["train"]) == 4


def test_workers_for_data_that_is_held_in_memory_are_refused(tmp_path: Path, idx_set: Write) -> None:
    with pytest.raises(ConvaeError, match=r"held in memory; leave --workers 2 out"):
        load_data(Request(str(idx_set(tmp_path / "idx")), workers=2))
    with pytest.raises(ConvaeError, match=r"workers -1 is no number"):
        load_data(Request("fashion-mnist-mini", workers=-1))
