"""Images changed at random while training, their masks in step; what is drawn depends on (seed, epoch, index) alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import ConvaeError

if TYPE_CHECKING:
    from .changes import Example

Change = Callable[["Example", random.Random], "Example"]


@dataclass(frozen=True)
class Augmentation:
    """`augmentation(images, targets, indices, epoch)`: a batch with these changes, where it lies.

    Neither the batch an example is in nor the process that asks changes what is drawn for it.
    """

    changes: Mapping[str, Change]
    seed: int

    def __call__(self, images: Tensor, targets: Tensor, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Images uint8 (N, C, H, W) and their targets, as they were: masks uint8 (N, H, W) move, all else stays."""
        from .changes import Example

        have_masks = targets.dtype == torch.uint8
        examples = [
            self._changed(Example(images[place], targets[place] if have_masks else None), f"{epoch} {index}")
            for place, index in enumerate(indices.tolist())
        ]
        masks = [example.mask for example in examples if example.mask is not None]
        return torch.stack([example.image for example in examples]), torch.stack(masks) if have_masks else targets

    def _changed(self, example: Example, which: str) -> Example:
        for name, change in self.changes.items():
            # Each change draws from a hash of its own, so that leaving one out changes no other.
            example = change(example, random.Random(f"{self.seed} {which} {name}"))
        return example


def augmentation(names: str, seed: int) -> Augmentation | None:
    """From names in any order, such as "flip,crop"; nothing for "none"."""
    from .changes import CHANGES  # here, because most runs need none of it and torchvision is slow to import

    asked = [name.strip() for name in names.split(",")]
    if asked == ["none"]:
        return None
    for name in asked:
        if name not in CHANGES:
            near = get_close_matches(name, CHANGES, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise ConvaeError(f"There is no augmentation {name!r}; there are none, {', '.join(CHANGES)}{hint}")
    return Augmentation({name: change for name, change in CHANGES.items() if name in asked}, seed)
