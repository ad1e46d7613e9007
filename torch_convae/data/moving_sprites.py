"""Generated sequences of a sprite that drifts over the image, with its speed, which is known exactly."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch

from ..errors import ConvaeError
from .dataset import DataSet, Split
from .request import Request, refuse_void, refuse_workers

NAME = "moving-sprites"
COUNTS = {"train": 512, "test": 128}
FRAMES = 8
SIDE = 32  # pixels, unless a size is asked for
FASTEST = 1 / 16  # of a side, each frame
VALUES = ("right", "down")
SMALLEST = 16

Floats = npt.NDArray[np.float64]


def moving_sprites(request: Request) -> DataSet:
    """Sequences uint8 (N, 8, 1, H, W), and speeds float32 (N, 2) to the right and down, in sixteenths of a side.

    Each shows a disc or a square of its own size and brightness on a dark ground, its edges smooth, so that every
    fraction of a pixel shows. It starts where it stays within the image. All of it follows from the seed.
    """
    refuse_void(request)
    refuse_workers(request)
    height, width = request.size or (SIDE, SIDE)
    if min(height, width) < SMALLEST:
        raise ConvaeError(f"{NAME} needs at least {SMALLEST} pixels a side, not {height} x {width}; give a --size.")
    splits = {}
    for name, count in COUNTS.items():
        numbers = np.random.default_rng(_seed(request.seed, name))
        count = min(count, request.limit or count)
        splits[name] = _split(numbers, count, (height, width))
    return DataSet(NAME, "sequences", VALUES, splits)


def _seed(seed: int, split: str) -> int:
    """A hash, so that no split of one seed is a split of another."""
    return int.from_bytes(hashlib.sha256(f"{seed} {split}".encode()).digest()[:8], "big")


def _split(numbers: np.random.Generator, count: int, size: tuple[int, int]) -> Split:
    speeds = numbers.uniform(-1, 1, (count, 2))
    radii = numbers.uniform(0.09, 0.14, count)  # in sides
    last = (FRAMES - 1) * FASTEST * speeds
    least, most = radii[:, None] - np.minimum(last, 0), 1 - radii[:, None] - np.maximum(last, 0)
    starts = least + (most - least) * numbers.uniform(0, 1, (count, 2))
    square, brightness = numbers.random(count) < 0.5, numbers.uniform(0.5, 1, count)
    places = starts[:, None] + np.arange(FRAMES)[:, None] * FASTEST * speeds[:, None]  # (N, T, 2)
    images = np.stack(
        [_drawn(places[index], radii[index], bool(square[index]), size) * brightness[index] for index in range(count)]
    )
    bytes_ = torch.from_numpy(np.round(images * 255).astype(np.uint8)).unsqueeze(2)
    return Split(bytes_, torch.from_numpy(speeds.astype(np.float32)))


def _drawn(places: Floats, radius: float, square: bool, size: tuple[int, int]) -> Floats:
    """Frames (T, H, W) of 0..1: 1 within the sprite, falling to 0 over one pixel at its edge."""
    height, width = size
    across = np.abs((np.arange(width) + 0.5) / width - places[:, 0, None])[:, None, :]
    down = np.abs((np.arange(height) + 0.5) / height - places[:, 1, None])[:, :, None]
    distance = np.maximum(across, down) if square else np.hypot(across, down)
    inside: Floats = np.clip((radius - distance) * min(size) + 0.5, 0, 1)
    return inside
