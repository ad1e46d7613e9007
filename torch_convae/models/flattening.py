"""Dense layers between rows of values and maps, which Keras flattens with the channels last, PyTorch with them first.

Each says what its map is in Keras, because a file of weights alone does not.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import ConvaeError
from .blocks import glorot


class DenseOnMap(nn.Linear):
    """Flatten and Dense: maps (N, C, H, W) of one size to (N, values). Maps of another size are refused."""

    def __init__(self, channels: int, size: tuple[int, int], values: int) -> None:
        super().__init__(channels * size[0] * size[1], values)
        glorot(self)
        self.keras_flattened = (*size, channels)

    def forward(self, input: Tensor) -> Tensor:
        """(N, values)."""
        height, width, channels = self.keras_flattened
        if tuple(input.shape[1:]) != (channels, height, width):
            raise ConvaeError(
                f"Images of this size become maps of {' x '.join(map(str, input.shape[2:]))} in front of a Dense layer "
                f"for {height} x {width}. Resize the images, or create the model with their size."
            )
        return super().forward(input.flatten(1))


class DenseToMap(nn.Linear):
    """Dense and Reshape: (N, values) to maps (N, C, H, W)."""

    def __init__(self, values: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__(values, channels * size[0] * size[1])
        glorot(self)
        self.keras_reshaped = (*size, channels)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W)."""
        height, width, channels = self.keras_reshaped
        return super().forward(input).reshape(-1, channels, height, width)
