"""What a network is trained for: what it computes, its loss, and the figures that say how well it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .losses import class_loss, or_one
from .metrics import accuracy, confusion, errors, kappa, mean_class_accuracy, mean_f1, mean_iou, r2, rmse


class Additive(Protocol):
    """A loss of sums, which batches, parts of them and processes add up; so it is the same however they are cut."""

    def sums(self, output: Any, x: Tensor, targets: Tensor, /) -> Tensor:
        """Those of a batch (n,), float64."""

    def of(self, sums: Tensor, /) -> Tensor:
        """The loss of all that they are the sums over."""

    def ahead(self, targets: Tensor, /) -> Tensor | None:
        """What the targets alone tell of the sums, if that is all that the gradients need to know of them."""


def every_image(targets: Tensor) -> Tensor:
    """As many as there are images in a batch."""
    return torch.tensor(len(targets), dtype=torch.float64, device=targets.device)


@dataclass(frozen=True)
class Mean:
    """A loss that is the mean over what counts in a batch, and `weight(targets)`: how much that is, without a shape.

    The sums are that of loss times weight, and that of the weights. Where nothing counts, the loss counts for
    nothing, whatever it is.
    """

    loss: Callable[[Any, Tensor, Tensor], Tensor]
    weight: Callable[[Tensor], Tensor] = every_image

    def sums(self, output: Any, x: Tensor, targets: Tensor) -> Tensor:
        """Those of a batch."""
        weight, loss = self.weight(targets).double(), self.loss(output, x, targets).double()
        return torch.stack([torch.where(weight > 0, loss, 0) * weight, weight])

    def of(self, sums: Tensor) -> Tensor:
        """One divided by the other; 0 where nothing counts."""
        return sums[0] / or_one(sums[1])

    def ahead(self, targets: Tensor) -> Tensor:
        """The weight."""
        weight = self.weight(targets).double()
        return torch.stack([torch.zeros_like(weight), weight])


@dataclass(frozen=True)
class Task:
    """What a network is trained for.

    `count(output, targets)` gives statistics that are summed over a split (a confusion matrix, sums of errors);
    `figures` are numbers that each come from those sums. `output(model, x)` is what the loss is of: `model(x)` where
    it is None, which is what cached features need. `needs_images` says that the loss looks at `x`; where it does
    not, a stage on cached features loads none.
    """

    loss: Additive
    count: Callable[[Any, Tensor], Tensor] | None = None
    figures: Mapping[str, Callable[[Tensor], float]] = field(default_factory=dict)
    output: Callable[[nn.Module, Tensor], Any] | None = None
    needs_images: bool = False


class Objective(nn.Module):
    """What a step minimises, as one module: a wrapper for several devices sees the whole of its forward."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task

    def output(self, x: Tensor) -> Any:
        """What the task's loss and figures are of, from preprocessed images (N, C, H, W)."""
        return self.model(x) if self.task.output is None else self.task.output(self.model, x)

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        """The sums (n,) that the loss is made of."""
        return self.task.loss.sums(self.output(x), x, targets)


def reconstruction() -> Task:
    """The images themselves, by mean squared error."""
    return Task(Mean(lambda output, images, _: F.mse_loss(output.float(), images)), needs_images=True)


CLASS_FIGURES: Mapping[str, Callable[[Tensor], float]] = {"accuracy": accuracy, "f1": mean_f1, "kappa": kappa}


def classification(loss: str = "cross-entropy", weights: Tensor | None = None) -> Task:
    """One class an image; `loss` and the class `weights` (classes,) as `class_loss` takes them."""
    return Task(class_loss(loss, weights), lambda output, targets: confusion(output, targets, void=None), CLASS_FIGURES)


def segmentation(void: int, loss: str = "cross-entropy", weights: Tensor | None = None) -> Task:
    """One class a pixel, and none for `void`; a batch of nothing but `void` has a loss of 0."""
    return Task(
        class_loss(loss, weights, void),
        lambda output, masks: confusion(output, masks, void),
        {**CLASS_FIGURES, "mean_iou": mean_iou, "class_accuracy": mean_class_accuracy},
    )


def variational(beta: float = 1.0) -> Task:
    """The images themselves through a code that is nearly normal: squared errors, summed over an image, plus `beta`
    times the divergence of the code's distribution from the normal one; the mean over the images.

    Sequences (N, T, C, H, W) are taken frame by frame.
    """

    def output(model: nn.Module, x: Tensor) -> Any:
        return model.outputs(_frames(x))  # type: ignore[operator]

    def loss(output: Any, x: Tensor, _: Tensor) -> Tensor:
        images, mean, log_var = (part.float() for part in output)
        missed = F.mse_loss(images, _frames(x), reduction="none").flatten(1).sum(dim=1)
        divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(dim=1)
        total: Tensor = (missed + beta * divergence).mean()
        return total

    return Task(Mean(loss), output=output, needs_images=True)


def _frames(x: Tensor) -> Tensor:
    """Images (N, C, H, W), those of sequences one after the other."""
    return x.flatten(0, -4)


def regression() -> Task:
    """Values (N, K), by mean squared error."""
    return Task(Mean(lambda output, _, targets: F.mse_loss(output.float(), targets)), errors, {"rmse": rmse, "r2": r2})
