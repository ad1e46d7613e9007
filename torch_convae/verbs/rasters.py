"""An image of any size, read region by region: decoded once, or mapped into memory where the file allows it.

Uncompressed TIFFs and .npy arrays are mapped, so that their size does not matter. All others are decoded,
which takes 4 bytes a pixel in colour and 1 in grey; `largest` limits how many pixels that may be. Of those that are
large one is open at a time, whatever thread asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..data.folders import frames as frames_in
from ..data.images import check_regular, opened, read_header, upright
from ..errors import ConvaeError

Bytes = NDArray[np.uint8]
LARGEST = 150_000_000  # pixels: 0.6 GB of colour when decoded
ALONE = 10_000_000  # pixels: images of more are open one at a time, or four threads would decode four
MODES = {1: "L", 3: "RGB"}
ORIENTATION = 0x112  # EXIF's tag


@dataclass(frozen=True)
class Raster:
    """`region(top, left, height, width)` gives uint8 (height, width, C), within the image; `whole(size)` all of it.

    Resized, that takes no second copy of the image's pixels.
    """

    height: int
    width: int
    region: Callable[[int, int, int, int], Bytes]
    whole: Callable[[tuple[int, int] | None], Bytes]


_large = Lock()


@contextmanager
def raster(path: Path, channels: int, largest: int = LARGEST) -> Iterator[Raster]:
    """The image as a network of so many channels takes it: upright, without alpha, grey or RGB.

    Refused: what the reader of training data refuses, other channels, and more pixels than `largest` where they
    would have to be decoded.
    """
    with _alone(math.prod(sides(path, channels))):
        if path.suffix.lower() == ".npy":
            yield _of_array(_array(path, channels))
            return
        with opened(path) as image:
            mapped = _mapped(image, path, MODES[channels])
            if mapped is not None:
                yield _of_array(mapped)
                return
            _refuse_large(path, image.width * image.height, largest)
            yield _of_image(upright(image, grey=channels == 1))


def sides(path: Path, channels: int) -> tuple[int, int]:
    """The two sides of an image, which may lie on its side, from the file's header: nothing is decoded.

    Refused: what the reader of training data refuses, and other channels.
    """
    if path.suffix.lower() == ".npy":
        height, width = _array(path, channels).shape[:2]
        return height, width
    if channels not in MODES:
        raise ConvaeError(
            f"{path} is grey or RGB, and the network takes {channels} channels. Give .npy arrays (H, W, {channels})."
        )
    header = read_header(path)
    return header.height, header.width


@contextmanager
def _alone(pixels: int) -> Iterator[None]:
    """Wait, before a large image is opened, until no other one is."""
    if pixels <= ALONE:
        yield
        return
    with _large:
        yield


def read_pixels(path: Path, channels: int, size: tuple[int, int] | None, largest: int = LARGEST) -> Tensor:
    """A whole image uint8 (C, H, W), resized to (height, width) as training data is."""
    with raster(path, channels, largest) as image:
        pixels = image.whole(size)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def read_frames(path: Path, channels: int, size: tuple[int, int] | None, largest: int = LARGEST) -> Tensor:
    """A sequence uint8 (T, C, H, W): a folder of frames, ordered by the numbers in their names, or an .npy."""
    if path.is_dir():
        frames = [read_pixels(frame, channels, size, largest) for frame in frames_in(path)]
        if unlike := next((frame for frame in frames if frame.shape != frames[0].shape), None):
            raise ConvaeError(
                f"{path} has frames of {_by(frames[0])} and of {_by(unlike)}. Save them at one size, or give a --size."
            )
        return torch.stack(frames)
    if path.suffix.lower() != ".npy":
        raise ConvaeError(
            f"{path} is no sequence. Name a folder of frames, or an .npy array (T, H, W, {channels}) of uint8."
        )
    array = _array(path, channels, dimensions=4)
    made = [np.ascontiguousarray(resized(np.array(frame), size).transpose(2, 0, 1)) for frame in array]
    return torch.from_numpy(np.stack(made))


def _by(frame: Tensor) -> str:
    return f"{frame.shape[1]} x {frame.shape[2]}"


def resized(pixels: Bytes, size: tuple[int, int] | None) -> Bytes:
    """An array (H, W, C) at (height, width), antialiased, as Pillow does it."""
    if size is None or pixels.shape[:2] == size:
        return pixels
    if pixels.shape[2] in MODES:
        plain = pixels[..., 0] if pixels.shape[2] == 1 else pixels
        return _shrunk(Image.fromarray(plain), size)
    planes = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
    made = F.interpolate(planes, size, mode="bilinear", antialias=True)
    return np.asarray(made[0].permute(1, 2, 0))


def _shrunk(image: Image.Image, size: tuple[int, int] | None) -> Bytes:
    if size is not None and (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.array(image).reshape(image.height, image.width, -1)


def _of_array(array: Bytes) -> Raster:
    def region(top: int, left: int, height: int, width: int) -> Bytes:
        return np.array(array[top : top + height, left : left + width])  # a copy: the map stays on disk

    def whole(size: tuple[int, int] | None) -> Bytes:
        return np.array(resized(array, size))

    return Raster(array.shape[0], array.shape[1], region, whole)


def _of_image(image: Image.Image) -> Raster:
    def region(top: int, left: int, height: int, width: int) -> Bytes:
        return _shrunk(image.crop((left, top, left + width, top + height)), None)

    return Raster(image.height, image.width, region, partial(_shrunk, image))


def _array(path: Path, channels: int, dimensions: int = 3) -> Bytes:
    check_regular(path, "an array")
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConvaeError(f"{path} cannot be read ({error}); save it again with numpy.save.") from error
    shaped = array[..., None] if getattr(array, "ndim", 0) == dimensions - 1 else array
    if array.dtype != np.uint8 or shaped.ndim != dimensions or shaped.shape[-1] != channels or not shaped.size:
        axes = f"(H, W, {channels})" if dimensions == 3 else f"(T, H, W, {channels})"
        raise ConvaeError(f"{path} is {array.dtype} {array.shape}, and the network takes uint8 {axes}. Save it so.")
    return shaped  # type: ignore[no-any-return]


def _mapped(image: Image.Image, path: Path, mode: str) -> Bytes | None:
    """The pixels as they lie in the file, where they do: uncompressed, row after row, upright, of this mode."""
    tiles = sorted(getattr(image, "tile", []), key=lambda tile: tile[1][1])
    if image.format != "TIFF" or image.mode != mode or image.getexif().get(ORIENTATION, 1) != 1 or not tiles:
        return None
    row = image.width * len(mode)
    first = tiles[0][2]
    for codec, extents, offset, arguments in tiles:
        left, top, right, _ = extents
        plain = codec == "raw" and arguments[0] == mode and arguments[1] in (0, row)
        if not plain or (left, right) != (0, image.width) or offset != first + top * row:
            return None
    if path.stat().st_size < first + image.height * row:
        return None  # cut off: decoding says so
    return np.memmap(path, np.uint8, "r", first, (image.height, image.width, len(mode)))


def _refuse_large(path: Path, pixels: int, largest: int) -> None:
    if pixels > largest:
        raise ConvaeError(
            f"{path} has {pixels / 1e6:,.1f} million pixels, more than the {largest / 1e6:,.0f} that are decoded. "
            "Raise --largest if you trust it, or save it as an uncompressed TIFF, which is read piece by piece."
        )
