"""The layers that Keras and PyTorch give other defaults, as Keras computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConvaeError


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


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNormalization: epsilon 1e-3, and 0.99 of the old statistics kept at each step."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """UpSampling2D (nearest) to the size of a map before its pooling, which may be odd."""
    return F.interpolate(x, size=size, mode="nearest")


def size_alone(x: Tensor) -> Tensor:
    """Maps (N, C, H, W) without their channels: what tells their size takes no memory."""
    return x[:, :0]


def size_of(x: Tensor) -> tuple[int, int]:
    """Height and width of maps."""
    return x.shape[-2], x.shape[-1]


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


def refuse_odd_sides(x: Tensor, halvings: int) -> None:
    """Refuse images (N, C, H, W) whose doubled maps would not fit those they are put together with."""
    height, width = x.shape[-2:]
    multiple = 2**halvings
    if height % multiple or width % multiple:
        raise ConvaeError(
            f"This network halves images {halvings} times and takes heights and widths that are multiples of "
            f"{multiple}, not {height} x {width}. Resize or pad the images."
        )
