"""What the loop trains on and is measured on: examples by index, in an order that is decided beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import ConvaeError

Batch = tuple[Tensor, Tensor, Tensor]  # images uint8 (N, C, H, W), targets, and their indices in the split, on the CPU
Order = Callable[[int, int], Iterable[Tensor]]  # (stage, epoch) -> batches of indices
Augment = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]


class Examples(Protocol):
    """A split, held in memory or read from files as it is asked for.

    `shape` is what it is as a whole: the number of examples, then what one image is.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W), or what takes its place."""
        ...

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """A word for what is hashed, and its hash: a run that goes on notices other contents by it."""
        ...

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        """The examples of each tensor of indices, on the run's device: images as bytes, targets as they are."""
        ...


@dataclass(frozen=True)
class Splits:
    """What a run trains on, and what it is measured on by name ("val", "test").

    `order` depends on the stage and the epoch alone. `augment(images, targets, indices, epoch)` changes a batch
    of training on the device; what it draws for an example depends on (epoch, index) alone, the epoch counted
    from the start of the run.
    """

    train: Examples
    order: Order
    measured: Mapping[str, Examples]
    batch_size: int
    augment: Augment | None = None

    @property
    def watched(self) -> str | None:
        """The split that is measured after every epoch, if any; the test split only where there is no other."""
        return next((name for name in ("val", "test") if name in self.measured), None)


def in_order(examples: Examples, batch_size: int) -> list[Tensor]:
    """All indices, as they come."""
    return list(torch.split(torch.arange(len(examples)), batch_size))


def refuse_too_few(splits: Splits, processes: int) -> None:
    """Each process needs a share of every batch, and of every split."""
    for name, split in {"train": splits.train, **splits.measured}.items():
        if len(split) < processes:
            raise ConvaeError(f"The split {name} holds {len(split)} images for {processes} processes. Start fewer.")
    if splits.batch_size < processes:
        raise ConvaeError(f"A --batch-size of {splits.batch_size} is too small for {processes} processes.")
