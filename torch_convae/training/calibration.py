"""How far a network's probabilities can be believed, and the one number that corrects them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BINS = 15  # of confidence, as in the paper that made the error known
COARSE, FINE = 41, 41  # temperatures that are tried: over two decades, then between neighbours


@dataclass(frozen=True)
class Belief:
    """The mean negative logarithm of the truth's probability, and the expected calibration error."""

    nll: float
    error: float


Logits = Iterable[tuple[Tensor, Tensor]]  # (P, classes) and the truth (P,), in batches


def counted(logits: Tensor, targets: Tensor, void: int | None) -> tuple[Tensor, Tensor]:
    """Logits (N, classes, ...) and targets (N, ...) as lists, without those of `void`."""
    flat, truth = logits.movedim(1, -1).flatten(0, -2).float(), targets.flatten().long()
    kept = torch.ones_like(truth, dtype=torch.bool) if void is None else truth != void
    return flat[kept], truth[kept]


def temperature(batches: list[tuple[Tensor, Tensor]]) -> float:
    """What the logits are best divided by: the least negative log-likelihood, to about one in a thousand."""
    best = _best(batches, torch.logspace(-1, 1, COARSE))
    return _best(batches, best * torch.logspace(-0.05, 0.05, FINE))


def _best(batches: Logits, candidates: Tensor) -> float:
    totals = torch.zeros(len(candidates), dtype=torch.float64)
    for logits, truth in batches:
        losses = [F.cross_entropy(logits / each, truth, reduction="sum") for each in candidates]
        totals += torch.stack(losses).double().cpu()
    return float(candidates[totals.argmin()])


def belief(batches: Logits, divided_by: float = 1.0) -> Belief:
    """What the probabilities are worth when the logits are divided by a temperature."""
    sums = torch.zeros(3, BINS, dtype=torch.float64)  # how many, how many right, their confidence
    nll = 0.0
    for logits, truth in batches:
        confidence, predicted = (logits / divided_by).softmax(dim=1).max(dim=1)
        nll += float(F.cross_entropy(logits / divided_by, truth, reduction="sum"))
        right = (predicted == truth).double()
        for row, values in enumerate((torch.ones_like(right), right, confidence.double())):
            bins = (confidence * BINS).long().clamp(max=BINS - 1)
            sums[row] += torch.bincount(bins, values, minlength=BINS).cpu()
    many = max(float(sums[0].sum()), 1.0)
    return Belief(nll / many, float((sums[1] - sums[2]).abs().sum() / many))


def divide_logits(head: nn.Module, by: float) -> None:
    """Divide what a network's last layer gives, by its weights: the same decisions, with other probabilities."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.div_(by)
