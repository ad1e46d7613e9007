"""What a frozen encoder makes of the images is computed once, and the rest of the network trains on that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .examples import Augment, Batch, Examples, in_order
from .freezing import frozen_hash
from .nests import leaves_of, nest_like
from .run import Run
from .stores import Store, in_files, in_memory


class Rest(nn.Module):
    """A network without what computes its features: it takes those instead of images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = nn.Identity()

    def forward(self, features: Any) -> Any:
        """What the network gives for the images with these features."""
        return self.model.decode(features)  # type: ignore[operator]


@dataclass(frozen=True, eq=False)
class FeatureSplit:
    """The features of a split's examples with their targets, in place of its images; its views one behind the other."""

    store: Store
    example: Any  # the features of one image
    device: torch.device

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the targets."""
        return tuple(self.store.tensors[-1].shape)

    def __len__(self) -> int:
        return len(self.store.tensors[-1])

    def fingerprint(self) -> str:
        """What the features were made of."""
        return self.store.key

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        """Features and targets of each tensor of indices, on the device, beside the indices as they are."""
        # As in `Split`: where features lie on the device, no step waits for indices on their way there.
        places = [indices.to(self.store.device) for indices in order]
        for indices, place in zip(order, places, strict=True):
            rows = [rows.to(self.device) for rows in self.store.take(place)]
            yield nest_like(self.example, rows[:-1]), rows[-1], indices


@dataclass(frozen=True)
class Maker:
    """Makes features: of which network, how it computes, so many images at a time, in so many augmented views."""

    model: nn.Module
    run: Run
    batch_size: int
    views: int = 1
    augment: Augment | None = None

    def features(self, images: Tensor) -> Any:
        """The features of images as bytes, of which nothing is differentiated."""
        with torch.no_grad(), self.run.autocast():
            return self.model.encode(self.run.images(self.model.preprocessing(images)))  # type: ignore[operator]

    def first(self, examples: Examples) -> tuple[Any, Tensor]:
        """The features and the target of one example, each with a row."""
        images, targets, _ = next(iter(examples.batches([torch.tensor([0])])))
        return self.features(images), targets

    def row_bytes(self, examples: Examples) -> int:
        """How much of memory all views of one example take."""
        features, target = self.first(examples)
        return self.views * sum(each.numel() * each.element_size() for each in [*leaves_of(features), target])

    def keep(self, examples: Examples, folder: Path | None) -> FeatureSplit:
        """The features of all examples, in memory, or in files of a folder, which may have them already."""
        key = self.key(examples)
        features, target = self.first(examples)
        like, count = [*leaves_of(features), target], self.views * len(examples)
        store = in_memory(key, like, count) if folder is None else in_files(key, like, count, folder)
        for view in range(0 if store.complete else self.views):
            for images, targets, indices in examples.batches(in_order(examples, self.batch_size)):
                if self.augment:
                    images, targets = self.augment(images, targets, indices, view)
                store.put(indices + view * len(examples), [*leaves_of(self.features(images)), targets])
        store.finish()
        return FeatureSplit(store, features, self.run.device)

    def key(self, examples: Examples) -> str:
        """A hash of all that decides what the features are."""
        made_of = [
            frozen_hash(self.model),
            repr(self.model.preprocessing),
            examples.fingerprint(),
            self.run,
            self.batch_size,
            self.views if self.augment else 0,
            torch.__version__,
        ]
        return hashlib.sha256("\n".join(map(str, made_of)).encode()).hexdigest()
