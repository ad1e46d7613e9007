"""Mask files to one tensor of raw values, with a note of which values each file holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import ConvaeError
from .images import opened

INDEX_MODES = ("1", "L", "P", "I;16", "I")  # before version 11, Pillow opened 16-bit PNGs as "I"


@dataclass(frozen=True, eq=False)
class MaskStack:
    """Raw values uint8 (N, H, W), and beside each mask the values of its whole file, before any resize."""

    paths: tuple[Path, ...]
    values: Tensor
    held: tuple[frozenset[int], ...]

    @property
    def by_file(self) -> dict[Path, frozenset[int]]:
        """What each file holds."""
        return dict(zip(self.paths, self.held, strict=True))


def stack_masks(paths: Sequence[Path], size: tuple[int, int], image_sizes: Sequence[tuple[int, int]]) -> MaskStack:
    """Read and resize by nearest neighbour; a mask must have the (height, width) its image has."""
    values = torch.empty((len(paths), *size), dtype=torch.uint8)
    held = []
    for index, (path, image_size) in enumerate(zip(paths, image_sizes, strict=True)):
        mask = checked_mask(path, image_size)
        held.append(values_of(mask))
        values[index] = fitted(mask, size)
    return MaskStack(tuple(paths), values, tuple(held))


def checked_mask(path: Path, image_size: tuple[int, int]) -> Image.Image:
    """What `read_mask` gives; refused if it is not of the (height, width) of its image."""
    mask = read_mask(path)
    if (mask.height, mask.width) != image_size:
        raise ConvaeError(
            f"{path} is {mask.height} x {mask.width} (height x width) but its image is "
            f"{image_size[0]} x {image_size[1]}; export both at one size."
        )
    return mask


def values_of(mask: Image.Image) -> frozenset[int]:
    """The values that a mask holds."""
    return frozenset(np.unique(np.asarray(mask)).tolist())


def fitted(mask: Image.Image, size: tuple[int, int]) -> Tensor:
    """Raw values uint8 (H, W) at that (height, width), by nearest neighbour."""
    return torch.from_numpy(np.array(mask.resize((size[1], size[0]), Image.Resampling.NEAREST)))


def read_mask(path: Path) -> Image.Image:
    """A PNG's class indices as an image of mode L; a palette's colours are left aside.

    Refused: formats that change values, colours instead of indices, and values beyond 255.
    """
    with opened(path) as image:
        if image.format != "PNG":
            raise ConvaeError(f"{path} is a {image.format}; save masks as PNG, which keeps every value as it is.")
        if image.mode not in INDEX_MODES:
            raise ConvaeError(
                f"{path} is a mask of mode {image.mode}; save class indices, as 8-bit grey or palette PNG."
            )
        indices = np.asarray(ImageOps.exif_transpose(image))
        if indices.max() > 255:
            raise ConvaeError(f"{path} holds the value {indices.max()}; class indices go from 0 to 255.")
        return Image.fromarray(indices.astype(np.uint8))
