"""From images of 0..255 to what a network's first layer expects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Preprocess(nn.Module):
    """Images (N, C, H, W) of 0..255, RGB or grey, to float32 (image / divisor - mean) / std; `bgr` turns RGB around."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, divisor: float, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,), *, bgr: bool = False
    ) -> None:
        super().__init__()
        self.divisor, self.bgr = divisor, bgr
        # Not weights: a state dict stays what it is in Keras and torchvision.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The same images, ready for `forward` of the network."""
        images = images.to(self.mean.dtype)
        if self.bgr:
            images = images.flip(-3)
        return (images / self.divisor - self.mean) / self.std


def unit() -> Preprocess:
    """0..255 to 0..1."""
    return Preprocess(255.0)


def caffe() -> Preprocess:
    """What Keras's VGG16 of ImageNet expects: BGR minus the mean colour (`preprocess_input(mode="caffe")`)."""
    return Preprocess(1.0, (103.939, 116.779, 123.68), bgr=True)


def torchvision() -> Preprocess:
    """What torchvision's ImageNet networks expect: RGB of 0..1, normalised (`preprocess_input(mode="torch")`)."""
    return Preprocess(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def for_channels(in_channels: int, batch_norm: bool) -> Preprocess:
    """What the published VGG16 of that kind expects; other channels than RGB have no ImageNet statistics.

    Keras publishes the plain network, torchvision the batch-normalised one.
    """
    if in_channels != 3:
        return unit()
    return torchvision() if batch_norm else caffe()
