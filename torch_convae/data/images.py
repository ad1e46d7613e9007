"""One image file to pixels, safely: whatever is wrong with it ends in one line that names it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import ConvaeError
from .depth import is_cut_down

GREY_MODES = ("1", "L")
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values for a camera turned by a quarter
RUNS_A_PROGRAM = ("EPS",)  # Pillow hands these to Ghostscript; a folder of images must not start one


@dataclass(frozen=True)
class Header:
    """What a file says of its image before it is decoded; width and height as stored, not yet upright."""

    grey: bool
    width: int
    height: int


def check_regular(path: Path, what: str) -> None:
    """Refuse a path where `what` cannot be read from: nothing is there, or what could block a reader."""
    if not path.is_file():
        found = f"is no regular file; put {what} there, or remove it" if path.exists() else "does not exist"
        raise ConvaeError(f"{path} {found}.")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The Pillow image of a regular file; whatever opening or decoding it raises becomes a `ConvaeError`."""
    check_regular(path, "an image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_formats()) as image:
                yield image
    except ConvaeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise ConvaeError(f"{path} has more pixels than is safe to decode; make it smaller, or remove it.") from problem
    except Exception as problem:  # broken files make Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        reason = " ".join(str(problem).replace(str(path), "file").split())
        raise ConvaeError(f"{path} cannot be decoded ({reason}); repair it, or remove it.") from problem


def read_header(path: Path) -> Header:
    """Mode and size of an image to train on; several frames and more than 8 bits a channel are refused."""
    with opened(path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a camera's second picture in an MPO is a preview
            raise ConvaeError(f"{path} holds {frames} frames; save each as a file of its own.")
        if image.mode == "F" or image.mode.startswith("I"):
            raise ConvaeError(
                f"{path} has numbers wider than 8 bits (mode {image.mode}); save it as 8-bit grey or RGB."
            )
        if is_cut_down(image, path):
            raise ConvaeError(f"{path} has more than 8 bits a channel; save it as 8-bit grey or RGB.")
        return Header(image.mode in GREY_MODES, image.width, image.height)


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) once turned as its EXIF note says, without decoding where the format allows it."""
    with opened(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
        return (image.width, image.height) if turned else (image.height, image.width)


def read_image(path: Path, size: tuple[int, int] | None, grey: bool) -> tuple[Tensor, tuple[int, int]]:
    """Pixels uint8 (C, H, W), and the file's own (height, width); upright by its EXIF note, without alpha."""
    with opened(path) as image:
        pixels = upright(image, grey)
        own_size = (pixels.height, pixels.width)
        if size is not None:
            pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)  # Pillow's is antialiased
        array = np.array(pixels).reshape(pixels.height, pixels.width, -1)
        return torch.from_numpy(array).permute(2, 0, 1), own_size


def upright(image: Image.Image, grey: bool) -> Image.Image:
    """An image as it is meant to be seen, grey or RGB. It takes the place of the one given: both may not fit."""
    ImageOps.exif_transpose(image, in_place=True)
    return (image if image.mode == "L" else image.convert("L")) if grey else _rgb(image)


def _rgb(image: Image.Image) -> Image.Image:
    """A palette with transparency goes through RGBA, the only way Pillow converts it without a warning."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in RUNS_A_PROGRAM]
