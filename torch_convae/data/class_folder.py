"""A folder of classes: one subfolder of images for each, directly or below `train` and `test`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConvaeError
from .dataset import DataSet, Split
from .folders import image_files, refuse_loose_images, split_folders, subfolders
from .image_stack import Form, common_form, read_formed, stack_images
from .memory import FROM_FILES, refuse_too_large
from .request import Request, refuse_void
from .selection import balanced, hold_out
from .streaming import FileSplit

Classes = dict[str, list[Path]]
Labelled = list[tuple[Path, int]]


def load_class_folder(folder: Path, request: Request) -> DataSet:
    """Images (RGB, or grey if all are) with the index of their subfolder's name in sorted order.

    Without `test`, `val` serves as test; without both, a seeded fifth of each class does.
    """
    refuse_void(request)
    splits = _classes_by_split(folder, request.seed)
    names = tuple(splits["train"])
    files = {split: _limited(_labelled(classes), request.limit) for split, classes in splits.items()}
    form = common_form([path for split in files.values() for path, _ in split], request.size)
    if request.workers is None:
        refuse_too_large(folder, sum(map(len, files.values())) * form.byte_count, FROM_FILES)
    loaded = {split: _load(labelled, form, request.workers) for split, labelled in files.items()}
    return DataSet(folder.resolve().name, "classes", names, loaded)


@dataclass(frozen=True)
class LabelledFiles:
    """Image files, each with the index of its class; what `FileSplit` reads."""

    labelled: Labelled
    form: Form

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.form.shape

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path, label = self.labelled[index]
        return read_formed(path, self.form)[0], torch.tensor(label)

    def made_of(self) -> Iterator[Path | int]:
        """Every file and its class."""
        for path, label in self.labelled:
            yield from (path, label)


def _classes_by_split(folder: Path, seed: int) -> dict[str, Classes]:
    folders = split_folders(folder)
    if "test" in folders:
        splits = {name: _classes(path) for name, path in folders.items()}
        _refuse_unequal(folder, splits)
        return splits
    return _held_out(_classes(folders.get("train", folder)), folder, seed)


def _classes(folder: Path) -> Classes:
    refuse_loose_images(folder)
    classes = subfolders(folder)
    if len(classes) < 2:
        found = f"only {classes[0].name}" if classes else "none"
        raise ConvaeError(f"{folder} must hold a folder of images for each of two or more classes; found {found}.")
    return {path.name: image_files(path) for path in classes}


def _refuse_unequal(folder: Path, splits: dict[str, Classes]) -> None:
    for name, classes in splits.items():
        for other, theirs in splits.items():
            missing = sorted(theirs.keys() - classes.keys())
            if missing:
                raise ConvaeError(
                    f"{folder}: class {missing[0]} is in {other} but not in {name}; splits need the same."
                )


def _held_out(classes: Classes, folder: Path, seed: int) -> dict[str, Classes]:
    """A fifth of each class for test; its name is in the seed, so a new class moves no other's images."""
    splits: dict[str, Classes] = {"train": {}, "test": {}}
    for name, paths in classes.items():
        if len(paths) < 2:
            raise ConvaeError(f"{folder}: class {name} has one image, and train and test need one each; add images.")
        train, test = hold_out(len(paths), (seed, name))
        splits["train"][name] = [paths[index] for index in train]
        splits["test"][name] = [paths[index] for index in test]
    return splits


def _labelled(classes: Classes) -> Labelled:
    return [(path, index) for index, paths in enumerate(classes.values()) for path in paths]


def _limited(labelled: Labelled, limit: int | None) -> Labelled:
    return [labelled[position] for position in balanced([index for _, index in labelled], limit)]


def _load(labelled: Labelled, form: Form, workers: int | None) -> Split | FileSplit:
    if workers is not None:
        return FileSplit(LabelledFiles(labelled, form), workers)
    images, _ = stack_images([path for path, _ in labelled], form)
    return Split(images, torch.tensor([index for _, index in labelled], dtype=torch.int64))
