"""Figures from sums over a split: of a classification from one confusion matrix, of values from their errors."""

from __future__ import annotations

from collections.abc import Sequence

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
    return _mean(class_iou(counts))


def class_f1(counts: Tensor) -> list[float | None]:
    """The harmonic mean of precision and recall of each class; None for one that neither truth nor prediction has."""
    return [None if value is None else 2 * value / (1 + value) for value in class_iou(counts)]


def mean_f1(counts: Tensor) -> float:
    """The mean over the classes that occur."""
    return _mean(class_f1(counts))


def class_accuracy(counts: Tensor) -> list[float | None]:
    """The share of each true class that was found; None for one that truth does not have."""
    found = zip(counts.diagonal().double(), counts.sum(1), strict=True)
    return [float(hit / total) if total else None for hit, total in found]


def mean_class_accuracy(counts: Tensor) -> float:
    """The mean over the classes that truth has: SegNet's class average."""
    return _mean(class_accuracy(counts))


def of_each_class(counts: Tensor, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Every figure of single classes, by class; None where nothing can be said, as nothing was of that class."""
    figures = {"iou": class_iou(counts), "f1": class_f1(counts), "accuracy": class_accuracy(counts)}
    return {name: {figure: values[at] for figure, values in figures.items()} for at, name in enumerate(names)}


def kappa(counts: Tensor) -> float:
    """Cohen's: how much of the way from chance to perfect agreement; 0 where chance alone agrees fully."""
    total = counts.sum().double().clamp(min=1)
    chance = float((counts.sum(0).double() @ counts.sum(1).double()) / total**2)
    return (accuracy(counts) - chance) / (1 - chance) if chance < 1 else 0.0


def errors(output: Tensor, targets: Tensor) -> Tensor:
    """Sums (4, K) over a batch of values (N, K): how many, squared errors, targets, squared targets."""
    truth = targets.double()
    squared = (output.double() - truth) ** 2
    return torch.stack([torch.ones_like(truth), squared, truth, truth**2]).sum(dim=1)


def rmse(sums: Tensor) -> float:
    """The root of the mean squared error over all values."""
    return float((sums[1].sum() / sums[0].sum().clamp(min=1)).sqrt())


def r2(sums: Tensor) -> float:
    """The share of the targets' variance that is explained, mean over the values; 0 for one that never varies."""
    count, squared, total, total_squared = sums
    variance = total_squared - total**2 / count.clamp(min=1)
    return float(torch.where(variance > 0, 1 - squared / variance, 0.0).mean())


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / max(len(known), 1)
