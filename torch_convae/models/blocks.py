"""The layers that Keras and PyTorch give other defaults, as Keras computes them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def conv(in_channels: int, out_channels: int, size: int = 3) -> nn.Conv2d:
    """Conv2D with `same` padding and Keras's initial values (Glorot uniform, zero bias)."""
    layer = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
    glorot(layer)
    return layer


def dense(in_features: int, out_features: int) -> nn.Linear:
    """Dense with Keras's initial values."""
    layer = nn.Linear(in_features, out_features)
    glorot(layer)
    return layer


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNormalization: epsilon 1e-3, and 0.99 of the old statistics kept at each step."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """UpSampling2D (nearest) to the size of a map before its pooling, which may be odd."""
    return F.interpolate(x, size=size, mode="nearest")


def glorot(layer: nn.Conv2d | nn.Linear) -> None:
    """Keras's initial values in place: Glorot uniform, zero bias."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
