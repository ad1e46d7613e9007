"""Losses over classes, of images or of pixels: each a mean over what counts, with a weight for each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConvaeError

FOCUS = 2.0  # the exponent that the authors of the focal loss settled on
SMOOTH = 1.0  # pixels, added above and below the line as in the Dice loss of the ultrasound U-Net

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scores:
    """Every image's or pixel's logits (P, classes) beside its class (P,), and 1 or 0 as it counts or not."""

    logits: Tensor
    truth: Tensor
    counts: Tensor
    weights: Tensor

    @property
    def share(self) -> Tensor:
        """The weight (P,) of each: that of its class, or 0."""
        return self.weights[self.truth] * self.counts


def _mean(losses: Tensor, share: Tensor) -> Tensor:
    """The weighted mean; 0 where nothing counts, because the mean over nothing would be no number."""
    tiny = torch.finfo(share.dtype).tiny
    return (losses * share).sum() / share.sum().clamp(min=tiny)


def _cross_entropy(scores: Scores) -> Tensor:
    return _mean(F.cross_entropy(scores.logits, scores.truth, reduction="none"), scores.share)


def _focal(scores: Scores) -> Tensor:
    """Cross-entropy times (1 - probability of the truth) squared: what is certain already hardly counts."""
    losses = F.cross_entropy(scores.logits, scores.truth, reduction="none")
    return _mean(losses * (1 - torch.exp(-losses)) ** FOCUS, scores.share)


def _overlap(scores: Scores, ratio: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """1 - `ratio(intersection, sum of both)` of soft masks over the whole batch, mean over the classes it has."""
    predicted = scores.logits.softmax(dim=1) * scores.counts[:, None]
    truth = F.one_hot(scores.truth, predicted.shape[1]).to(predicted.dtype) * scores.counts[:, None]
    present = truth.sum(dim=0)
    losses = 1 - ratio((predicted * truth).sum(dim=0), predicted.sum(dim=0) + present)
    return _mean(losses, scores.weights * (present > 0))


def _dice(scores: Scores) -> Tensor:
    return _overlap(scores, lambda both, sums: (2 * both + SMOOTH) / (sums + SMOOTH))


def _jaccard(scores: Scores) -> Tensor:
    return _overlap(scores, lambda both, sums: (both + SMOOTH) / (sums - both + SMOOTH))


LOSSES: Mapping[str, Callable[[Scores], Tensor]] = {
    "cross-entropy": _cross_entropy,
    "focal": _focal,
    "dice": _dice,
    "jaccard": _jaccard,
}


def class_loss(names: str = "cross-entropy", weights: Tensor | None = None, void: int | None = None) -> Loss:
    """`loss(logits (N, classes, ...), targets (N, ...))`: one of `LOSSES`, or several added: "cross-entropy+dice".

    `weights` (classes,) say how much each class counts; the mean is divided by their sum, as in PyTorch.
    Targets equal to `void` count for nothing, and a batch of nothing else has a loss of 0.
    """
    chosen = [name.strip() for name in names.split("+")]
    if unknown := [name for name in chosen if name not in LOSSES]:
        raise ConvaeError(
            f"There is no loss {unknown[0]!r} over classes; there are {', '.join(LOSSES)}, and sums such as "
            "cross-entropy+dice."
        )

    held = None if weights is None else OnDevice(weights)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        scores = _scores(logits, targets, held, void)
        return torch.stack([LOSSES[name](scores) for name in chosen]).sum()

    return loss


def share_of(weights: Tensor | None, void: int | None) -> Callable[[Tensor], Tensor]:
    """How much the targets of a batch count together: the sum of the weights of their classes, `void` left out."""
    held = None if weights is None else OnDevice(weights.double())

    def share(targets: Tensor) -> Tensor:
        counts = torch.ones_like(targets, dtype=torch.float64) if void is None else (targets != void).double()
        if held is None:
            return counts.sum()
        return (held.on(targets.device)[targets.long() * counts.long()] * counts).sum()

    return share


class OnDevice:
    """A tensor that is copied to each device once, so that no step waits for it."""

    def __init__(self, tensor: Tensor) -> None:
        self.held = {tensor.device: tensor}

    def on(self, device: torch.device) -> Tensor:
        """The tensor there."""
        if device not in self.held:
            self.held[device] = next(iter(self.held.values())).to(device)
        return self.held[device]


def _scores(logits: Tensor, targets: Tensor, weights: OnDevice | None, void: int | None) -> Scores:
    """Everything as a list of pixels: CUDA's cross-entropy of maps is not deterministic, that of lists is."""
    # float16 and bfloat16 would lose what a mean over many pixels needs.
    flat = logits.movedim(1, -1).flatten(0, -2).float()
    truth = targets.flatten().long()
    counts = torch.ones_like(truth, dtype=flat.dtype) if void is None else (truth != void).to(flat.dtype)
    each = flat.new_ones(flat.shape[1]) if weights is None else weights.on(flat.device)
    return Scores(flat, truth * counts.long(), counts, each)
