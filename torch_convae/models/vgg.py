"""VGG16's layers under their Keras names, so that Keras weights match by name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import conv, dense
from .model import Model, softmax
from .preprocessing import vgg_mode

DEPTHS = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)


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
        if not 1 <= blocks <= len(DEPTHS):
            raise ValueError(f"VGG16 has {len(DEPTHS)} blocks, not {blocks}.")
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

    The top takes images of about `size` pixels: 512 * (size // 32)^2 values enter `fc1`.
    """

    def __init__(
        self, classes: int | None = None, in_channels: int = 3, size: int = 224, *, batch_norm: bool = False
    ) -> None:
        super().__init__(vgg_mode(in_channels, batch_norm), softmax if classes else None)
        if classes and size < 32:
            raise ValueError(f"VGG16 with a top takes images of at least 32 pixels, not {size}.")
        self.encoder = VGG16Encoder(in_channels, batch_norm=batch_norm)
        self.head = VGG16Head(WIDTHS[-1] * (size // 32) ** 2, classes) if classes else None

    def encode(self, x: Tensor) -> Tensor:
        """The last block after its pooling: (N, 512, H / 32, W / 32)."""
        features: Tensor = self.encoder.pool(self.encoder(x)[-1])
        return features

    def decode(self, features: Tensor) -> Tensor:
        """Logits (N, classes); without a top the features as they are."""
        return features if self.head is None else self.head(features)


class VGG16Head(nn.Module):
    """The three dense layers: features (N, 512, h, w) to logits (N, classes)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.fc1 = dense(features, 4096)
        self.fc2 = dense(4096, 4096)
        self.predictions = dense(4096, classes)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Logits; the softmax of Keras's `predictions` is left to the loss and to `predict`."""
        x = self.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.predictions(self.relu(self.fc2(x)))
        return logits
