"""Bayesian SegNet: dropout that is kept on at prediction, and how sure the network is of each pixel.

Source: Kendall, Badrinarayanan and Cipolla, SegNet-Tutorial (the authors' Caffe model).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConvaeError
from .segnet import ORDERS, SegNet
from .vgg import WIDTHS

SAMPLES = 10
DROPOUTS = ("encdrop3", "encdrop4", "encdrop5", "decdrop5", "decdrop4", "decdrop3")


class SamplingDropout(nn.Dropout):
    """Dropout that drops in evaluation mode, too, while `sampling`."""

    sampling = False

    def forward(self, input: Tensor) -> Tensor:
        """The values that are kept, scaled so that their mean stays."""
        return F.dropout(input, self.p, self.training or self.sampling)


class BayesianSegNet(SegNet):
    """SegNet with dropout behind the three coarsest blocks, in the encoder and in the decoder.

    In evaluation mode `forward` drops nothing, so that it can be compared and exported. `predict` is the
    mean over several passes that do; torch.manual_seed makes it repeatable. The layers, their names and the
    number of parameters are SegNet's.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int = 3,
        *,
        order: str = ORDERS[0],
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(classes, in_channels, order=order, widths=widths)
        self.dropouts.update({name: SamplingDropout(dropout) for name in DROPOUTS})

    def predict(self, images: Tensor | NDArray[np.generic], samples: int = SAMPLES) -> Tensor:
        """Mean probabilities (N, classes, H, W) of raw images (N, C, H, W) of 0..255, over so many passes."""
        return self.predict_with_uncertainty(images, samples)[0]

    def predict_with_uncertainty(
        self, images: Tensor | NDArray[np.generic], samples: int = SAMPLES
    ) -> tuple[Tensor, Tensor]:
        """Mean probabilities (N, classes, H, W) over so many passes, and the uncertainty (N, H, W).

        The uncertainty is the authors': the variance of each class's probability over the passes, averaged
        over the classes. Memory does not grow with the number of passes.
        """
        if samples < 1:
            raise ConvaeError(f"Bayesian SegNet predicts from 1 sample or more, not {samples}.")
        dropouts = [layer for layer in self.dropouts.values() if isinstance(layer, SamplingDropout)]
        try:
            for layer in dropouts:
                layer.sampling = True
            mean = super().predict(images)
            squares = torch.zeros_like(mean)
            for count in range(2, samples + 1):
                given = super().predict(images)
                change = given - mean
                mean = mean + change / count
                squares = squares + change * (given - mean)
        finally:
            for layer in dropouts:
                layer.sampling = False
        return mean, (squares / samples).mean(dim=1)
