"""VGG16's layers under their Keras names, so that Keras weights match by name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import conv, dense
from .flattening import DenseOnMap
from .model import Model, probabilities
from .preprocessing import vgg_mode
from .sizes import Size, floored, refuse_small

DEPTHS = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)
BLOCKS = len(DEPTHS)
HIDDEN = 4096


class VGG16Encoder(Model):
    """Images (N, C, H, W) to feature maps, one a block, each after its last ReLU and before its pooling.

    The layers are those of `keras.applications.VGG16`; with `batch_norm` each convolution is followed
    by a BatchNorm2d `block1_conv1_bn`, as in torchvision's vgg16_bn (with its epsilon of 1e-5).
    `blocks` of the five are built. Source: Simonyan and Zisserman 2014, configuration D.
    """

    def __init__(
        self, in_channels: int = 3, blocks: int = 5, *, batch_norm: bool = False, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__(vgg_mode(in_channels, batch_norm))
        if not 1 <= blocks <= BLOCKS:
            raise ValueError(f"VGG16 has {BLOCKS} blocks, not {blocks}.")
        if len(widths) < blocks:
            raise ValueError(f"widths holds the channels of {blocks} blocks, not {tuple(widths)}.")
        self.blocks, self.widths, self.batch_norm = blocks, tuple(widths[:blocks]), batch_norm
        for block, (depth, width) in enumerate(zip(DEPTHS[:blocks], self.widths, strict=True), start=1):
            for stage in range(1, depth + 1):
                self.add_module(f"block{block}_conv{stage}", conv(in_channels, width))
                if batch_norm:
                    self.add_module(f"block{block}_conv{stage}_bn", nn.BatchNorm2d(width))
                in_channels = width
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps (N, width, H / 2^k, W / 2^k) of blocks k = 0, 1, ..."""
        maps: list[Tensor] = []
        for block in range(1, self.blocks + 1):
            x = self.run(self.pool(x) if maps else x, block)
            maps.append(x)
        return maps

    def run(self, x: Tensor, block: int) -> Tensor:
        """A block applied."""
        for stage in range(1, DEPTHS[block - 1] + 1):
            x = self.get_submodule(f"block{block}_conv{stage}")(x)
            if self.batch_norm:
                x = self.get_submodule(f"block{block}_conv{stage}_bn")(x)
            x = self.relu(x)
        return x


class VGG16(Model):
    """VGG16 as in Keras: without `classes` the last block after its pooling, with them logits (N, classes).

    The top takes images of about `size` pixels, height and width or one number for both:
    512 * (height // 32) * (width // 32) values enter `fc1`. 14,714,688 parameters, 138,357,544 with the top
    for 1000 classes.
    """

    def __init__(
        self,
        classes: int | None = None,
        in_channels: int = 3,
        size: Size = 224,
        *,
        batch_norm: bool = False,
        widths: Sequence[int] = WIDTHS,
        hidden: int = HIDDEN,
    ) -> None:
        super().__init__(vgg_mode(in_channels, batch_norm), probabilities(classes) if classes else None)
        if len(widths) != BLOCKS:
            raise ValueError(f"widths holds the channels of {BLOCKS} blocks, not {tuple(widths)}.")
        self.encoder = VGG16Encoder(in_channels, batch_norm=batch_norm, widths=widths)
        map_size = floored(size, BLOCKS, "VGG16")
        self.head = VGG16Head(self.encoder.widths[-1], map_size, classes, hidden) if classes else None

    def encode(self, x: Tensor) -> Tensor:
        """The last block after its pooling: (N, 512, H / 32, W / 32)."""
        refuse_small(x, 2**BLOCKS, "VGG16")
        features: Tensor = self.encoder.pool(self.encoder(x)[-1])
        return features

    def decode(self, features: Tensor) -> Tensor:
        """Logits (N, classes); without a top the features as they are."""
        return features if self.head is None else self.head(features)


class VGG16Head(nn.Module):
    """The three dense layers: features (N, C, h, w) of one size to logits (N, classes)."""

    def __init__(self, channels: int, size: tuple[int, int], classes: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.fc1 = DenseOnMap(channels, size, hidden)
        self.fc2 = dense(hidden, hidden)
        self.predictions = dense(hidden, classes)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Logits; the softmax of Keras's `predictions` is left to the loss and to `predict`."""
        logits: Tensor = self.predictions(self.relu(self.fc2(self.relu(self.fc1(x)))))
        return logits
