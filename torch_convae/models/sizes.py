"""Sizes of images and maps: what they become, and those that a network cannot take."""

from __future__ import annotations

from torch import Tensor

from ..errors import ConvaeError

Size = int | tuple[int, int]  # height and width, or one number for both


def sides(size: Size) -> tuple[int, int]:
    """Height and width of a size; anything else is refused."""
    both = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(both) != 2 or not all(isinstance(side, int) and side > 0 for side in both):
        raise ValueError(f"size is a height and a width, or one number for both, not {size!r}.")
    return both[0], both[1]


def floored(size: Size, halvings: int, what: str) -> tuple[int, int]:
    """The size of a map behind so many poolings, which drop an odd row; an image that they drop is refused."""
    height, width = sides(size)
    if min(height, width) < 2**halvings:
        raise ValueError(f"{what} takes images of at least {2**halvings} pixels a side, not {height} x {width}.")
    return height >> halvings, width >> halvings


def size_alone(x: Tensor) -> Tensor:
    """Maps (N, C, H, W) without their channels: what tells their size takes no memory."""
    return x[:, :0]


def size_of(x: Tensor) -> tuple[int, int]:
    """Height and width of maps."""
    return x.shape[-2], x.shape[-1]


def refuse_small(x: Tensor, least: int, what: str) -> None:
    """Refuse images (N, C, H, W) that would be pooled away."""
    height, width = size_of(x)
    if height < least or width < least:
        raise ConvaeError(f"{what} takes images of at least {least} pixels a side, not {height} x {width}.")


def refuse_odd_sides(x: Tensor, halvings: int) -> None:
    """Refuse images (N, C, H, W) whose doubled maps would not fit those they are put together with."""
    height, width = size_of(x)
    multiple = 2**halvings
    if height % multiple or width % multiple or height == 0 or width == 0:
        raise ConvaeError(
            f"This network halves images {halvings} times and takes heights and widths that are multiples of "
            f"{multiple}, not {height} x {width}. Resize or pad the images."
        )
