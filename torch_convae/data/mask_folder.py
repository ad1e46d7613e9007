"""A folder of images, each with a mask: `train/images` + `train/masks`, the same for `test` and `val`."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import ConvaeError
from .dataset import DataSet, Split
from .folders import image_files, split_folders
from .image_stack import common_form, stack_images
from .mask_classes import MaskClasses, decide, known_classes, refuse_unknown
from .mask_files import MaskedFiles, Pair, class_table, held_values
from .masks import MaskStack, stack_masks
from .memory import FROM_FILES, refuse_too_large
from .request import Request
from .selection import hold_out, spread
from .streaming import FileSplit


def load_mask_folder(folder: Path, request: Request) -> DataSet:
    """Images (RGB, or grey if all are) with masks of class indices, void as `VOID`.

    Without `test`, `val` serves as test; without both, a seeded fifth of train does. Where no names are known
    the loaded masks decide what the classes are, so a limit may hide a rare one: `classes.txt` settles it.
    """
    pairs = _limited(_pairs_by_split(folder, request.seed), request.limit)
    form = common_form([pair.image for split in pairs.values() for pair in split], request.size)
    if request.workers is not None:
        held = {name: held_values(split) for name, split in pairs.items()}
        classes = _classes(folder, request.void, held)
        files = {name: MaskedFiles(split, form, class_table(classes)) for name, split in pairs.items()}
        streamed = {name: FileSplit(each, request.workers) for name, each in files.items()}
        return DataSet(folder.resolve().name, "masks", classes.names, streamed)
    mask_bytes = form.height * form.width
    refuse_too_large(folder, sum(map(len, pairs.values())) * (form.byte_count + mask_bytes), FROM_FILES)
    images, masks = {}, {}
    for name, split in pairs.items():
        images[name], own_sizes = stack_images([pair.image for pair in split], form)
        masks[name] = stack_masks([pair.mask for pair in split], (form.height, form.width), own_sizes)
    classes = _classes(folder, request.void, {name: stack.by_file for name, stack in masks.items()})
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


def _classes(folder: Path, void: int | None, held: Mapping[str, Mapping[Path, frozenset[int]]]) -> MaskClasses:
    """What the values mean that each mask file of each split holds."""
    by_split = {name: frozenset[int]().union(*files.values()) for name, files in held.items()}
    everywhere = frozenset[int]().union(*by_split.values())
    try:
        classes = decide(known_classes(folder), void, by_split["train"], everywhere)
    except ConvaeError as problem:
        raise ConvaeError(f"{folder}: {problem}") from problem
    for files in held.values():
        for path, values in files.items():
            refuse_unknown(classes, path, values)
    return classes


def _targets(masks: MaskStack, classes: MaskClasses) -> Tensor:
    """Mask by mask: indexing wants int64 positions, eight times the memory of what they index."""
    table = class_table(classes)
    for mask in masks.values:
        mask.copy_(table[mask.long()])
    return masks.values
