"""The U-Net that stands on VGG16: its encoder's maps, and azavea's decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import blocks as layers
from .model import Model, softmax
from .preprocessing import vgg_mode
from .vgg import VGG16Encoder

DECODER_WIDTHS = (256, 128, 64, 32)  # coarse to fine


class UNetDecoder(nn.Module):
    """Encoder maps, fine to coarse, to logits (N, classes, H, W) at the size of the first.

    Each step doubles the map, puts the encoder's map of that size behind it, and applies twice
    conv -> ReLU -> BatchNormalization -> ReLU (the second ReLU is in the original, and kept). Layers
    count on after the encoder's blocks, as the original numbers them: with five, `conv_6_1` to
    `conv_9_2`, and `conv_10_1` for the classes. Source: raster-vision's `unet.py` of 2017.
    """

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        blocks = len(widths)
        self.steps = range(blocks + 1, 2 * blocks)
        below = widths[-1]
        for step, skip, width in zip(self.steps, widths[-2::-1], DECODER_WIDTHS[1 - blocks :], strict=True):
            for stage, channels in ((1, below + skip), (2, width)):
                self.add_module(f"conv_{step}_{stage}", layers.conv(channels, width))
                self.add_module(f"batch_norm_{step}_{stage}", layers.batch_norm(width))
            below = width
        self.classifier = f"conv_{2 * blocks}_1"
        self.add_module(self.classifier, layers.conv(below, classes, size=1))
        self.relu = nn.ReLU()

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits (N, classes, H, W)."""
        x = maps[-1]
        for step, skip in zip(self.steps, maps[-2::-1], strict=True):
            x = torch.cat([layers.upsample(x, (skip.shape[-2], skip.shape[-1])), skip], dim=1)
            for stage in (1, 2):
                x = self.relu(self.get_submodule(f"conv_{step}_{stage}")(x))
                x = self.relu(self.get_submodule(f"batch_norm_{step}_{stage}")(x))
        logits: Tensor = self.get_submodule(self.classifier)(x)
        return logits


class VGG16UNet(Model):
    """Images (N, C, H, W) of any size to class logits (N, classes, H, W), on 2 to 5 blocks of VGG16.

    The decoder is given each of the encoder's maps divided by its number in `scales`: all 1 in Keras's
    network, and by default. ImageNet's VGG16 gives values in the hundreds, beside which the decoder's own,
    which are normalised to about 1, are lost; divided by their standard deviations, both count.
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
        super().__init__(vgg_mode(in_channels, batch_norm), softmax)
        if not 2 <= blocks <= 5:
            raise ValueError(f"A VGG16 U-Net has 2 to 5 encoder blocks, not {blocks}.")
        if scales is not None and (len(scales) != blocks or min(scales) <= 0):
            raise ValueError(f"scales holds a positive number for each of {blocks} maps, not {tuple(scales)}.")
        self.encoder = VGG16Encoder(in_channels, blocks, batch_norm=batch_norm)
        self.decoder = UNetDecoder(self.encoder.widths, classes)
        self.scales = tuple(scales or [1.0] * blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes, H, W)."""
        maps = [m if scale == 1 else m / scale for m, scale in zip(self.encoder(x), self.scales, strict=True)]
        logits: Tensor = self.decoder(maps)
        return logits
