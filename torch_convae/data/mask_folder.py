"""A folder of images, each with a mask: `train/images` + `train/masks`, the same for `test` and `val`."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import ConvaeError
from .dataset import VOID, DataSet, Split
from .folders import image_files, split_folders
from .image_stack import common_form, stack_images
from .mask_classes import MaskClasses, decide, known_classes, refuse_unknown
from .masks import MaskStack, stack_masks
from .memory import refuse_too_large
from .request import Request
from .selection import hold_out, spread


@dataclass(frozen=True)
class Pair:
    """An image file and the mask file of the same stem."""

    image: Path
    mask: Path


def load_mask_folder(folder: Path, request: Request) -> DataSet:
    """Images (RGB, or grey if all are) with masks of class indices, void as `VOID`.

    Without `test`, `val` serves as test; without both, a seeded fifth of train does. Where no names are known
    the loaded masks decide what the classes are, so a limit may hide a rare one: `classes.txt` settles it.
    """
    pairs = _limited(_pairs_by_split(folder, request.seed), request.limit)
    form = common_form([pair.image for split in pairs.values() for pair in split], request.size)
    mask_bytes = form.height * form.width
    refuse_too_large(folder, sum(map(len, pairs.values())) * (form.byte_count + mask_bytes))
    images, masks = {}, {}
    for name, split in pairs.items():
        images[name], own_sizes = stack_images([pair.image for pair in split], form)
        masks[name] = stack_masks([pair.mask for pair in split], (form.height, form.width), own_sizes)
    classes = _classes(folder, request.void, masks)
    splits = {name: Split(images[name], _targets(masks[name], classes)) for name in pairs}
    return DataSet(folder.resolve().name, "masks", classes.names, splits)


def _pairs_by_split(folder: Path, seed: int) -> dict[str, list[Pair]]:
    pairs = {name: _pairs(path) for name, path in split_folders(folder).items()}
    if "test" in pairs:
        return pairs
    everything = pairs["train"]
    if len(everything) < 2:
        raise ConvaeError(f"{folder / 'train'} holds one image and there is no test; add images, or a test folder.")
    train, test = hold_out(len(everything), seed)
    return {"train": [everything[index] for index in train], "test": [everything[index] for index in test]}


def _pairs(split: Path) -> list[Pair]:
    for name in ("images", "masks"):
        if not (split / name).is_dir():
            raise ConvaeError(f"{split / name} is missing; images and masks belong in two folders side by side.")
    images, masks = _by_stem(split / "images"), _by_stem(split / "masks")
    for here, there, other in ((images, masks, "masks"), (masks, images, "images")):
        for stem, path in here.items():
            if stem not in there:
                raise ConvaeError(f"{path} has no partner {stem}.* in {split / other}; add it, or remove the file.")
    return [Pair(images[stem], masks[stem]) for stem in images]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in image_files(folder):
        if path.stem in found:
            raise ConvaeError(f"{path} and {found[path.stem].name} have one name; rename or remove one of them.")
        found[path.stem] = path
    return found


def _limited(pairs: dict[str, list[Pair]], limit: int | None) -> dict[str, list[Pair]]:
    return {name: [split[index] for index in spread(len(split), limit)] for name, split in pairs.items()}


def _classes(folder: Path, void: int | None, masks: dict[str, MaskStack]) -> MaskClasses:
    held = {name: frozenset[int]().union(*stack.held) for name, stack in masks.items()}
    everywhere = frozenset[int]().union(*held.values())
    try:
        classes = decide(known_classes(folder), void, held["train"], everywhere)
    except ConvaeError as problem:
        raise ConvaeError(f"{folder}: {problem}") from problem
    for stack in masks.values():
        for path, values in zip(stack.paths, stack.held, strict=True):
            refuse_unknown(classes, path, values)
    return classes


def _targets(masks: MaskStack, classes: MaskClasses) -> torch.Tensor:
    """Mask by mask: indexing wants int64 positions, eight times the memory of what they index."""
    table = torch.full((256,), VOID, dtype=torch.uint8)
    for value, index in classes.index_of.items():
        table[value] = index
    for mask in masks.values:
        mask.copy_(table[mask.long()])
    return masks.values
