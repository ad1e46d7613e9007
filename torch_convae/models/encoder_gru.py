"""Frames through the encoder of a variational autoencoder, and a GRU over what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from ..errors import ConvaeError
from .blocks import dense, gru
from .conv_vae import WIDTHS, VAEEncoder
from .model import Model
from .sizes import Size


class EncoderGRU(Model):
    """Sequences of frames (N, T, C, H, W) of 0..1, of any length T, to values (N, outputs).

    Each frame's code is its mean, never a sample. A GRU goes over the codes, and a Dense layer takes its last
    state. The GRU computes as Keras's of today does (reset_after=True). In Keras the encoder is a model under
    TimeDistributed. 64 x 64 pixels, 1 output: 2,218,081 parameters as Keras counts them.
    """

    AXES: ClassVar[str] = "N, T, C, H, W"

    def __init__(
        self,
        outputs: int = 1,
        in_channels: int = 1,
        size: Size = 64,
        code: int = 32,
        hidden: int = 256,
        *,
        units: int = 64,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.encoder = VAEEncoder(in_channels, size, code, hidden, widths=widths, variance=False)
        self.gru = gru(code, units)
        self.dense = dense(units, outputs)

    @property
    def keras_layers(self) -> dict[str, str]:
        """Module path -> Keras layer name, as in a network that is not nested: the encoder's come first."""
        return super().keras_layers | {"dense": "dense_1"}

    def encode(self, x: Tensor) -> Tensor:
        """The codes of the frames: (N, T, code)."""
        if x.shape[1] == 0:
            raise ConvaeError("encoder_gru takes sequences of at least 1 frame, not of 0.")
        codes: Tensor = self.encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return codes

    def decode(self, features: Tensor) -> Tensor:
        """Values (N, outputs)."""
        _, last = self.gru(features)
        values: Tensor = self.dense(last[0])
        return values
