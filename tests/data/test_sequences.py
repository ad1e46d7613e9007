"""Sequences: those that are generated, and folders of frames."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torch_convae.data import Request, Split, load_data
from torch_convae.errors import ConvaeError


def test_sprites_move_as_fast_as_is_said_of_them() -> None:
    data = load_data(Request("moving-sprites", size=(48, 64), limit=40))
    train = data.splits["train"]
    assert isinstance(train, Split)
    assert (train.shape, train.images.dtype, train.targets.dtype) == ((40, 8, 1, 48, 64), torch.uint8, torch.float32)
    frames = train.images[:, :, 0].double()
    weight = frames.sum((2, 3))
    across = (frames.sum(2) * (torch.arange(64) + 0.5)).sum(2) / weight / 64
    down = (frames.sum(3) * (torch.arange(48) + 0.5)).sum(2) / weight / 48
    speeds = torch.stack([across.diff(dim=1), down.diff(dim=1)], dim=-1) * 16
    torch.testing.assert_close(speeds, train.targets[:, None].expand_as(speeds).double(), rtol=0, atol=0.05)
    assert train.targets.abs().max() > 0.8


def test_sprites_follow_from_the_seed() -> None:
    one, same, other = (load_data(Request("moving-sprites", seed=seed, limit=8)).splits for seed in (1, 1, 2))
    assert torch.equal(one["train"].images, same["train"].images)  # type: ignore[union-attr]
    assert not torch.equal(one["train"].images, other["train"].images)  # type: ignore[union-attr]
    assert not torch.equal(one["train"].images, one["test"].images)  # type: ignore[union-attr]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sequences of three frames below train, one below test."""
    for split, names in (("train", "ab"), ("test", "c")):
        for rank, name in enumerate(names):
            for frame in range(3):
                path = tmp_path / split / "sequences" / name / f"{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((4, 6), 10 * rank + frame, np.uint8)).save(path)
        lines = [f"{name},{rank + 0.5},{-rank}" for rank, name in enumerate(names)]
        (tmp_path / split / "targets.csv").write_text("\n".join(["sequence,speed,turn", *lines]) + "\n")
    return tmp_path


def test_frames_are_in_the_order_of_the_numbers_in_their_names(folder: Path) -> None:
    for path in folder.glob("*/sequences/*/*.png"):
        path.rename(path.with_name(f"frame {8 + int(path.stem)}.png"))  # 8, 9, 10
    images, _ = load_data(Request(str(folder))).splits["train"].take(torch.arange(1))
    assert images[0, :, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_folder_of_sequences_is_read_with_its_values(folder: Path) -> None:
    held, streamed = (load_data(Request(str(folder), workers=workers)) for workers in (None, 0))
    assert (held.task, held.classes) == ("sequences", ("speed", "turn"))
    images, values = held.splits["train"].take(torch.arange(2))
    assert images.shape == (2, 3, 1, 4, 6)
    assert images[:, :, 0, 0, 0].tolist() == [[0, 1, 2], [10, 11, 12]]
    assert values.tolist() == [[0.5, 0], [1.5, -1]]
    assert streamed.splits["train"].shape == held.splits["train"].shape
    for ours, theirs in zip(streamed.splits["train"].take(torch.arange(2)), (images, values), strict=True):
        assert torch.equal(ours, theirs)


def rewrite(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "train" / "targets.csv").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "train/sequences/b/2.png").unlink(), r"b has 2 frames but .*a 3; cut all sequences"),
        (lambda f: (f / "train/targets.csv").unlink(), r"targets\.csv is missing"),
        (rewrite("sequence,speed,turn\na,1,2\n"), r"sequence b is missing in .*targets\.csv"),
        (rewrite("sequence,speed,turn\na,1,2\nb,1,2\nd,1,2\n"), r"sequence d is missing in .*sequences"),
        (rewrite("sequence,speed,turn\na,1,2\na,1,2\nb,1,2\n"), r"the sequence a twice"),
        (rewrite("sequence,speed,turn\na,1,x\nb,1,2\n"), r"no number in line 2"),
        (rewrite("sequence,speed,turn\na,1\nb,1,2\n"), r"should have 2 numbers in line 2"),
        (rewrite("sequence,speed,turn\na,1,nan\nb,1,2\n"), r"should have 2 numbers in line 2"),
        (rewrite("name,speed\na,1\nb,1\n"), r"must begin with a line sequence,NAME"),
        (rewrite(""), r"must begin with a line"),
        (rewrite("sequence,speed\na,1\nb,1\n"), r"columns speed, turn, that of train speed"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(
    folder: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(folder)
    with pytest.raises(ConvaeError, match=said):
        load_data(Request(str(folder)))
