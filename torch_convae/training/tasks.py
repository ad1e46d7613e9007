"""What a network is trained for: its loss, and the figures that say how well it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional as F

from .metrics import accuracy, mean_iou


@dataclass(frozen=True)
class Task:
    """`loss(output, images, targets)`, and figures by name from a confusion matrix where there are classes.

    Targets equal to `void` count for nothing.
    """

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    figures: Mapping[str, Callable[[Tensor], float]] = field(default_factory=dict)
    void: int | None = None


def reconstruction() -> Task:
    """The images themselves, by mean squared error."""
    return Task(lambda output, images, _: F.mse_loss(output.float(), images))


def classification() -> Task:
    """One class an image."""
    return Task(lambda output, _, targets: F.cross_entropy(output.float(), targets), {"accuracy": accuracy})


def segmentation(void: int) -> Task:
    """One class a pixel, and none for `void`; a batch of nothing but `void` has a loss of 0."""

    def loss(output: Tensor, _: Tensor, masks: Tensor) -> Tensor:
        total = F.cross_entropy(output.float(), masks.long(), ignore_index=void, reduction="sum")
        return total / (masks != void).sum().clamp(min=1)  # the mean over no pixel would be no number

    return Task(loss, {"accuracy": accuracy, "mean_iou": mean_iou}, void)
