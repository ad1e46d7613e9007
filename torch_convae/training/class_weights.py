"""How much each class counts in a loss, where some classes are rare: by median frequency, published, or given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConvaeError

# In the authors' training file of SegNet for CamVid. They are not what `median_frequency` gives for the
# 367 masks that were published beside it.
SEGNET_CAMVID_WEIGHTS: Mapping[str, float] = {
    "Sky": 0.2595,
    "Building": 0.1826,
    "Pole": 4.5640,
    "Road": 0.1417,
    "Pavement": 0.9051,
    "Tree": 0.3826,
    "SignSymbol": 9.6446,
    "Fence": 1.8418,
    "Car": 0.6823,
    "Pedestrian": 6.2478,
    "Bicyclist": 7.3614,
}
CHOICES = ("none", "median", "published")


@dataclass(frozen=True)
class Frequencies:
    """Additive counts: pixels of each class (classes,), and all pixels of the images that have it."""

    pixels: Tensor
    among: Tensor

    def __add__(self, other: Frequencies) -> Frequencies:
        return Frequencies(self.pixels + other.pixels, self.among + other.among)

    @property
    def weights(self) -> Tensor:
        """Median-frequency balancing (classes,): the median of the frequencies over each; 0 for an absent class."""
        present = self.pixels > 0
        if not present.any():
            return torch.ones_like(self.pixels, dtype=torch.float64)
        frequency = self.pixels.double() / self.among.clamp(min=1)
        # The mean of the middle two where their number is even, as NumPy has it; torch's own takes the lower.
        middle = frequency[present].quantile(0.5)
        return torch.where(present, middle / frequency.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def frequencies(targets: Tensor, classes: int) -> Frequencies:
    """Counts over masks (N, H, W) of class indices, any index beyond the classes being void; or over labels (N,).

    A pixel of void is one of its image, but of no class.
    """
    if targets.ndim == 1:
        counts = torch.bincount(targets.cpu(), minlength=classes)
        return Frequencies(counts, torch.full_like(counts, len(targets)))
    pixels = torch.stack([torch.bincount(mask.flatten().long(), minlength=classes)[:classes] for mask in targets.cpu()])
    return Frequencies(pixels.sum(dim=0), (pixels > 0).sum(dim=0) * targets[0].numel())


def median_frequency(batches: Iterable[Tensor], classes: int) -> Tensor:
    """The weight of each class (classes,) over all targets, given in batches of any size."""
    nothing = torch.zeros(classes, dtype=torch.int64)
    return sum((frequencies(batch, classes) for batch in batches), Frequencies(nothing, nothing)).weights


def class_weights(choice: str, names: Sequence[str], batches: Iterable[Tensor]) -> Tensor | None:
    """The weights (classes,) that `--class-weights` asks for: one of `CHOICES`, or one number a class."""
    if choice == "none":
        return None
    if choice == "median":
        return median_frequency(batches, len(names)).float()
    if choice == "published":
        return _published(names)
    return _given(choice, names)


def _published(names: Sequence[str]) -> Tensor:
    if set(names) != set(SEGNET_CAMVID_WEIGHTS):
        raise ConvaeError(
            f"The published class weights are for {', '.join(SEGNET_CAMVID_WEIGHTS)}, not for {', '.join(names[:11])}. "
            "Name the classes in classes.txt, or take --class-weights median."
        )
    return torch.tensor([SEGNET_CAMVID_WEIGHTS[name] for name in names])


def _given(text: str, names: Sequence[str]) -> Tensor:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConvaeError(
            f"--class-weights {text!r} is neither {', '.join(CHOICES)} nor a list of numbers, one for each of "
            f"{', '.join(names)}."
        ) from error
    if len(values) != len(names) or not all(0 <= value < math.inf for value in values) or not any(values):
        raise ConvaeError(
            f"--class-weights {text!r} should hold {len(names)} numbers of at least 0, not all 0: "
            f"for {', '.join(names)}."
        )
    return torch.tensor(values)
