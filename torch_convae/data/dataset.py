"""What every reader of data gives: a `DataSet` of splits, in memory as bytes or read from files while used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .streaming import FileSplit

VOID = 255
"""The mask value that no loss and no metric counts."""

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MNIST_CLASSES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 (N, C, H, W), grey or RGB, or sequences of them (N, T, C, H, W), beside their targets.

    Targets are class indices int64 (N,), or masks of class indices uint8 (N, H, W) with `VOID` for no class; those
    of sequences are values float32 (N, K).
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return tuple(self.images.shape)

    def on(self, device: torch.device) -> Split:
        """The same split on the device, so that a step moves indices only."""
        return Split(self.images.to(device), self.targets.to(device))

    def all_targets(self) -> Iterator[Tensor]:
        """Every target once, in batches."""
        yield self.targets

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and targets of these indices, where the split lies."""
        return self.images.index_select(0, indices), self.targets.index_select(0, indices)

    def fingerprint(self) -> str:
        """SHA-256 of all images and targets."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.targets):
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
        return f"pixels {digest.hexdigest()}"

    def batches(self, order: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images and targets for each tensor of indices, where the split lies, beside the indices as they are."""
        # All indices go to the device at once: moving them batch by batch would make each step wait.
        places = [indices.to(self.images.device) for indices in order]
        for indices, place in zip(order, places, strict=True):
            yield *self.take(place), indices


@dataclass(frozen=True, eq=False)
class DataSet:
    """A named set; splits are "train", "test" and, where given, "val".

    `classes` are the names of the classes in index order, or with sequences those of the values.
    """

    name: str
    task: Literal["classes", "masks", "sequences"]
    classes: tuple[str, ...]
    splits: Mapping[str, Split | FileSplit]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image; a sequence's has the number of its frames before them."""
        return self.splits["train"].shape[1:]
