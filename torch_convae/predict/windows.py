"""Large images by windows that overlap: rows of blended answers, from the top, and never the whole image at once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConvaeError
from ..verbs.rasters import Raster

Answer = Callable[[Tensor], Tensor]  # images uint8 (N, C, h, w) -> answers (N, K, h, w)
Bands = Iterator[tuple[int, Tensor]]  # the first row of each band, and its answers (K, n, W)
IN_MEMORY = 256 * 2**20  # bytes of sums; more of them lie in a file
BAND = 256  # rows


@dataclass(frozen=True)
class Windows:
    """Squares of `side` pixels, of which neighbours share `overlap`."""

    side: int = 512
    overlap: int = 128

    def check(self) -> None:
        """Refuse windows that do not move on."""
        if self.side < 32 or not 0 <= self.overlap < self.side:
            raise ConvaeError(
                f"Windows of {self.side} pixels that share {self.overlap} cover no image. Give a --window of at "
                "least 32 and an --overlap smaller than that."
            )

    def starts(self, length: int) -> list[int]:
        """Where windows begin along a side, so that the last one ends with it."""
        if length <= self.side:
            return [0]
        return [*range(0, length - self.side, self.side - self.overlap), length - self.side]

    def weights(self, length: int) -> Tensor:
        """How much each pixel along a window counts: less towards the ends, where it sees less of the image."""
        ends = torch.arange(1, length + 1)
        return torch.minimum(ends, ends.flip(0)).clamp(max=self.overlap + 1) / (self.overlap + 1)


def slide(image: Raster, windows: Windows, answer: Answer) -> Bands:
    """The answers for an image, window by window, each pixel's the weighted mean over the windows that hold it.

    Memory grows with the width alone: as many rows as a window has are summed at a time.
    """
    tops, lefts = windows.starts(image.height), windows.starts(image.width)
    height, width = min(windows.side, image.height), min(windows.side, image.width)
    weight = windows.weights(height)[:, None] * windows.weights(width)[None]
    sums: Tensor | None = None
    counted = torch.zeros(height, image.width)
    for top, following in pairwise([*tops, tops[-1] + height]):
        for left in lefts:
            tile = torch.from_numpy(image.region(top, left, height, width)).permute(2, 0, 1)
            given = answer(tile[None])[0]
            sums = _zeros((len(given), height, image.width)) if sums is None else sums
            sums[:, :, left : left + width] += given * weight
            counted[:, left : left + width] += weight
        assert sums is not None
        done = following - top
        for row in range(0, done, BAND):
            rows = slice(row, min(row + BAND, done))
            yield top + row, sums[:, rows] / counted[rows]
        for one in (sums, counted):  # up by the rows that are done
            one[..., : height - done, :] = one[..., done:, :].clone()
            one[..., height - done :, :] = 0


def grow(answers: Tensor, size: tuple[int, int]) -> Bands:
    """Answers (K, h, w) at another size, bilinearly, a band at a time."""
    (height, width), below = size, answers.shape[1]
    wide = F.interpolate(answers[None], (below, width), mode="bilinear")[0]
    for top in range(0, height, BAND):
        rows = torch.arange(top, min(top + BAND, height))
        places = ((rows + 0.5) * below / height - 0.5).clamp(0, below - 1)
        upper = places.long()
        share = (places - upper)[:, None]
        yield top, wide[:, upper] * (1 - share) + wide[:, (upper + 1).clamp(max=below - 1)] * share


def _zeros(shape: tuple[int, int, int]) -> Tensor:
    """Sums in memory, or for a very wide image in a file that has no name and goes with it."""
    if 4 * shape[0] * shape[1] * shape[2] <= IN_MEMORY:
        return torch.zeros(shape)
    with tempfile.TemporaryFile() as file:
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=shape))
