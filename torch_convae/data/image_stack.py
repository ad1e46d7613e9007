"""Many image files to one tensor: agree on grey or RGB and on a size first, then decode."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConvaeError
from .images import read_header, read_image


@dataclass(frozen=True)
class Form:
    """What all images of a data set become: `resized` unless they all have (height, width), as `first` has."""

    grey: bool
    height: int
    width: int
    resized: bool
    first: Path

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.grey else 3

    @property
    def byte_count(self) -> int:
        """The size of one image in memory."""
        return self.channels * self.height * self.width


def common_form(paths: Sequence[Path], size: tuple[int, int] | None) -> Form:
    """Grey if every image is grey, and the size asked for; without one, refuse images of several sizes.

    Reads headers only, so that a mistake shows before the long work.
    """
    headers = [read_header(path) for path in paths]
    grey = all(header.grey for header in headers)
    if size is not None:
        return Form(grey, *size, resized=True, first=paths[0])
    first = (headers[0].height, headers[0].width)
    for path, header in zip(paths, headers, strict=True):
        if {header.height, header.width} != set(first):  # a camera turned on its side is seen when decoding
            raise _unequal(paths[0], first, path, (header.height, header.width))
    _, upright = read_image(paths[0], None, grey)
    return Form(grey, *upright, resized=False, first=paths[0])


def read_formed(path: Path, form: Form) -> tuple[Tensor, tuple[int, int]]:
    """One image uint8 (C, H, W) in that form, and the file's own (height, width)."""
    size = (form.height, form.width)
    pixels, own_size = read_image(path, size if form.resized else None, form.grey)
    if pixels.shape[1:] != size:
        raise _unequal(form.first, size, path, own_size)
    return pixels, own_size


def stack_images(paths: Sequence[Path], form: Form) -> tuple[Tensor, list[tuple[int, int]]]:
    """Images uint8 (N, C, H, W), and each file's own (height, width)."""
    images = torch.empty((len(paths), form.channels, form.height, form.width), dtype=torch.uint8)
    own_sizes = []
    for index, path in enumerate(paths):
        images[index], own_size = read_formed(path, form)
        own_sizes.append(own_size)
    return images, own_sizes


def _unequal(path: Path, size: tuple[int, int], other: Path, other_size: tuple[int, int]) -> ConvaeError:
    return ConvaeError(
        f"{other} is {other_size[0]} x {other_size[1]} (height x width) but {path} is {size[0]} x {size[1]}; "
        "pass a --size for all."
    )
