"""SegNet, SegNet-Basic and Bayesian SegNet: decoders that unpool with the indices of their encoder's pooling.

Source: Badrinarayanan, Kendall and Cipolla, SegNet-Tutorial (the authors' Caffe models), whose names the
layers carry. Pooling rounds up as theirs, so that any image size is taken and every pixel counts; where
the sides are multiples of 32 it makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import conv, he, max_unpool
from .model import Model, probabilities
from .preprocessing import vgg_mode
from .sizes import refuse_small, size_alone, size_of
from .vgg import BLOCKS, DEPTHS, WIDTHS

ORDERS = ("conv-bn-relu", "conv-relu-bn")
Places = tuple[Tensor, Tensor]  # where each value of a pooled map was found, and the size of the map before
Encoded = tuple[Tensor, list[Places]]  # the code, and the places of every pooling, fine to coarse


def pooled(x: Tensor) -> tuple[Tensor, Places]:
    """The halved maps, and what unpools them."""
    halved, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    return halved, (indices, size_alone(x))


def unpooled(x: Tensor, places: Places) -> Tensor:
    """Each value where it was found, zeros elsewhere."""
    indices, before = places
    return max_unpool(x, indices, size_of(before))


class SegNet(Model):
    """Images (N, C, H, W) of any size to class logits (N, classes, H, W): VGG16's convolutions, there and back.

    The encoder's layers are `conv1_1`, `conv1_1_bn` to `conv5_3`, the decoder's `conv5_3_D` to `conv1_1_D`,
    registered in this order, so that state dicts of nshaud's DeepNetsForEO fit as they are. Keras's VGG16
    and torchvision's vgg16_bn match the encoder by name. `order` is what follows a convolution: the authors'
    and vgg16_bn's "conv-bn-relu", or DeepNetsForEO's "conv-relu-bn"; weights fit both, but mean what they
    meant only in their own. 6 classes: 29,446,470 parameters, 11 classes: 29,449,355.
    """

    ENCODING: ClassVar[tuple[str, ...]] = ("conv?_?", "conv?_?_bn", "dropouts.encdrop?")

    def __init__(
        self, classes: int, in_channels: int = 3, *, order: str = ORDERS[0], widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__(vgg_mode(in_channels, batch_norm=True), probabilities(classes))
        if order not in ORDERS:
            raise ValueError(f"SegNet's order is {' or '.join(ORDERS)}, not {order}.")
        if len(widths) != BLOCKS:
            raise ValueError(f"widths holds the channels of {BLOCKS} blocks, not {tuple(widths)}.")
        self.order = order
        channels = in_channels
        for block in range(1, BLOCKS + 1):
            for name in _encoding(block):
                self._add(name, channels, widths[block - 1])
                channels = widths[block - 1]
        for block in range(BLOCKS, 0, -1):
            *names, last = _decoding(block)
            for name in names:
                self._add(name, channels, channels)
            if block > 1:
                self._add(last, channels, widths[block - 2])
                channels = widths[block - 2]
        self.conv1_1_D = conv(channels, classes)
        self.relu = nn.ReLU()
        self.dropouts = nn.ModuleDict()  # Bayesian SegNet's, under their names

    def _add(self, name: str, channels: int, width: int) -> None:
        self.add_module(name, conv(channels, width, initial=he))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(width))

    @property
    def keras_layers(self) -> dict[str, str]:
        """Module path -> Keras layer name: VGG16's for the encoder, and a layer's own in the decoder."""
        vgg = {f"conv{block}_{stage}": f"block{block}_conv{stage}" for block, stage in _stages()}
        vgg |= {f"{name}_bn": f"{keras}_bn" for name, keras in vgg.items()}
        return {path: vgg.get(path, name) for path, name in super().keras_layers.items()}

    def encode(self, x: Tensor) -> Encoded:
        """The code (N, 512, H / 32, W / 32), and what unpools it."""
        refuse_small(x, 1, "SegNet")
        places = []
        for block in range(1, BLOCKS + 1):
            for name in _encoding(block):
                x = self._unit(name, x)
            x, place = pooled(x)
            places.append(place)
            x = self._dropped(f"encdrop{block}", x)
        return x, places

    def decode(self, features: Encoded) -> Tensor:
        """Logits (N, classes, H, W)."""
        x, places = features
        for block in range(BLOCKS, 0, -1):
            x = unpooled(x, places[block - 1])
            for name in _decoding(block):
                x = self._unit(name, x)
            x = self._dropped(f"decdrop{block}", x)
        return x

    def _unit(self, name: str, x: Tensor) -> Tensor:
        x = self.get_submodule(name)(x)
        if name == "conv1_1_D":
            return x
        norm = self.get_submodule(f"{name}_bn")
        result: Tensor = self.relu(norm(x)) if self.order == "conv-bn-relu" else norm(self.relu(x))
        return result

    def _dropped(self, name: str, x: Tensor) -> Tensor:
        return self.dropouts[name](x) if name in self.dropouts else x


def _stages() -> Iterator[tuple[int, int]]:
    return ((block, stage) for block, depth in enumerate(DEPTHS, start=1) for stage in range(1, depth + 1))


def _encoding(block: int) -> list[str]:
    return [f"conv{block}_{stage}" for stage in range(1, DEPTHS[block - 1] + 1)]


def _decoding(block: int) -> list[str]:
    return [f"{name}_D" for name in reversed(_encoding(block))]


class SegNetBasic(Model):
    """Images (N, C, H, W) of any size to class logits (N, classes, H, W): four levels of 7x7 convolutions.

    The image is normalised by its neighbouring channels first; the decoder has no ReLU. 3 channels and
    11 classes: 1,416,587 parameters.
    """

    LEVELS = 4
    ENCODING: ClassVar[tuple[str, ...]] = ("norm", "conv?", "conv?_bn")

    def __init__(self, classes: int, in_channels: int = 3, *, width: int = 64) -> None:
        super().__init__(activation=probabilities(classes))
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        for level in range(1, self.LEVELS + 1):
            self._add(f"conv{level}", in_channels if level == 1 else width, width)
        for level in range(self.LEVELS, 0, -1):
            self._add(f"conv_decode{level}", width, width)
        self.conv_classifier = conv(width, classes, size=1)
        self.relu = nn.ReLU()

    def _add(self, name: str, channels: int, width: int) -> None:
        self.add_module(name, conv(channels, width, size=7, initial=he))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(width))

    def encode(self, x: Tensor) -> Encoded:
        """The code (N, width, H / 16, W / 16), and what unpools it."""
        refuse_small(x, 1, "SegNet-Basic")
        places = []
        x = self.norm(x)
        for level in range(1, self.LEVELS + 1):
            x, place = pooled(self.relu(self._unit(f"conv{level}", x)))
            places.append(place)
        return x, places

    def decode(self, features: Encoded) -> Tensor:
        """Logits (N, classes, H, W)."""
        x, places = features
        for level in range(self.LEVELS, 0, -1):
            x = self._unit(f"conv_decode{level}", unpooled(x, places[level - 1]))
        logits: Tensor = self.conv_classifier(x)
        return logits

    def _unit(self, name: str, x: Tensor) -> Tensor:
        result: Tensor = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))
        return result
