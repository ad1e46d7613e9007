"""The convolutional autoencoder of DataCamp's tutorial, and the classifier on its encoder.

Its layers have no names of their own, so they carry those that Keras gives in a fresh session. The
order is conv -> ReLU -> BatchNormalization throughout, as in the original.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from .blocks import batch_norm, conv, upsample
from .flattening import DenseOnMap, DenseToMap
from .heads import DenseHead
from .model import Model, probabilities
from .noise import GaussianNoise
from .sizes import Size, floored, refuse_small, size_alone, size_of

ENCODER = ((32, 32), (64, 64), (128, 128, 256, 256))  # widths, a pooling between the groups
DECODER = ((128, 128, 64, 64), (32, 32))  # widths, an up-sampling after each group
CHANNELS = 256
HIDDEN = (128,)  # of the classifier's head
POOLINGS = len(ENCODER) - 1


def _name(prefix: str, rank: int) -> str:
    return f"{prefix}_{rank}" if rank else prefix


class _Convolutions(nn.Module):
    """Convolutions in groups, each conv -> ReLU -> BatchNormalization, counted on from `first`."""

    def __init__(self, channels: int, groups: tuple[tuple[int, ...], ...], first: int = 0) -> None:
        super().__init__()
        self.groups, rank = [], first
        for widths in groups:
            self.groups.append(range(rank, rank + len(widths)))
            for width in widths:
                self.add_module(_name("conv2d", rank), conv(channels, width))
                self.add_module(_name("batch_normalization", rank), batch_norm(width))
                channels, rank = width, rank + 1
        self.relu = nn.ReLU()

    def run(self, x: Tensor, group: int) -> Tensor:
        """One group applied."""
        for rank in self.groups[group]:
            x = self.relu(self.get_submodule(_name("conv2d", rank))(x))
            x = self.get_submodule(_name("batch_normalization", rank))(x)
        return x


class ConvEncoder(_Convolutions, Model):
    """Images (N, C, H, W) to maps of 32, 64 and 256 channels, each before its pooling; the last is the code.

    With `code` a Dense layer without an activation makes so many values of the last, of images of the given `size`.
    """

    def __init__(self, in_channels: int = 1, code: int | None = None, size: Size = 28) -> None:
        super().__init__(in_channels, ENCODER)
        self.pool = nn.MaxPool2d(2)
        self.dense = DenseOnMap(CHANNELS, map_size(size), code) if code else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 32, H, W), (N, 64, H / 2, W / 2), and (N, 256, H / 4, W / 4) or (N, code)."""
        refuse_small(x, 2**POOLINGS, "The conv autoencoder")
        maps: list[Tensor] = []
        for group in range(len(ENCODER)):
            maps.append(self.run(self.pool(maps[-1]) if maps else x, group))
        if self.dense is not None:
            maps[-1] = self.dense(maps[-1])
        return maps


class ConvDecoder(_Convolutions):
    """The code to images (N, C, H, W) of 0..1. With `code`, a Dense layer with ReLU makes a map of so many values."""

    def __init__(self, out_channels: int = 1, code: int | None = None, size: Size = 28) -> None:
        first = sum(map(len, ENCODER))
        super().__init__(CHANNELS, DECODER, first)
        self.dense_1 = DenseToMap(code, CHANNELS, map_size(size)) if code else None
        self.last = _name("conv2d", first + sum(map(len, DECODER)))
        self.add_module(self.last, conv(DECODER[-1][-1], out_channels))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Images, from the code, which comes last, grown to the sizes of the maps before it."""
        *above, x = features
        if self.dense_1 is not None:
            x = self.relu(self.dense_1(x))
        for group, map_ in enumerate(reversed(above)):
            x = upsample(self.run(x, group), size_of(map_))
        return torch.sigmoid(self.get_submodule(self.last)(x))


class ConvAutoencoder(Model):
    """Images (N, C, H, W) of 0..1 to their reconstruction, of the same shape.

    The original's code, 7 x 7 x 256 values of an image of 28 x 28, is larger than the image. With `code` it
    is squeezed into so many values; images then have the given `size`. With `noise`, Gaussian noise of that
    standard deviation is added to the images in training: with a loss against the clean ones, the network
    learns to take it away. One channel: 1,758,657 parameters as Keras counts them.
    """

    ENCODING: ClassVar[tuple[str, ...]] = ("noise", "encoder")

    def __init__(self, in_channels: int = 1, code: int | None = None, size: Size = 28, *, noise: float = 0.0) -> None:
        super().__init__()
        self.noise = GaussianNoise(noise)
        self.encoder = ConvEncoder(in_channels, code, size)
        self.decoder = ConvDecoder(in_channels, code, size)

    def encode(self, x: Tensor) -> list[Tensor]:
        """The code (N, 256, H / 4, W / 4) or (N, code), last, behind the sizes of the maps that were pooled."""
        *above, code = self.encoder(self.noise(x))
        return [*map(size_alone, above), code]

    def decode(self, features: list[Tensor]) -> Tensor:
        """The reconstruction, of 0..1."""
        image: Tensor = self.decoder(features)
        return image


class ConvClassifier(Model):
    """Images (N, C, H, W) of 0..1 to logits (N, classes): the encoder and two dense layers.

    `size` is that of the images, height and width or one number for both: 256 * (height // 4) *
    (width // 4) values enter the first dense layer, or the `code` of an encoder that has one. 10 classes:
    2,782,570 parameters as Keras counts them.
    """

    def __init__(self, classes: int, in_channels: int = 1, size: Size = 28, code: int | None = None) -> None:
        super().__init__(activation=probabilities(classes))
        self.encoder = ConvEncoder(in_channels, code, size)
        if code:
            self.head = DenseHead(code, classes, HIDDEN, first=1)
        else:
            self.head = DenseHead(CHANNELS, classes, HIDDEN, size=map_size(size))

    def encode(self, x: Tensor) -> Tensor:
        """The code (N, 256, H / 4, W / 4) or (N, code)."""
        code: Tensor = self.encoder(x)[-1]
        return code

    def decode(self, features: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.head(features)
        return logits


def map_size(size: Size) -> tuple[int, int]:
    """The size of the last map for images of that size."""
    return floored(size, POOLINGS, "The conv autoencoder")
