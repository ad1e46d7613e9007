"""A convolutional variational autoencoder: an encoder to a mean and a variance, a decoder back to images.

Of its layers `z_mean` and `z_log_var` have names; the others carry those that Keras gives in a fresh session.
Strides of 2 pad as Keras's `same` does: with an even side at the bottom and at the right alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import batch_norm, conv, dense, glorot, numbered
from .flattening import DenseOnMap, DenseToMap
from .model import Model
from .sizes import Size, refuse_small, sides

WIDTHS = (32, 64, 128)


class Outputs(NamedTuple):
    """What the loss of a variational autoencoder is made of: (N, C, H, W) of 0..1, (N, code), (N, code)."""

    reconstruction: Tensor
    mean: Tensor
    log_var: Tensor


class VAEEncoder(Model):
    """Images (N, C, H, W) of one size to the mean (N, code) of their codes; `distribution` gives the variance, too.

    Each level is conv with stride 2 -> ReLU -> BatchNormalization. Without `variance` there is no `z_log_var`,
    as in a network that goes on from the means alone.
    """

    def __init__(
        self,
        in_channels: int = 1,
        size: Size = 64,
        code: int = 32,
        hidden: int = 256,
        *,
        widths: Sequence[int] = WIDTHS,
        variance: bool = True,
    ) -> None:
        super().__init__()
        self.levels = list(zip(numbered("conv2d"), numbered("batch_normalization"), widths, strict=False))
        for name, norm_name, width in self.levels:
            layer = nn.Conv2d(in_channels, width, 3, stride=2)
            glorot(layer)
            self.add_module(name, layer)
            self.add_module(norm_name, batch_norm(width))
            in_channels = width
        self.dense = DenseOnMap(widths[-1], halved(size, len(widths)), hidden)
        self.z_mean = dense(hidden, code)
        self.z_log_var = dense(hidden, code) if variance else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The mean (N, code)."""
        mean: Tensor = self.z_mean(self._hidden(x))
        return mean

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the logarithm of the variance, each (N, code)."""
        assert self.z_log_var is not None, "this encoder was built without its variance"
        hidden = self._hidden(x)
        return self.z_mean(hidden), self.z_log_var(hidden)

    def share(self, other: VAEEncoder) -> None:
        """Take the other encoder's layers as its own: what trains one trains both."""
        for name, _ in list(self.named_children()):
            setattr(self, name, other.get_submodule(name))

    def _hidden(self, x: Tensor) -> Tensor:
        refuse_small(x, 1, "A convolutional VAE")
        for name, norm_name, _ in self.levels:
            height, width = x.shape[-2:]
            x = self.relu(self.get_submodule(name)(F.pad(x, (width % 2, 1, height % 2, 1))))
            x = self.get_submodule(norm_name)(x)
        hidden: Tensor = self.relu(self.dense(x))
        return hidden


class VAEDecoder(nn.Module):
    """Codes (N, code) to images (N, C, H, W) of 0..1.

    Each level is a transposed convolution with stride 2 -> ReLU and doubles the map. Where the image is no
    multiple of that, the last rows and columns are cut off.
    """

    def __init__(
        self, out_channels: int = 1, size: Size = 64, code: int = 32, *, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        self.size = sides(size)
        channels = widths[-1]
        self.dense_1 = DenseToMap(code, channels, halved(size, len(widths)))
        self.ups = [name for name, _ in zip(numbered("conv2d_transpose"), widths, strict=False)]
        for name, width in zip(self.ups, reversed(widths), strict=True):
            layer = nn.ConvTranspose2d(channels, width, 3, stride=2)
            glorot(layer)
            self.add_module(name, layer)
            channels = width
        self.last = f"conv2d_{len(widths)}"
        self.add_module(self.last, conv(channels, out_channels))
        self.relu = nn.ReLU()

    def forward(self, code: Tensor) -> Tensor:
        """Images, of 0..1."""
        x = self.relu(self.dense_1(code))
        for name in self.ups:
            # Keras's `same` keeps twice the size; PyTorch gives one row and one column more.
            x = self.relu(self.get_submodule(name)(x)[..., :-1, :-1])
        image = torch.sigmoid(self.get_submodule(self.last)(x))
        return image[..., : self.size[0], : self.size[1]]


class ConvVAE(Model):
    """Images (N, C, H, W) of 0..1 and of one size to their reconstruction, of the same shape.

    In evaluation mode it is made from the mean of the code; in training from a sample, which
    torch.manual_seed makes repeatable. `outputs` gives what the loss needs. One channel of 64 x 64: the
    encoder has 2,207,424 parameters as Keras counts them, the decoder 510,465.
    """

    def __init__(
        self,
        in_channels: int = 1,
        size: Size = 64,
        code: int = 32,
        hidden: int = 256,
        *,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.encoder = VAEEncoder(in_channels, size, code, hidden, widths=widths)
        self.decoder = VAEDecoder(in_channels, size, code, widths=widths)

    def encode(self, x: Tensor) -> Tensor:
        """The code (N, code): its mean, or while the encoder trains a sample."""
        return self._code(*self.encoder.distribution(x))

    def decode(self, features: Tensor) -> Tensor:
        """The reconstruction, of 0..1."""
        image: Tensor = self.decoder(features)
        return image

    def outputs(self, x: Tensor) -> Outputs:
        """The reconstruction, as `forward` gives it, with the mean and the logarithm of the variance."""
        mean, log_var = self.encoder.distribution(x)
        return Outputs(self.decode(self._code(mean, log_var)), mean, log_var)

    def _code(self, mean: Tensor, log_var: Tensor) -> Tensor:
        return sampled(mean, log_var) if self.encoder.training else mean


def sampled(mean: Tensor, log_var: Tensor) -> Tensor:
    """A draw from normal distributions, through which gradients reach both."""
    return mean + torch.exp(log_var / 2) * torch.randn_like(mean)


def halved(size: Size, times: int) -> tuple[int, int]:
    """The size of a map behind so many strides of 2, which round up."""
    height, width = sides(size)
    return -(-height // 2**times), -(-width // 2**times)
