"""Writers of small real files: pictures of one colour, masks of given values, sets of four IDX files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torch_convae.data.idx import idx_bytes
from torch_convae.data.idx_set import IDX_FILES

Write = Callable[..., Path]


@pytest.fixture
def picture() -> Write:
    """Writes an image of one colour and gives its path."""

    def write(path: Path, colour: object = 100, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "RGB" and isinstance(colour, int):
            colour = (colour, colour, colour)
        Image.new(mode, (size[1], size[0]), colour).save(path)
        return path

    return write


@pytest.fixture
def mask() -> Write:
    """Writes a mask whose pixels run through the given values and gives its path."""

    def write(path: Path, values: tuple[int, ...] = (0, 1), size: tuple[int, int] = (6, 4)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.resize(np.array(values, np.uint8), size)).save(path)
        return path

    return write


@pytest.fixture
def idx_set() -> Write:
    """Writes four plain IDX files of 8 x 6 images, labels running through the classes; gives the folder."""

    def write(folder: Path, counts: tuple[int, int] = (20, 10), classes: int = 3) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for names, count in zip((IDX_FILES[:2], IDX_FILES[2:]), counts, strict=True):
            labels = np.arange(count, dtype=np.uint8) % classes
            images = np.broadcast_to(labels[:, None, None] * 10, (count, 8, 6)).astype(np.uint8)
            for name, array in zip(names, (images, labels), strict=True):
                (folder / name).write_bytes(idx_bytes(array))
        return folder

    return write


@pytest.fixture
def pairs(picture: Write, mask: Write) -> Write:
    """Writes one split of images with masks, a mask for each tuple of values; gives the split's folder."""

    def write(split: Path, *values: tuple[int, ...]) -> Path:
        for number, held in enumerate(values):
            picture(split / "images" / f"{number:03}.png", number)
            mask(split / "masks" / f"{number:03}.png", held)
        return split

    return write


@pytest.fixture
def classes(picture: Write) -> Write:
    """Writes a folder of images for each class, as many as its count, and gives the folder above."""

    def write(folder: Path, **counts: int) -> Path:
        for number, (name, count) in enumerate(counts.items()):
            for index in range(count):
                picture(folder / name / f"{index:03}.png", 10 * number + index)
        return folder

    return write
