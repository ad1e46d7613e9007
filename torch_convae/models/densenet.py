"""torchvision's DenseNet-121, under its own names, as Keras computes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from torch import Tensor, nn

from .blocks import dense
from .heads import DenseHead
from .model import Model, probabilities
from .sizes import Size, refuse_small, sides

DEPTHS = (6, 12, 24, 16)
GROWTH, STEM = 32, 64
LEAST = 29  # pixels: of fewer the last of five halvings leaves nothing
KERAS_EPSILON, KERAS_MOMENTUM = 1.001e-5, 0.01
POOLS = ("avg", "flatten")
PARTS = {"norm1": "0_bn", "conv1": "1_conv", "norm2": "1_bn", "conv2": "2_conv"}


class DenseNet121(Model):
    """Images (N, C, H, W) of any size to the last map (N, 1024, H / 32, W / 32), or to logits (N, classes).

    `features` and, with classes alone, `classifier` are torchvision's, so that its weights fit as they are;
    Keras's find their places by Keras's names. BatchNormalization has Keras's epsilon of 1.001e-5, or with
    `keras=False` torchvision's. The map is behind the last ReLU, as in Keras.

    `head` puts Dense layers with ReLU, so wide, in front of the classes, as in a network tuned to another task.
    `pool` makes a row of the map: its means ("avg"), or all of it ("flatten") for images of the given `size`,
    of 64 pixels 2 x 2 x 1024 = 4096 values. 8,062,504 parameters as Keras counts them with 1000 classes,
    7,037,504 without.
    """

    ENCODING: ClassVar[tuple[str, ...]] = ("features",)

    def __init__(
        self,
        classes: int | None = None,
        in_channels: int = 3,
        *,
        head: int | Sequence[int] = (),
        pool: str = POOLS[0],
        size: Size = 224,
        keras: bool = True,
        depths: Sequence[int] = DEPTHS,
    ) -> None:
        super().__init__("torch" if in_channels == 3 else "unit", probabilities(classes) if classes else None)
        head = (head,) if isinstance(head, int) else tuple(head)
        _refuse(classes, head, pool, depths)
        from torchvision.models.densenet import DenseNet  # here, because it takes seconds to import

        network = DenseNet(GROWTH, tuple(depths), STEM, num_classes=1)
        self.depths = tuple(depths)
        self.features: nn.Sequential = network.features
        if in_channels != 3:
            self.features.conv0 = nn.Conv2d(in_channels, STEM, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.features.conv0.weight)
        for layer in self.features.modules():
            _prepare(layer, keras)
        self.relu = nn.ReLU()
        self.pool = pool if classes else None
        self.classifier = _top(network.classifier.in_features, classes, head, map_size(size) if self._flat else None)

    @property
    def _flat(self) -> bool:
        return self.pool == "flatten"

    @property
    def keras_layers(self) -> dict[str, str]:
        """Module path -> Keras layer name: those of keras.applications.DenseNet121, and of a head."""
        names = {f"features.{path}": name for path, name in _names(self.depths)} | {"classifier": "predictions"}
        return {path: names.get(path, name) for path, name in super().keras_layers.items()}

    def encode(self, x: Tensor) -> Tensor:
        """The last map behind its ReLU (N, 1024, H / 32, W / 32), or its means (N, 1024) where classes follow."""
        refuse_small(x, LEAST, "DenseNet-121")
        maps: Tensor = self.relu(self.features(x))
        return maps.mean((2, 3)) if self.pool == "avg" else maps

    def decode(self, features: Tensor) -> Tensor:
        """Logits (N, classes); without classes the map as it is."""
        return features if self.classifier is None else self.classifier(features)


def map_size(size: Size) -> tuple[int, int]:
    """The size of the last map: two halvings round up, three down."""
    height, width = (-(-side // 4) >> 3 for side in sides(size))
    if not height or not width:
        raise ValueError(f"DenseNet-121 takes images of at least {LEAST} pixels a side, not {size}.")
    return height, width


def _refuse(classes: int | None, head: Sequence[int], pool: str, depths: Sequence[int]) -> None:
    if pool not in POOLS:
        raise ValueError(f"densenet121 takes pool={' or '.join(map(repr, POOLS))}, not {pool!r}.")
    if classes is None and head:
        raise ValueError("densenet121 takes a head in front of classes. Say how many classes there are.")
    if len(depths) != len(DEPTHS):
        raise ValueError(f"depths holds the layers of {len(DEPTHS)} blocks, not {tuple(depths)}.")


def _prepare(layer: nn.Module, keras: bool) -> None:
    if isinstance(layer, nn.ReLU):
        layer.inplace = False  # what a hook sees of the layer before would change behind its back
    if keras and isinstance(layer, nn.BatchNorm2d):
        layer.eps, layer.momentum = KERAS_EPSILON, KERAS_MOMENTUM


def _top(channels: int, classes: int | None, head: Sequence[int], size: tuple[int, int] | None) -> nn.Module | None:
    if not classes:
        return None
    return DenseHead(channels, classes, head, size=size) if head or size else dense(channels, classes)


def _names(depths: Sequence[int]) -> Iterator[tuple[str, str]]:
    """torchvision's path within `features`, and Keras's name, of every layer."""
    yield from (("conv0", "conv1_conv"), ("norm0", "conv1_bn"), ("norm5", "bn"))
    for block, depth in enumerate(depths, start=1):
        for layer in range(1, depth + 1):
            for path, name in PARTS.items():
                yield f"denseblock{block}.denselayer{layer}.{path}", f"conv{block + 1}_block{layer}_{name}"
        yield f"transition{block}.norm", f"pool{block + 1}_bn"
        yield f"transition{block}.conv", f"pool{block + 1}_conv"
