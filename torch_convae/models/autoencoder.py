"""The convolutional autoencoder of DataCamp's tutorial, and the classifier on its encoder.

Its layers have no names of their own, so they carry those that Keras gives in a fresh session. The
order is conv -> ReLU -> BatchNormalization throughout, as in the original.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import batch_norm, conv, dense, size_alone, size_of, upsample
from .model import Model, softmax

ENCODER = ((32, 32), (64, 64), (128, 128, 256, 256))  # widths, a pooling between the groups
DECODER = ((128, 128, 64, 64), (32, 32))  # widths, an up-sampling after each group
CODE = 256


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
    """Images (N, C, H, W) to maps of 32, 64 and 256 channels, each before its pooling; the last is the code."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__(in_channels, ENCODER)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 32, H, W), (N, 64, H / 2, W / 2), (N, 256, H / 4, W / 4)."""
        maps: list[Tensor] = []
        for group in range(len(ENCODER)):
            maps.append(self.run(self.pool(maps[-1]) if maps else x, group))
        return maps


class ConvDecoder(_Convolutions):
    """The code (N, 256, h, w) to images (N, C, H, W) of 0..1."""

    def __init__(self, out_channels: int = 1) -> None:
        first = sum(map(len, ENCODER))
        super().__init__(CODE, DECODER, first)
        self.last = _name("conv2d", first + sum(map(len, DECODER)))
        self.add_module(self.last, conv(DECODER[-1][-1], out_channels))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Images, from the code, which comes last, grown to the sizes of the maps before it."""
        *above, code = features
        for group, map_ in enumerate(reversed(above)):
            code = upsample(self.run(code, group), size_of(map_))
        return torch.sigmoid(self.get_submodule(self.last)(code))


class ConvAutoencoder(Model):
    """Images (N, C, H, W) of 0..1 to their reconstruction, of the same shape."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.encoder = ConvEncoder(in_channels)
        self.decoder = ConvDecoder(in_channels)

    def encode(self, x: Tensor) -> list[Tensor]:
        """The code (N, 256, H / 4, W / 4), last, behind the sizes of the maps that were pooled."""
        *above, code = self.encoder(x)
        return [*map(size_alone, above), code]

    def decode(self, features: list[Tensor]) -> Tensor:
        """The reconstruction, of 0..1."""
        image: Tensor = self.decoder(features)
        return image


class ConvClassifier(Model):
    """Images (N, C, H, W) of 0..1 to logits (N, classes): the encoder and two dense layers.

    `size` is that of the images, height and width or one number for both: 256 * (height // 4) *
    (width // 4) values enter the first dense layer.
    """

    def __init__(self, classes: int, in_channels: int = 1, size: int | tuple[int, int] = 28) -> None:
        super().__init__(activation=softmax)
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 4:
            raise ValueError(f"The encoder pools twice and takes images of at least 4 pixels, not {height} x {width}.")
        self.encoder = ConvEncoder(in_channels)
        self.head = DenseHead(CODE * (height // 4) * (width // 4), classes)

    def encode(self, x: Tensor) -> Tensor:
        """The code (N, 256, H / 4, W / 4)."""
        code: Tensor = self.encoder(x)[-1]
        return code

    def decode(self, features: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.head(features)
        return logits


class DenseHead(nn.Module):
    """A code (N, C, h, w) to logits (N, classes), through 128 values."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.dense = dense(features, 128)
        self.dense_1 = dense(128, classes)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Logits; the softmax of the original's last layer is left to the loss and to `predict`."""
        logits: Tensor = self.dense_1(self.relu(self.dense(x.flatten(1))))
        return logits
