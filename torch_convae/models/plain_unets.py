"""U-Nets of convolutions and ReLU alone: jocicmarko's, zhixuhao's and the shallow one of three levels.

The originals name almost no layer, so theirs carry the names that Keras numbers them by in a fresh
session, in the order in which the originals build them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .blocks import conv, glorot, he, numbered
from .model import Model, probabilities
from .sizes import refuse_odd_sides

Names = Mapping[str, Iterator[str]]  # the numbered names of each class of layer
UPS = ("transpose", "upsample")


@dataclass(frozen=True)
class Design:
    """What tells one plain U-Net from another."""

    widths: tuple[int, ...]  # fine to coarse
    up: str  # "upsample", "transpose", or "convolution" behind an up-sampling
    skip_first: bool = False  # the encoder's map stands before the doubled one, not behind it
    dropout_between: float = 0.0  # of the two convolutions of every block
    dropout_behind: float = 0.0  # each of the two coarsest blocks
    last_features: str | None = None  # the name of the last 3x3 convolution, where it has one
    narrow: bool = False  # before the classes the map is made narrow
    relu_logits: bool = False
    initial: Callable[[nn.Conv2d], None] = glorot


class PlainUNet(Model):
    """Images (N, C, H, W) to class logits (N, classes, H, W).

    Heights and widths are multiples of 2 to the number of levels less one; others are refused. With one
    class `predict` gives its probability (a sigmoid), with more those of all (a softmax).
    """

    def __init__(self, classes: int, in_channels: int, design: Design) -> None:
        super().__init__(activation=probabilities(classes))
        if len(design.widths) < 2 or min(design.widths) < 1:
            raise ValueError(f"widths holds the channels of two levels or more, not {design.widths}.")
        names = {name: numbered(name) for name in ("conv2d", "conv2d_transpose")}
        self.encoder = PlainEncoder(in_channels, design, names)
        self.decoder = PlainDecoder(classes, design, names)
        self.halvings = len(design.widths) - 1

    def encode(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps, fine to coarse."""
        refuse_odd_sides(x, self.halvings)
        maps: list[Tensor] = self.encoder(x)
        return maps

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (N, classes, H, W)."""
        logits: Tensor = self.decoder(features)
        return logits


class PlainEncoder(nn.Module):
    """Images to maps, fine to coarse, one a block, each before its pooling."""

    def __init__(self, in_channels: int, design: Design, names: Names) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for level, width in enumerate(design.widths):
            behind = design.dropout_behind if level >= len(design.widths) - 2 else 0.0
            self.blocks.append(_block(names["conv2d"], in_channels, width, design, behind))
            in_channels = width
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps (N, width, H / 2^k, W / 2^k) of levels k = 0, 1, ..."""
        maps: list[Tensor] = []
        for block in self.blocks:
            maps.append(block(self.pool(maps[-1]) if maps else x))
        return maps


class PlainDecoder(nn.Module):
    """The encoder's maps to logits (N, classes, H, W)."""

    def __init__(self, classes: int, design: Design, names: Names) -> None:
        super().__init__()
        self.skip_first = design.skip_first
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        below = design.widths[-1]
        for level, width in reversed(list(enumerate(design.widths[:-1]))):
            up, channels = _up(names, below, width, design)
            name = design.last_features if level == 0 else None
            self.ups.append(up)
            self.blocks.append(_block(names["conv2d"], channels + width, width, design, last=name))
            below = width
        self.head = _head(names["conv2d"], below, classes, design)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits (N, classes, H, W)."""
        x = maps[-1]
        for up, block, skip in zip(self.ups, self.blocks, maps[-2::-1], strict=True):
            doubled = up(x)
            x = block(torch.cat([skip, doubled] if self.skip_first else [doubled, skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _block(
    names: Iterator[str], channels: int, width: int, design: Design, behind: float = 0.0, last: str | None = None
) -> nn.Sequential:
    """Twice conv -> ReLU, with the design's dropout."""
    steps: dict[str, nn.Module] = {next(names): conv(channels, width, initial=design.initial), "relu": nn.ReLU()}
    if design.dropout_between:
        steps["dropout"] = nn.Dropout(design.dropout_between)
    steps |= {last or next(names): conv(width, width, initial=design.initial), "relu_1": nn.ReLU()}
    if behind:
        steps["dropout_1"] = nn.Dropout(behind)
    return nn.Sequential(OrderedDict(steps))


