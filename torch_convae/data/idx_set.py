"""Four IDX files, images and labels for train and test, as one data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ..errors import ConvaeError
from .dataset import FASHION_MNIST_CLASSES, DataSet, Split
from .idx import read_idx
from .memory import refuse_too_large
from .request import Request, refuse_void, refuse_workers
from .selection import balanced

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
PLACES = (".", "raw", "FashionMNIST/raw", "MNIST/raw")


@dataclass(frozen=True)
class IdxFiles:
    """Where the four files lie, each `.gz` or not."""

    train_images: Path
    train_labels: Path
    test_images: Path
    test_labels: Path


def find_idx(folder: Path, places: Sequence[str] = PLACES) -> IdxFiles | None:
    """The four files in one of the places below the folder, or None where there is not one of them.

    Refused: a place with some of the four only, and several places with all of them.
    """
    found = [files for place in places if (files := _files_in(folder / place)) is not None]
    if len(found) > 1:
        choices = " or ".join(str(files.train_images.parent) for files in found)
        raise ConvaeError(f"{folder} holds IDX files in several places; name one of them: {choices}.")
    return found[0] if found else None


def _files_in(place: Path) -> IdxFiles | None:
    paths = {name: _plain_or_packed(place, name) for name in IDX_FILES}
    present = [path for path in paths.values() if path is not None]
    if not present:
        return None
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise ConvaeError(f"{place} lacks {', '.join(missing)} (.gz or not) beside {present[0].name}; put it there.")
    return IdxFiles(*present)


def _plain_or_packed(place: Path, name: str) -> Path | None:
    return next((path for path in (place / name, place / f"{name}.gz") if path.is_file()), None)


def load_idx_folder(files: IdxFiles, folder: Path, request: Request) -> DataSet:
    """The files a user's folder holds; class names are known if they lie below a folder `FashionMNIST`."""
    known = "FashionMNIST" in files.train_images.resolve().parts
    return load_idx(files, folder.resolve().name, FASHION_MNIST_CLASSES if known else None, request)


def load_idx(files: IdxFiles, name: str, classes: tuple[str, ...] | None, request: Request) -> DataSet:
    """Read, check and resize; without class names they are the labels 0..highest of train."""
    refuse_void(request)
    refuse_workers(request)
    train = _read_pair(files.train_images, files.train_labels)
    test = _read_pair(files.test_images, files.test_labels)
    classes = classes or tuple(str(label) for label in range(int(train[1].max()) + 1))
    if len(classes) < 2:
        raise ConvaeError(f"{files.train_labels} holds fewer than two classes; label at least two to train on.")
    _check_labels(files.train_labels, train[1], len(classes))
    _check_labels(files.test_labels, test[1], len(classes))
    if request.size is None and train[0].shape[1:] != test[0].shape[1:]:
        raise ConvaeError(
            f"{files.train_images} has images of {train[0].shape[1:]}, "
            f"{files.test_images} of {test[0].shape[1:]}; pass a --size for both."
        )
    splits = {"train": _split(*train, name, request), "test": _split(*test, name, request)}
    return DataSet(name, "classes", classes, splits)


def _read_pair(images: Path, labels: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    pixels, targets = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(targets):
        raise ConvaeError(
            f"{images} holds {len(pixels)} images but {labels} {len(targets)} labels; take two that match."
        )
    if pixels.size == 0:
        raise ConvaeError(f"{images} holds no pixels: its shape is {pixels.shape}; download it again.")
    return pixels, targets


def _check_labels(path: Path, targets: npt.NDArray[np.uint8], count: int) -> None:
    if int(targets.max()) >= count:
        raise ConvaeError(
            f"{path} holds label {targets.max()}, outside 0..{count - 1}; check that it belongs to this data."
        )


def _split(pixels: npt.NDArray[np.uint8], targets: npt.NDArray[np.uint8], name: str, request: Request) -> Split:
    kept = balanced(targets.tolist(), request.limit)
    images = torch.from_numpy(pixels[kept]).unsqueeze(1)
    if request.size is not None:
        refuse_too_large(name, len(kept) * request.size[0] * request.size[1])
        images = F.interpolate(images, request.size, mode="bilinear", antialias=True)
    return Split(images, torch.from_numpy(targets[kept].astype(np.int64)))
