"""Figures of a classification, of images or of pixels, all from one confusion matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def confusion(logits: Tensor, targets: Tensor, void: int | None) -> Tensor:
    """Counts (truth, prediction) of logits (N, classes, ...) against targets (N, ...), those of `void` left out."""
    classes = logits.shape[1]
    truth = targets.flatten().long()
    predicted = logits.argmax(dim=1).flatten()
    # Void counts into a row of its own, which is cut off: no branch, and no wait for the device.
    rows = truth if void is None else torch.where(truth == void, classes, truth)
    counts = torch.bincount(rows * classes + predicted, minlength=(classes + 1) * classes)
    return counts.view(classes + 1, classes)[:classes]


def accuracy(counts: Tensor) -> float:
    """The share of what is on the diagonal."""
    return float(counts.diagonal().sum().double() / counts.sum().clamp(min=1))


def class_iou(counts: Tensor) -> list[float | None]:
    """Intersection over union of each class; None for one that neither truth nor prediction has."""
    hit = counts.diagonal().double()
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return [float(h / u) if u else None for h, u in zip(hit, union, strict=True)]


def mean_iou(counts: Tensor) -> float:
    """The mean over the classes that occur."""
    values = [value for value in class_iou(counts) if value is not None]
    return sum(values) / max(len(values), 1)
