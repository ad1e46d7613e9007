"""Noise that is there in training alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GaussianNoise(nn.Module):
    """Adds normal noise of this standard deviation in training mode, as Keras's layer of that name.

    torch.manual_seed makes it repeatable.
    """

    def __init__(self, stddev: float) -> None:
        super().__init__()
        if not stddev >= 0:
            raise ValueError(f"noise is a standard deviation of 0 or more, not {stddev!r}.")
        self.stddev = stddev

    def forward(self, x: Tensor) -> Tensor:
        """The same values, in training with noise."""
        return x + self.stddev * torch.randn_like(x) if self.training and self.stddev else x

    def extra_repr(self) -> str:
        """The standard deviation, for print(model)."""
        return f"{self.stddev:g}"
