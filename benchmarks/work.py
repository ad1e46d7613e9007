"""What every loop of the comparison trains: the same network, weights, batches and loss."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_convae.data import VOID
from torch_convae.models import create
from torch_convae.training import Task, classification, reconstruction, segmentation

LR, EPSILON = 1e-3, 1e-7  # Adam's, as in Keras


@dataclass(frozen=True)
class Work:
    """A network with its first weights, images (N, C, H, W) of bytes with their targets, and how many a step takes."""

    name: str
    network: nn.Module
    images: Tensor
    targets: Tensor
    batch: int

    @property
    def steps(self) -> int:
        """How many steps an epoch has."""
        return len(self.images) // self.batch

    @property
    def task(self) -> Task:
        """The loss, by what the targets are: classes, masks, or the images themselves."""
        return {1: classification(), 3: segmentation(VOID), 4: reconstruction()}[self.targets.dim()]

    def model(self) -> nn.Module:
        """A network of one's own, with the first weights."""
        return deepcopy(self.network).train()

    def inputs(self) -> Tensor:
        """All images as the network takes them, float32."""
        ready: Tensor = self.network.preprocessing(self.images)  # type: ignore[operator]
        return ready

    def goals(self) -> Tensor:
        """What the loss compares with: the inputs themselves, or classes as int64."""
        return self.inputs() if self.targets.dim() == 4 else self.targets.long()

    def batches(self, steps: int) -> Iterator[slice]:
        """Where the first batches lie."""
        return (slice(step * self.batch, (step + 1) * self.batch) for step in range(steps))


def loss_of(output: Tensor, goals: Tensor) -> Tensor:
    """The loss as a user would write it."""
    return F.mse_loss(output, goals) if output.shape == goals.shape else F.cross_entropy(output, goals)


def autoencoder(device: torch.device, batch: int = 64, steps: int = 3, size: int = 28) -> Work:
    """DataCamp's convolutional autoencoder, on images of Fashion-MNIST's size."""
    images = _random((steps * batch, 1, size, size), 256).to(device)
    return Work("convae", _network("convae", device), images, images, batch)


def unet(device: torch.device, batch: int = 4, steps: int = 3, size: int = 64) -> Work:
    """A U-Net on VGG16, 6 classes."""
    images, masks = _random((steps * batch, 3, size, size), 256), _random((steps * batch, size, size), 6)
    return Work("vgg16_unet", _network("vgg16_unet", device, classes=6), images.to(device), masks.to(device), batch)


def of_network(name: str, classes: int, device: torch.device, size: tuple[int, int], batch: int, steps: int) -> Work:
    """Any other network on images (3, H, W): VGG16 with its top for classes of images, the rest for those of pixels."""
    count = steps * batch
    images = _random((count, 3, *size), 256).to(device)
    targets = _random((count,) if name == "vgg16" else (count, *size), min(classes, 256)).to(device)
    options = {"classes": classes} | ({"size": size[0]} if name == "vgg16" else {})
    whole = targets.long() if name == "vgg16" else targets
    return Work(name, _network(name, device, **options), images, whole, batch)


def _network(name: str, device: torch.device, **options: int) -> nn.Module:
    torch.manual_seed(0)
    return create(name, **options).to(device)


def _random(shape: tuple[int, ...], below: int) -> Tensor:
    return torch.randint(0, below, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
