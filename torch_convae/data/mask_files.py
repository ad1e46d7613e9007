"""Image files with their mask files, read pair by pair; all masks are looked at once beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .dataset import VOID
from .image_stack import Form, read_formed
from .images import upright_size
from .mask_classes import MaskClasses
from .masks import checked_mask, fitted, values_of


@dataclass(frozen=True)
class Pair:
    """An image file and the mask file of the same stem."""

    image: Path
    mask: Path


@dataclass(frozen=True, eq=False)
class MaskedFiles:
    """What `FileSplit` reads: images, and masks of class indices by a table (256,) from their raw values."""

    pairs: Sequence[Pair]
    form: Form
    table: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.form.shape

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pair = self.pairs[index]
        pixels, own_size = read_formed(pair.image, self.form)
        raw = fitted(checked_mask(pair.mask, own_size), (self.form.height, self.form.width))
        return pixels, self.table[raw.long()]

    def made_of(self) -> Iterator[Path | int]:
        """Every image and its mask, and what their values stand for."""
        for pair in self.pairs:
            yield from (pair.image, pair.mask)
        yield from self.table.tolist()


def held_values(pairs: Sequence[Pair]) -> dict[Path, frozenset[int]]:
    """The values of each mask file; refused if one has not the size of its image, whose header alone is read."""
    return {pair.mask: values_of(checked_mask(pair.mask, upright_size(pair.image))) for pair in pairs}


def class_table(classes: MaskClasses) -> Tensor:
    """Class indices uint8 (256,) by raw value, `VOID` for what is none."""
    table = torch.full((256,), VOID, dtype=torch.uint8)
    for value, index in classes.index_of.items():
        table[value] = index
    return table
