"""Where a tensor's numbers lie in a file, and those numbers, in whatever type PyTorch has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import BridgeError
from ..hdf5.opening import Bytes, bytes_of
from ..source import Array, Shape, native

# NumPy has none of these; float32 holds every one of their numbers.
NARROW = {"bfloat16": "uint16"} | dict.fromkeys(
    ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"), "uint8"
)
_PLAIN = "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool complex64 complex128".split()
TYPES = {name: name for name in _PLAIN} | NARROW  # PyTorch's name of a type, and NumPy's for its bits
MOST_AXES, MOST_NUMBERS = 32, 1 << 58  # as many as every NumPy has


@dataclass(frozen=True)
class Place:
    """Where a tensor's numbers lie: `offset` counts bytes, `strides` count numbers (None: one behind the other).

    `dtype` is PyTorch's name for their type, a key of `TYPES`.
    """

    offset: int
    shape: Shape
    dtype: str
    strides: Shape | None = None
    big_endian: bool = False

    @property
    def size(self) -> int:
        """The bytes that the numbers take."""
        return prod(self.shape) * itemsize(self.dtype)

    @property
    def reach(self) -> int:
        """How many numbers lie between the first and the last, both counted."""
        if self.strides is None:
            return prod(self.shape)
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


def opened(path: Path) -> Bytes:
    """A file, open as long as this is referred to; refused are those that are no regular file, and empty ones."""
    return bytes_of(path)


def raw(content: Bytes, offset: int, size: int) -> memoryview:
    """Bytes of a file, without reading them yet. Refused: a file that has been written to since it was opened."""
    if content.state_now() != content.state:
        raise BridgeError(f"{content.path} has changed meanwhile. Read it again.")
    return content.array(offset, (size,), np.dtype(np.uint8)).data if size else memoryview(b"")


def array(content: Bytes, place: Place) -> Array:
    """The numbers at a place, in this machine's byte order; those that NumPy has no type for as float32."""
    dtype = np.dtype(TYPES[place.dtype])
    if 0 in place.shape:
        return np.zeros(place.shape, np.float32 if place.dtype in NARROW else dtype)
    order = dtype.newbyteorder(">" if place.big_endian else "<")
    flat = np.frombuffer(raw(content, place.offset, place.reach * dtype.itemsize), order)
    if place.strides is None:
        found = native(flat.reshape(place.shape))
    else:
        steps = tuple(stride * dtype.itemsize for stride in place.strides)
        found = native(np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, place.shape, steps)))
    if place.dtype in NARROW:
        return np.asarray(torch.from_numpy(found).view(getattr(torch, place.dtype)).float().numpy())
    return found


def itemsize(dtype: str) -> int:
    """The bytes that one number takes."""
    return np.dtype(TYPES[dtype]).itemsize


def is_shape(sizes: Sequence[Any]) -> bool:
    """Whether these are whole numbers of a size that an array can have, even where others of them are zero."""
    # Each is bounded by itself first: to multiply numbers of millions of digits takes hours.
    whole = len(sizes) <= MOST_AXES and all(type(size) is int and 0 <= size < MOST_NUMBERS for size in sizes)
    return whole and prod(max(size, 1) for size in sizes) < MOST_NUMBERS
