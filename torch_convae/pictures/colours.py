"""Colours for pictures without matplotlib: one for each class, and from cold to hot."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

GOLDEN = 0.618033988749895  # of a turn: however many hues are taken, they stay apart
SHADES = ((0.75, 0.95), (0.55, 0.75), (0.9, 0.6), (0.35, 0.95))  # saturation and value, so that neighbours differ
HEAT = ((0, 0, 0), (70, 10, 110), (190, 45, 90), (245, 130, 30), (255, 225, 90), (255, 255, 230))
STRENGTH = 0.5  # of a colour over a picture

Bytes = NDArray[np.uint8]


def class_colours(count: int) -> Bytes:
    """(count, 3), RGB of 0..255, the same for a class however many follow."""
    colours = [colorsys.hsv_to_rgb(index * GOLDEN % 1, *SHADES[index // 3 % len(SHADES)]) for index in range(count)]
    return (np.array(colours).reshape(-1, 3) * 255).round().astype(np.uint8)


def heat(values: NDArray[np.floating]) -> Bytes:
    """(..., 3): black for 0, through red and yellow to white for 1."""
    places = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(values, places, [colour[channel] for colour in HEAT]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def over(picture: Bytes, colours: Bytes, strength: float = STRENGTH) -> Bytes:
    """Colours (H, W, 3) over a picture (H, W, C), of which grey or the first three channels are shown."""
    mixed = shown(picture) * (1 - strength) + colours * strength
    return mixed.round().astype(np.uint8)


def shown(picture: Bytes) -> Bytes:
    """A picture (H, W, C) of any number of channels as (H, W, 3)."""
    return picture[..., :3] if picture.shape[-1] >= 3 else np.repeat(picture[..., :1], 3, axis=-1)