def _head(names: Iterator[str], channels: int, classes: int, design: Design) -> nn.Sequential:
    steps: dict[str, nn.Module] = {}
    if design.narrow:
        narrow = max(2, classes)
        steps |= {next(names): conv(channels, narrow, initial=design.initial), "relu": nn.ReLU()}
        channels = narrow
    steps[next(names)] = conv(channels, classes, size=1)
    if design.relu_logits:
        steps["relu_1"] = nn.ReLU()
    return nn.Sequential(OrderedDict(steps))


def _up(names: Names, channels: int, width: int, design: Design) -> tuple[nn.Module, int]:
    """What doubles a map of so many channels, and how many it then has."""
    double = nn.Upsample(scale_factor=2, mode="nearest")
    if design.up == "upsample":
        return double, channels
    if design.up == "transpose":
        transposed = nn.ConvTranspose2d(channels, width, 2, stride=2)
        glorot(transposed)
        return nn.Sequential(OrderedDict({next(names["conv2d_transpose"]): transposed})), width
    layer = nn.Conv2d(channels, width, 2)
    design.initial(layer)
    # The `same` padding of an even kernel is at the right and at the bottom only.
    steps = {"upsample": double, "pad": nn.ZeroPad2d((0, 1, 0, 1)), next(names["conv2d"]): layer, "relu": nn.ReLU()}
    return nn.Sequential(OrderedDict(steps)), width


def jocicmarko_unet(
    classes: int = 1, in_channels: int = 1, *, up: str = "transpose", widths: Sequence[int] = (32, 64, 128, 256, 512)
) -> PlainUNet:
    """jocicmarko's U-Net for ultrasound images: five levels, doubled by transposed convolutions.

    `up="upsample"` is its form of before May 2017, from which many others were copied. One channel and
    one class: 7,759,521 parameters, with "upsample" 7,846,081. Source: jocicmarko's
    ultrasound-nerve-segmentation, `get_unet`.
    """
    if up not in UPS:
        raise ValueError(f"jocicmarko_unet takes up={' or '.join(map(repr, UPS))}, not {up!r}.")
    return PlainUNet(classes, in_channels, Design(tuple(widths), up))


def zhixuhao_unet(
    classes: int = 1, in_channels: int = 1, *, widths: Sequence[int] = (64, 128, 256, 512, 1024), dropout: float = 0.5
) -> PlainUNet:
    """zhixuhao's U-Net: five levels, doubled by UpSampling2D and a convolution of 2x2 with ReLU.

    The encoder's map stands first, and dropout follows each of the two coarsest blocks, before the map
    is handed across. Before the classes the map is made two channels wide (with more than two classes,
    as wide as these). One channel and one class: 31,031,685 parameters. Source: zhixuhao/unet, `model.py`.
    """
    design = Design(tuple(widths), "convolution", skip_first=True, dropout_behind=dropout, narrow=True, initial=he)
    return PlainUNet(classes, in_channels, design)


def shallow_unet(
    classes: int,
    in_channels: int = 3,
    *,
    widths: Sequence[int] = (32, 64, 128),
    dropout: float = 0.2,
    named_features: bool = True,
    relu_logits: bool = False,
) -> PlainUNet:
    """A U-Net of three levels, doubled by UpSampling2D, with dropout between the two convolutions of a block.

    The last 3x3 convolution is called `seg_feats`; `named_features=False` is for files of before March
    2021, where it is numbered like the others, and `relu_logits=True` for those of 2017, whose classes
    passed a ReLU. 3 channels and 10 classes: 471,850 parameters; 1 channel: 471,274. Source:
    image-segmentation-keras, `unet_mini`, in 2017 `Unet`.
    """
    last = "seg_feats" if named_features else None
    design = Design(tuple(widths), "upsample", dropout_between=dropout, last_features=last, relu_logits=relu_logits)
    return PlainUNet(classes, in_channels, design)
