"""A pixel of an image file, and the one that it becomes in what a network gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConvaeError

Size = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """Row and column of a pixel, from 0, of the file as it is seen upright."""

    row: int
    column: int

    def region(self, file: Size, shown: Size, padded: Size, output: Size) -> Tensor:
        """1 at that pixel of the output (1, h, w), else 0.

        The network saw the file resized to `shown`, with edges repeated up to `padded`. A place outside is refused.
        """
        if self.row >= file[0] or self.column >= file[1]:
            raise ConvaeError(
                f"--at {self.row},{self.column} lies outside of {file[0]} x {file[1]} pixels (height x width)."
            )
        row, column = (
            int((place + 0.5) / whole * seen * given / wide)
            for place, whole, seen, wide, given in zip(
                (self.row, self.column), file, shown, padded, output, strict=True
            )
        )
        made = torch.zeros(1, *output)
        made[0, row, column] = 1
        return made


def parse_place(text: str | None) -> Place | None:
    """ "40,100" as row 40 and column 100."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ConvaeError(f"--at {text!r} is no pixel. Write its row and column, from 0: 40,100.")
    return Place(int(parts[0]), int(parts[1]))
