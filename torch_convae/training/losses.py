"""Losses over classes, of images or of pixels, with a weight for each class.

Each is made of sums over what counts, so that batches, parts of them and processes add theirs up to the whole loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConvaeError

FOCUS = 2.0  # the exponent that the authors of the focal loss settled on
SMOOTH = 1.0  # pixels, added above and below the line as in the Dice loss of the ultrasound U-Net


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    return F.cross_entropy(logits, truth, reduction="none")


def _focal(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy times (1 - probability of the truth) squared: what is certain already hardly counts."""
    losses = _cross_entropy(logits, truth)
    return losses * (1 - torch.exp(-losses)) ** FOCUS


def _dice(both: Tensor, sums: Tensor) -> Tensor:
    return (2 * both + SMOOTH) / (sums + SMOOTH)


def _jaccard(both: Tensor, sums: Tensor) -> Tensor:
    return (both + SMOOTH) / (sums - both + SMOOTH)


# Of the logits (P, classes) and the class (P,) of each image or pixel: the losses (P,) whose weighted mean is taken.
MEANS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"cross-entropy": _cross_entropy, "focal": _focal}
# Of two soft masks' intersection and the sum of both: how well they agree. The loss of a class is 1 minus that.
OVERLAPS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"dice": _dice, "jaccard": _jaccard}
LOSSES = (*MEANS, *OVERLAPS)


def class_loss(names: str = "cross-entropy", weights: Tensor | None = None, void: int | None = None) -> ClassLoss:
    """`loss(logits (N, classes, ...), targets (N, ...))`: one of `LOSSES`, or several added: "cross-entropy+dice".

    `weights` (classes,) say how much each class counts; the mean is divided by their sum, as in PyTorch. Dice and
    Jaccard take soft masks of the whole batch, and the mean over the classes it has.
    Targets equal to `void` count for nothing, and a batch of nothing else has a loss of 0.
    """
    chosen = tuple(name.strip() for name in names.split("+"))
    if unknown := [name for name in chosen if name not in LOSSES]:
        raise ConvaeError(
            f"There is no loss {unknown[0]!r} over classes; there are {', '.join(LOSSES)}, and sums such as "
            "cross-entropy+dice."
        )
    return ClassLoss(chosen, None if weights is None else OnDevice(weights), void)


@dataclass(frozen=True)
class ClassLoss:
    """Losses over classes by their names: a loss of two arguments, and what a task wants of one (`Additive`).

    The sums are that of the weighted losses and that of the weights; and, where a name asks for them, for each
    class those of the product of the predicted and the true mask, of the predicted, and of the true one.
    """

    names: tuple[str, ...]
    weights: OnDevice | None
    void: int | None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a whole batch, float32."""
        return self.of(self.sums(logits, logits, targets)).float()

    def sums(self, output: Tensor, _: Tensor, targets: Tensor) -> Tensor:
        """Those of a batch, from logits (N, classes, ...); float64 (2,), or (2 + 3 * classes,)."""
        # Everything as a list of pixels: CUDA's cross-entropy of maps is not deterministic, that of lists is.
        # float16 and bfloat16 would lose what a mean over many pixels needs.
        logits = output.movedim(1, -1).flatten(0, -2).float()
        truth, counts, share = self._truth(targets)
        losses = [(MEANS[name](logits, truth) * share).sum() for name in self.names if name in MEANS]
        sums = torch.stack([sum(losses, torch.zeros_like(share[0])), share.sum()])
        if self._overlaps:
            predicted = logits.softmax(dim=1) * counts[:, None]
            true = F.one_hot(truth, predicted.shape[1]).to(predicted.dtype) * counts[:, None]
            sums = torch.cat([sums, (predicted * true).sum(dim=0), predicted.sum(dim=0), true.sum(dim=0)])
        return sums.double()

    def of(self, sums: Tensor) -> Tensor:
        """The loss of all that they are the sums over."""
        loss = sums[0] / or_one(sums[1])
        if self._overlaps:
            both, predicted, true = sums[2:].view(3, -1)
            share = (true > 0) * (1 if self.weights is None else self.weights.on(sums.device))
            for name in self._overlaps:
                losses = 1 - OVERLAPS[name](both, predicted + true)
                loss = loss + (losses * share).sum() / or_one(share.sum())
        return loss

    def ahead(self, targets: Tensor) -> Tensor | None:
        """What the targets alone tell of the sums, if that is all that the gradients need to know of them."""
        if self._overlaps:
            return None
        share = self._truth(targets)[2].sum().double()
        return torch.stack([torch.zeros_like(share), share])

    @property
    def _overlaps(self) -> list[str]:
        return [name for name in self.names if name in OVERLAPS]

    def _truth(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each image or pixel (P,) its class, 1 or 0 as it counts or not, and the weight of its class, or 0."""
        truth = targets.flatten().long()
        counts = torch.ones_like(truth, dtype=torch.float32) if self.void is None else (truth != self.void).float()
        truth = truth * counts.long()
        return truth, counts, counts if self.weights is None else self.weights.on(truth.device)[truth] * counts


def or_one(sums: Tensor) -> Tensor:
    """What a mean divides by: over nothing it is to be 0, and not no number."""
    return torch.where(sums > 0, sums, 1)


class OnDevice:
    """A tensor that is copied to each device once, so that no step waits for it."""

    def __init__(self, tensor: Tensor) -> None:
        self.held = {tensor.device: tensor}

    def on(self, device: torch.device) -> Tensor:
        """The tensor there."""
        if device not in self.held:
            self.held[device] = next(iter(self.held.values())).to(device)
        return self.held[device]
