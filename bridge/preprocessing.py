"""What a network's first layer expects of an image: half of what its weights mean."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import BridgeError

ORDERS = {"RGB": 3, "BGR": 3, "grey": 1}  # and how many channels that is


@dataclass(frozen=True)
class Preprocessing:
    """An image of 0..255 becomes (image in `order` / `divisor` - `mean`) / `std`, channel by channel.

    `mode` is Keras's word for it (`keras.applications.imagenet_utils.preprocess_input`). `order` is
    "RGB", "BGR" or "grey", and `mean` and `std` have a number for each of its channels, in that order.
    """

    mode: str
    order: str
    divisor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        text = f"{self.mode}: {self.order}, 0..255"
        text += f" / {self.divisor:g}" if self.divisor != 1 else ""
        text += f" minus {_listed(self.mean)}" if any(self.mean) else ""
        return text + (f", divided by {_listed(self.std)}" if any(value != 1 for value in self.std) else "")

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)

    def module(self) -> nn.Module:
        """A module from RGB images (N, 3, H, W), or grey ones (N, 1, H, W), of 0..255 to what the first layer takes."""
        return Preprocess(self)

    @property
    def same_for_all_channels(self) -> bool:
        """Whether grey images are prepared the same way in each channel."""
        return len(set(self.mean)) == len(set(self.std)) == 1

    def flipped(self) -> Preprocessing:
        """The same for a first layer whose channels come in the other order."""
        order = {"RGB": "BGR", "BGR": "RGB"}.get(self.order, self.order)
        return replace(self, order=order, mean=self.mean[::-1], std=self.std[::-1])

    def grey(self) -> Preprocessing:
        """One channel for all: each number is the mean over the channels."""
        mean, std = (values[:1] if len(set(values)) == 1 else (_mean(values),) for values in (self.mean, self.std))
        return replace(self, order="grey", mean=mean, std=std)


class Preprocess(nn.Module):
    """Images of 0..255, of any number type, as a `Preprocessing` says, in float32.

    Images of another number of channels are refused. The state dict holds nothing of it.
    """

    mean: Tensor
    std: Tensor
    divisor: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        # The divisor is a tensor, too: by a plain number a GPU multiplies with its rounded inverse.
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("divisor", torch.tensor(preprocessing.divisor, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The same images, ready for the first layer."""
        channels = ORDERS[self.preprocessing.order]
        if images.ndim < 3 or images.shape[-3] != channels:
            raise BridgeError(
                f"Images of shape {tuple(images.shape)} are not (N, {channels}, H, W), which {self.preprocessing.mode} "
                f"preprocessing takes. Give images of {channels} channels, the channels first."
            )
        images = images.to(self.mean.dtype)
        if self.preprocessing.order == "BGR":
            images = images.flip(-3)
        return (images / self.divisor - self.mean) / self.std

    def extra_repr(self) -> str:
        """What is done, for print(module)."""
        return str(self.preprocessing)


CAFFE = Preprocessing("caffe", "BGR", 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
TORCH = Preprocessing("torch", "RGB", 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TF = Preprocessing("tf", "RGB", 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
MODES = {mode.mode: mode for mode in (CAFFE, TORCH, TF)}

# The first kernel of a published network tells which images it was trained on, whoever stored it
# and whatever was trained behind it. SHA-256 of the float32 array (height, width, in, out).
KNOWN_FIRST_KERNELS = {
    "564034bfdba3ca76c2787bb27101f4fff7fa318d2fbce72b98ee85a91ac7233c": CAFFE,  # VGG16
}

# The names that the models of keras.applications give themselves. EfficientNet, ConvNeXt and
# MobileNetV3 are not among them: they prepare images in layers of their own.
KNOWN_MODEL_NAMES = {
    r"vgg(16|19)|resnet(50|101|152)": CAFFE,
    r"densenet(121|169|201)|resnext(50|101)": TORCH,
    r"xception|inception_v3|inception_resnet_v2|resnet(50|101|152)v2": TF,
    r"mobilenet(v2)?_\d\.\d+_\d+|NASNet|nasnet_(mobile|large)": TF,
}


def recognise(first_kernel: NDArray[Any]) -> Preprocessing | None:
    """The preprocessing of a published network, known by its first kernel (height, width, in, out)."""
    little = np.ascontiguousarray(first_kernel, dtype="<f4")
    return KNOWN_FIRST_KERNELS.get(hashlib.sha256(little.tobytes()).hexdigest())


def for_model_name(name: str) -> Preprocessing | None:
    """The preprocessing that keras.applications has for a model of that name: a hint, as anybody can use the name."""
    return next((known for pattern, known in KNOWN_MODEL_NAMES.items() if re.fullmatch(pattern, name)), None)


def from_dict(values: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a converted file's header describes.

    An unknown mode or order and a missing value are a KeyError, numbers that cannot be a ValueError.
    """
    mode, order = MODES[str(values["mode"])].mode, str(values["order"])
    mean, std = _numbers(values["mean"], ORDERS[order]), _numbers(values["std"], ORDERS[order])
    (divisor,) = _numbers([values["divisor"]], 1)
    if divisor <= 0 or min(std) <= 0:
        raise ValueError(f"an image cannot be divided by {divisor:g} and {std}")
    return Preprocessing(mode, order, divisor, mean, std)


def _numbers(values: Any, count: int) -> tuple[float, ...]:
    plain = isinstance(values, (list, tuple)) and all(type(value) in (int, float) for value in values)
    if not plain or len(values) != count or not all(abs(value) < 1e30 for value in values):
        raise ValueError(f"{values!r} is not {count} numbers")
    return tuple(float(value) for value in values)


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def _listed(values: tuple[float, ...]) -> str:
    return f"{values}" if len(values) > 1 else f"{values[0]:g}"
