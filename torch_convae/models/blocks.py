"""The layers that Keras and PyTorch give other defaults, as Keras computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from torch import Tensor, nn
from torch.nn import functional as F


def glorot(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """Keras's initial values in place: Glorot uniform, zero bias."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def he(layer: nn.Conv2d) -> None:
    """He's initial values in place, for what a ReLU follows: normal, zero bias. Caffe calls them msra."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def conv(
    in_channels: int, out_channels: int, size: int = 3, initial: Callable[[nn.Conv2d], None] = glorot
) -> nn.Conv2d:
    """Conv2D with `same` padding, for an odd size, and Keras's initial values (Glorot uniform, zero bias)."""
    layer = nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
    initial(layer)
    return layer


def dense(in_features: int, out_features: int) -> nn.Linear:
    """Dense with Keras's initial values."""
    layer = nn.Linear(in_features, out_features)
    glorot(layer)
    return layer


def gru(in_features: int, units: int) -> nn.GRU:
    """GRU over (N, T, features) with Keras's initial values; it computes as Keras's with reset_after=True."""
    layer = nn.GRU(in_features, units, batch_first=True)
    for name, parameter in layer.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
    return layer


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNormalization: epsilon 1e-3, and 0.99 of the old statistics kept at each step."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """UpSampling2D (nearest) to the size of a map before its pooling, which may be odd."""
    return F.interpolate(x, size=size, mode="nearest")


def max_unpool(x: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
    """Each value back where max-pooling found it, in maps of that size; zeros elsewhere.

    `indices` are those that the pooling returned. The same bits as nn.MaxUnpool2d, which refuses to run
    under torch.use_deterministic_algorithms; and the size is given, because without it nn.MaxUnpool2d
    puts values in wrong places where a side is odd.
    """
    flat = x.new_zeros(x.shape[0], x.shape[1], size[0] * size[1])
    return flat.scatter(2, indices.flatten(2), x.flatten(2)).reshape(*x.shape[:2], *size)


def numbered(name: str) -> Iterator[str]:
    """The names that a fresh Keras session gives layers of a class, one after the other: conv2d, conv2d_1, ..."""
    yield name
    for rank in count(1):
        yield f"{name}_{rank}"
