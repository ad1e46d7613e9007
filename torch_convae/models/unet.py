"""azavea's U-Net, and the one that puts VGG16 in its encoder's place."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from . import blocks as layers
from .model import Model, probabilities
from .preprocessing import vgg_mode
from .sizes import refuse_odd_sides, refuse_small, size_of
from .vgg import VGG16Encoder

DECODER_WIDTHS = (256, 128, 64, 32)  # coarse to fine
ENCODER_WIDTHS = (32, 64, 128, 256, 512)  # azavea's, fine to coarse


class _Blocks(nn.Module):
    """Numbered blocks, each twice conv -> ReLU -> BatchNormalization -> ReLU.

    The second ReLU is in the original, and kept: what BatchNormalization makes negative is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def add(self, block: int, channels: int, width: int) -> None:
        """The layers of a block: `conv_1_1`, `batch_norm_1_1`, `conv_1_2` and `batch_norm_1_2` for the first."""
        for stage in (1, 2):
            self.add_module(f"conv_{block}_{stage}", layers.conv(channels if stage == 1 else width, width))
            self.add_module(f"batch_norm_{block}_{stage}", layers.batch_norm(width))

    def run(self, x: Tensor, block: int) -> Tensor:
        """A block applied."""
        for stage in (1, 2):
            x = self.relu(self.get_submodule(f"conv_{block}_{stage}")(x))
            x = self.relu(self.get_submodule(f"batch_norm_{block}_{stage}")(x))
        return x


class AzaveaEncoder(_Blocks):
    """Images (N, C, H, W) to maps of 32, 64, ... channels, one a block, each before its pooling."""

    def __init__(self, in_channels: int = 3, blocks: int = 5) -> None:
        super().__init__()
        self.widths = ENCODER_WIDTHS[:blocks]
        for block, width in enumerate(self.widths, start=1):
            self.add(block, in_channels, width)
            in_channels = width
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps (N, width, H / 2^k, W / 2^k) of blocks k = 0, 1, ..."""
        maps: list[Tensor] = []
        for block in range(1, len(self.widths) + 1):
            maps.append(self.run(self.pool(x) if maps else x, block))
            x = maps[-1]
        return maps


class UNetDecoder(_Blocks):
    """Encoder maps, fine to coarse, to logits (N, classes, H, W) at the size of the first.

    Each step doubles the map, puts the encoder's map of that size behind it, and applies a block. Blocks
    count on after the encoder's, as the original numbers them: with five, `conv_6_1` to `conv_9_2`, and
    `conv_10_1` for the classes. Source: raster-vision's `unet.py` of 2017.
    """

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        blocks = len(widths)
        self.steps = range(blocks + 1, 2 * blocks)
        below = widths[-1]
        for step, skip, width in zip(self.steps, widths[-2::-1], DECODER_WIDTHS[1 - blocks :], strict=True):
            self.add(step, below + skip, width)
            below = width
        self.classifier = f"conv_{2 * blocks}_1"
        self.add_module(self.classifier, layers.conv(below, classes, size=1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits (N, classes, H, W)."""
        x = maps[-1]
        for step, skip in zip(self.steps, maps[-2::-1], strict=True):
            x = self.run(torch.cat([layers.upsample(x, size_of(skip)), skip], dim=1), step)
        logits: Tensor = self.get_submodule(self.classifier)(x)
        return logits


class AzaveaUNet(Model):
    """Images (N, C, H, W) to class logits (N, classes, H, W), on 2 to 5 blocks of 32, 64, ... channels.

    Heights and widths are multiples of 16 with five blocks, of 2 with two; others are refused. 6 classes:
    7,858,598 parameters as Keras counts them, with 6 channels 7,859,462. Source: raster-vision's `unet.py` of 2017.
    """

    def __init__(self, classes: int, in_channels: int = 3, blocks: int = 5) -> None:
        super().__init__(activation=probabilities(classes))
        if not 2 <= blocks <= 5:
            raise ValueError(f"An azavea U-Net has 2 to 5 encoder blocks, not {blocks}.")
        self.encoder = AzaveaEncoder(in_channels, blocks)
        self.decoder = UNetDecoder(self.encoder.widths, classes)
        self.halvings = blocks - 1

    def encode(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps, fine to coarse."""
        refuse_odd_sides(x, self.halvings)
        maps: list[Tensor] = self.encoder(x)
        return maps

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (N, classes, H, W)."""
        logits: Tensor = self.decoder(features)
        return logits


class VGG16UNet(Model):
    """Images (N, C, H, W) of any size to class logits (N, classes, H, W), on 2 to 5 blocks of VGG16.

    The decoder is given each of the encoder's maps divided by its number in `scales`: all 1 in Keras's
    network, and by default. ImageNet's VGG16 gives values in the hundreds, beside which the decoder's own,
    which are normalised to about 1, are lost; divided by their standard deviations, both count while training.
    `folded` then has the divisions in its weights. 6 classes: 18,636,486 parameters as Keras counts them.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int = 3,
        blocks: int = 5,
        *,
        batch_norm: bool = False,
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__(vgg_mode(in_channels, batch_norm), probabilities(classes))
        if not 2 <= blocks <= 5:
            raise ValueError(f"A VGG16 U-Net has 2 to 5 encoder blocks, not {blocks}.")
        if scales is not None and (len(scales) != blocks or min(scales) <= 0):
            raise ValueError(f"scales holds a positive number for each of {blocks} maps, not {tuple(scales)}.")
        self.encoder = VGG16Encoder(in_channels, blocks, batch_norm=batch_norm)
        self.decoder = UNetDecoder(self.encoder.widths, classes)
        self.scales = tuple(scales or [1.0] * blocks)

    @property
    def unlike_keras(self) -> str:
        """What it computes beside its weights, for which Keras's network has no place; "" where that is nothing."""
        if set(self.scales) == {1.0}:
            return ""
        return f"it divides its encoder's maps by scales={self.scales}. Take its folded(), which computes the same."

    def rescale(self, scales: Sequence[float]) -> None:
        """Divide by these numbers from now on; the decoder's weights change so that all outputs stay what they are."""
        factors = [new / old for new, old in zip(scales, self.scales, strict=True)]
        with torch.no_grad():
            for step, skip in zip(self.decoder.steps, range(len(factors) - 2, -1, -1), strict=True):
                weight = self.decoder.get_parameter(f"conv_{step}_1.weight")
                width = self.encoder.widths[skip]
                weight[:, -width:] *= factors[skip]
                if step == self.decoder.steps[0]:
                    weight[:, :-width] *= factors[-1]
        self.scales = tuple(scales)

    def folded(self) -> VGG16UNet:
        """A copy that computes the same with scales of 1: Keras's network, whose weights are all there is."""
        copy = deepcopy(self)
        copy.rescale([1.0] * len(self.scales))
        return copy

    def encode(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps, fine to coarse, each divided by its scale."""
        refuse_small(x, 2 ** (len(self.scales) - 1), "This network")
        return [m if scale == 1 else m / scale for m, scale in zip(self.encoder(x), self.scales, strict=True)]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (N, classes, H, W)."""
        logits: Tensor = self.decoder(features)
        return logits
