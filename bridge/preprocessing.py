"""What a network's first layer expects of an image: half of what its weights mean."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Preprocessing:
    """An image of 0..255 becomes (image in `order` / `divisor` - `mean`) / `std`, channel by channel.

    `mode` is Keras's word for it (`keras.applications.imagenet_utils.preprocess_input`).
    """

    mode: str
    order: str
    divisor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __str__(self) -> str:
        text = f"{self.mode}: {self.order}, 0..255"
        text += f" / {self.divisor:g}" if self.divisor != 1 else ""
        text += f" minus {self.mean}" if any(self.mean) else ""
        return text + (f", divided by {self.std}" if self.std != (1.0, 1.0, 1.0) else "")

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)


CAFFE = Preprocessing("caffe", "BGR", 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
TORCH = Preprocessing("torch", "RGB", 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TF = Preprocessing("tf", "RGB", 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
MODES = {mode.mode: mode for mode in (CAFFE, TORCH, TF)}

# The first kernel of a published network tells which images it was trained on, whoever stored it
# and whatever was trained behind it. SHA-256 of the float32 array (height, width, in, out).
KNOWN_FIRST_KERNELS = {
    "564034bfdba3ca76c2787bb27101f4fff7fa318d2fbce72b98ee85a91ac7233c": CAFFE,  # VGG16
}


def recognise(first_kernel: NDArray[Any]) -> Preprocessing | None:
    """The preprocessing of a published network, known by its first kernel (height, width, in, out)."""
    little = np.ascontiguousarray(first_kernel, dtype="<f4")
    return KNOWN_FIRST_KERNELS.get(hashlib.sha256(little.tobytes()).hexdigest())


def from_dict(values: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a converted file's header names; an unknown mode is a KeyError."""
    return MODES[values["mode"]]
