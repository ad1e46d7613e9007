"""The changes of augmentation, one function each: an example and a source of random numbers to another example."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

LARGEST_ZOOM = 1.25  # and its inverse
LARGEST_SHIFT = 8  # an eighth of each side
COLOUR = 0.2  # brightness, contrast and saturation by up to so much, up or down


@dataclass(frozen=True)
class Example:
    """One image uint8 (..., C, H, W), and its mask (H, W) where it has one."""

    image: Tensor
    mask: Tensor | None

    def moved(self, move: Callable[[Tensor], Tensor]) -> Example:
        """Both moved alike; `move` is given (..., H, W) and keeps every value it does not drop."""
        return Example(move(self.image), None if self.mask is None else move(self.mask[None])[0])


def _flip(example: Example, draw: random.Random) -> Example:
    return example.moved(functional.horizontal_flip) if draw.random() < 0.5 else example


def _flip_vertically(example: Example, draw: random.Random) -> Example:
    return example.moved(functional.vertical_flip) if draw.random() < 0.5 else example


def _turn(example: Example, draw: random.Random) -> Example:
    """By quarters; an image that is not square only upside down, so that it keeps its shape."""
    height, width = example.image.shape[-2:]
    angle = 90.0 * (draw.randrange(4) if height == width else 2 * draw.randrange(2))
    return example.moved(lambda pixels: functional.rotate(pixels, angle))


def _crop(example: Example, draw: random.Random) -> Example:
    """Shifted; what comes in at an edge is the image mirrored there."""
    height, width = example.image.shape[-2:]
    room = height // LARGEST_SHIFT, width // LARGEST_SHIFT
    top, left = (draw.randint(0, 2 * most) for most in room)
    return example.moved(lambda pixels: _window(pixels, room, (top, left), (height, width)))


def _window(pixels: Tensor, room: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    padded = functional.pad(pixels, [room[1], room[0]], padding_mode="reflect")
    window: Tensor = functional.crop(padded, *corner, *size)
    return window


def _scale(example: Example, draw: random.Random) -> Example:
    """Zoomed in or out about a point drawn, or mirrored at the edges where it became too small."""
    height, width = example.image.shape[-2:]
    zoom = LARGEST_ZOOM ** draw.uniform(-1, 1)
    size = [max(1, round(height * zoom)), max(1, round(width * zoom))]
    top, left = (draw.randint(0, abs(new - old)) for new, old in zip(size, (height, width), strict=True))

    def fit(pixels: Tensor) -> Tensor:
        if size[0] < height or size[1] < width:
            around = [left, top, width - size[1] - left, height - size[0] - top]
            fitted: Tensor = functional.pad(pixels, around, padding_mode="reflect")
        else:
            fitted = functional.crop(pixels, top, left, height, width)
        return fitted

    image = functional.resize(example.image, size, antialias=True)
    if example.mask is None:
        return Example(fit(image), None)
    mask = functional.resize(example.mask[None], size, InterpolationMode.NEAREST_EXACT)
    return Example(fit(image), fit(mask)[0])


def _colour(example: Example, draw: random.Random) -> Example:
    """Brightness and contrast, and in RGB the saturation."""
    changes = [functional.adjust_brightness, functional.adjust_contrast]
    if example.image.shape[-3] == 3:
        changes.append(functional.adjust_saturation)
    image = example.image
    for change in changes:
        image = change(image, 1 + draw.uniform(-COLOUR, COLOUR))
    return Example(image, example.mask)


CHANGES: Mapping[str, Callable[[Example, random.Random], Example]] = {
    "flip": _flip,
    "vflip": _flip_vertically,
    "turn": _turn,
    "scale": _scale,
    "crop": _crop,
    "colour": _colour,
}
"""By name, in the order in which they are applied."""
