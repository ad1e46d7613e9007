"""The pictures of an answer in bands, and the line of figures that sums it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..models import Model
from ..pictures.colours import class_colours, heat, over, shown
from ..pictures.png import COLOUR, GREY, PALETTE, png
from .answers import MASKS, RECONSTRUCTIONS, Answers, Kind
from .windows import Bands

Bytes = NDArray[np.uint8]
Pixels = Callable[[int, int], Bytes]  # (first row, how many) -> the image's rows (n, W, C)
Line = dict[str, Any]
MARKED = " (class)"
MOST_UNCERTAIN = 0.25  # the variance of a probability is at most that
OWN = ("file", "picture", "height", "width", "class", "probability", "uncertainty")  # the tables' columns
WORST = 1.0  # an error that is drawn as white: of all the range of values


@dataclass(frozen=True)
class Pictures:
    """One image on its way into files: the folder and the name of its pictures, its size and its pixels."""

    folder: Path
    name: str
    size: tuple[int, int]
    pixels: Pixels

    def place(self, what: str) -> Path:
        """Where a picture of that kind lies."""
        return self.folder / what / f"{self.name}.png"


def write_masks(bands: Bands, to: Pictures, names: tuple[str, ...], uncertain: bool) -> Line:
    """A mask of class indices with a palette, its overlay over the image, and the uncertainty where there is one.

    The line has the share of each class. One class alone is foreground from a probability of one half on.
    """
    classes = max(len(names), 2)
    palette = class_colours(classes)
    counts, doubt = np.zeros(classes, np.int64), 0.0
    with ExitStack() as stack:
        mask = stack.enter_context(png(to.place("masks"), to.size, PALETTE, palette))
        overlay = stack.enter_context(png(to.place("overlays"), to.size, COLOUR))
        doubts = stack.enter_context(png(to.place("uncertainty"), to.size, COLOUR)) if uncertain else None
        for top, band in bands:
            given = band[:-1] if uncertain else band
            indices = _indices(given)
            counts += np.bincount(indices.ravel(), minlength=classes)
            mask.write(indices)
            overlay.write(over(to.pixels(top, len(indices)), palette[indices]))
            if doubts:
                doubt += float(band[-1].sum())
                doubts.write(heat((band[-1].numpy() / MOST_UNCERTAIN).clip(0, 1) ** 0.5))
    pixels = to.size[0] * to.size[1]
    counted = zip(columns(names), counts[-len(names) :], strict=True)  # of one class alone, the foreground
    shares = {name: round(int(count) / pixels, 6) for name, count in counted}
    return shares | ({"uncertainty": round(doubt / pixels, 6)} if uncertain else {})


def _indices(probabilities: Tensor) -> Bytes:
    found = probabilities[0] >= 0.5 if len(probabilities) == 1 else probabilities.argmax(0)
    return found.numpy().astype(np.uint8)


def write_reconstruction(bands: Bands, to: Pictures) -> Line:
    """The reconstruction, and its error, pixel by pixel; the line has the mean squared error, of values of 0..1."""
    total = 0.0
    with ExitStack() as stack:
        errors = stack.enter_context(png(to.place("errors"), to.size, COLOUR))
        made = None
        for top, band in bands:
            values = band.permute(1, 2, 0).numpy().clip(0, 1)
            pixels = to.pixels(top, len(values))
            difference = values - pixels / 255
            total += float(np.square(difference).mean(axis=2).sum())
            if made is None:
                kind = GREY if values.shape[2] == 1 else COLOUR
                made = stack.enter_context(png(to.place("reconstructions"), to.size, kind))
            rows = (values * 255).round().astype(np.uint8)
            made.write(rows[..., 0] if values.shape[2] == 1 else shown(rows))
            errors.write(heat(np.abs(difference).mean(axis=2) / WORST))
    return {"mean_squared_error": round(total / (to.size[0] * to.size[1]), 8)}


def write_pictures(bands: Bands, to: Pictures, kind: Kind, answers: Answers) -> Line:
    """The pictures that this kind of answer has; there is one band at least."""
    if kind == RECONSTRUCTIONS:
        return write_reconstruction(bands, to)
    assert kind == MASKS
    first = next(bands)
    names = class_names(answers.model, len(first[1]) - answers.uncertain)
    return write_masks(chain([first], bands), to, names, answers.uncertain)


def class_names(model: Model, outputs: int) -> tuple[str, ...]:
    """What a run calls its classes; where nothing is known, the numbers of the network's outputs."""
    return model.classes or tuple(map(str, range(outputs)))


def columns(names: Sequence[str]) -> list[str]:
    """The column of each class in a table: its name, marked where another column is called so."""
    found: list[str] = []
    for name in names:
        column = name
        while column in OWN or column in found or (column != name and column in names):
            column += MARKED
        found.append(column)
    return found


def vector_line(row: Tensor, names: tuple[str, ...], classes: bool) -> Line:
    """The line of an answer that is one for the whole image: its class and all probabilities, or its values."""
    given = [round(float(value), 6) if classes else float(f"{float(value):.7g}") for value in row]
    values = dict(zip(columns(names), given, strict=True))
    if not classes or len(row) == 1:
        return values
    best = int(row.argmax())
    return {"class": names[best], "probability": given[best], **values}
