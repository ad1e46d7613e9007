"""`vgg_segnet` and `vgg_unet` of image-segmentation-keras: VGG16's first four blocks under a light decoder.

That library feeds its networks RGB less the mean colour, although VGG16's weights want BGR; `predict`
gives them BGR. For weights that were trained there, call `model(model.preprocessing(images).flip(1))`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConvaeError
from .blocks import batch_norm, conv, numbered
from .model import Model, probabilities
from .preprocessing import vgg_mode
from .sizes import refuse_small
from .vgg import WIDTHS, VGG16Encoder

BLOCKS = 4
HALVED = 2**BLOCKS


class SegmentationDecoder(nn.Module):
    """Pooled maps, fine to coarse, to logits (N, classes, H, W) at the size of the finest.

    Before each convolution but the first the map is doubled. With `skips` the encoder's pooled map of that
    size is put behind it; without, the coarsest map is all that is taken. Then conv (-> ReLU) ->
    BatchNormalization. The last of the convolutions is called `seg_feats` (`named_features`); the others,
    and the classes, have numbers.
    """

    def __init__(self, widths: Sequence[int], classes: int, *, skips: bool, relu: bool, named_features: bool) -> None:
        super().__init__()
        names, norm_names = numbered("conv2d"), numbered("batch_normalization")
        self.skips, self.units = skips, []
        channels = widths[-1]
        for level in reversed(range(len(widths))):
            name = "seg_feats" if named_features and level == 0 else next(names)
            self.units.append((name, next(norm_names)))
            # Each unit but the coarsest takes what the unit before gave, which is as wide as the level below.
            if skips and level < len(widths) - 1:
                channels += widths[level]
            self.add_module(name, conv(channels, widths[level]))
            self.add_module(self.units[-1][1], batch_norm(widths[level]))
            channels = widths[level]
        self.classifier = next(names)
        self.add_module(self.classifier, conv(channels, classes))
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits (N, classes, H, W)."""
        *above, x = maps
        for unit, (name, norm_name) in enumerate(self.units):
            if unit:
                x = self.upsample(x)
                x = torch.cat([x, above.pop()], dim=1) if self.skips else x
            x = self.get_submodule(norm_name)(self.relu(self.get_submodule(name)(x)))
        logits: Tensor = self.get_submodule(self.classifier)(x)
        return logits


class VGGSegNet(Model):
    """Images (N, C, H, W) to class logits (N, classes, H / 2, W / 2), of half their size as in the original.

    It is no SegNet: it doubles by up-sampling, has one convolution a level and no ReLU in the decoder.
    Any size from 16 pixels on is taken; what is more than a multiple of 16 is lost, as by Keras's pooling.
    `named_features=False` is for files of before March 2021, and those of 2017 do not fit: their
    BatchNormalization is over the image's width. 10 classes: 11,553,418 parameters as Keras counts them.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int = 3,
        *,
        named_features: bool = True,
        widths: Sequence[int] = WIDTHS[:BLOCKS],
    ) -> None:
        super().__init__(vgg_mode(in_channels, batch_norm=False), probabilities(classes))
        self.encoder = _encoder(in_channels, widths)
        self.decoder = SegmentationDecoder(
            self.encoder.widths, classes, skips=False, relu=False, named_features=named_features
        )

    def encode(self, x: Tensor) -> Tensor:
        """The last pooled map (N, 512, H / 16, W / 16)."""
        refuse_small(x, HALVED, "vgg_segnet")
        code: Tensor = self.encoder.pool(self.encoder(x)[-1])
        return code

    def decode(self, features: Tensor) -> Tensor:
        """Logits (N, classes, 8 * (H // 16), 8 * (W // 16))."""
        logits: Tensor = self.decoder([features])
        return logits


class VGGUNet(Model):
    """Images (N, C, H, W) to class logits (N, classes, H / 2, W / 2), of half their size as in the original.

    The encoder's maps are handed across after their pooling. Heights and widths are multiples of 16 or one
    more, which Keras's pooling drops; others are refused. `named_features=False` is for files of before
    March 2021, and `relu=False` for those of before March 2020, whose decoder has no ReLU. 10 classes:
    12,327,562 parameters as Keras counts them.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int = 3,
        *,
        named_features: bool = True,
        relu: bool = True,
        widths: Sequence[int] = WIDTHS[:BLOCKS],
    ) -> None:
        super().__init__(vgg_mode(in_channels, batch_norm=False), probabilities(classes))
        self.encoder = _encoder(in_channels, widths)
        self.decoder = SegmentationDecoder(
            self.encoder.widths, classes, skips=True, relu=relu, named_features=named_features
        )

    def encode(self, x: Tensor) -> list[Tensor]:
        """The pooled maps of the four blocks, fine to coarse."""
        height, width = x.shape[-2:]
        if height % HALVED > 1 or width % HALVED > 1 or min(height, width) < HALVED:
            raise ConvaeError(
                f"vgg_unet takes images whose height and width are multiples of {HALVED}, or one more, not "
                f"{height} x {width}. Resize or pad them."
            )
        return [self.encoder.pool(m) for m in self.encoder(x)]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits (N, classes, H // 2, W // 2)."""
        logits: Tensor = self.decoder(features)
        return logits


def _encoder(in_channels: int, widths: Sequence[int]) -> VGG16Encoder:
    if len(widths) != BLOCKS:
        raise ValueError(f"widths holds the channels of {BLOCKS} blocks, not {tuple(widths)}.")
    return VGG16Encoder(in_channels, BLOCKS, widths=widths)
