"""From images of 0..255 to what a network's first layer expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Mode:
    """(image / `divisor` - `mean`) / `std`, channel by channel, of an image in RGB or BGR order."""

    divisor: float
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False


# By the names of Keras's `preprocess_input(mode=...)`: Keras's VGG16 wants "caffe", torchvision's
# networks "torch". "unit" is 0..1.
MODES: Mapping[str, Mode] = {
    "unit": Mode(255.0),
    "caffe": Mode(1.0, (103.939, 116.779, 123.68), bgr=True),
    "torch": Mode(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "tf": Mode(127.5, (1.0,)),
}


class Preprocess(nn.Module):
    """Images (N, C, H, W) of 0..255, RGB or grey, to float32 as the mode says."""

    mean: Tensor
    std: Tensor

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.channels: int | None = None  # that grey images get, all alike, for a network of colours
        # Not weights: a state dict stays what it is in Keras and torchvision.
        self.register_buffer("mean", torch.tensor(MODES[mode].mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(MODES[mode].std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The same images, ready for `forward` of the network."""
        mode, images = MODES[self.mode], images.to(self.mean.dtype)
        if self.channels and images.shape[-3] == 1:
            images = images.expand(*images.shape[:-3], self.channels, *images.shape[-2:])
        if mode.bgr:
            images = images.flip(-3)
        # What would change nothing is left out: each is a pass over all pixels.
        if mode.divisor != 1:
            images = images / mode.divisor
        if any(mode.mean):
            images = images - self.mean
        return images / self.std if set(mode.std) != {1.0} else images

    def extra_repr(self) -> str:
        """The mode, for print(model)."""
        return self.mode


def vgg_mode(in_channels: int, batch_norm: bool) -> str:
    """What the published VGG16 of that kind expects; other channels than RGB have no ImageNet statistics.

    Keras publishes the plain network, torchvision the batch-normalised one.
    """
    if in_channels != 3:
        return "unit"
    return "torch" if batch_norm else "caffe"
