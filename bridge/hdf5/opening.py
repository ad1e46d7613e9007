"""A file's bytes: opened once, checked to be a regular file, and mapped into memory when they are needed."""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import BridgeError
from ..source import Array, Shape

LARGE = 1 << 20  # bytes


def regular(path: Path) -> int:
    """The descriptor of a regular file, open for reading; opening a pipe or a device would wait for it."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise BridgeError(f"{path} does not exist. Check the path.") from error
    except (OSError, ValueError) as error:
        raise BridgeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BridgeError(f"{path} is not a regular file. Name a file.")
    return descriptor


@dataclass(frozen=True, eq=False)
class Bytes:
    """`size` bytes of an open file from `start` on. They stay readable if the file is replaced meanwhile."""

    path: Path
    descriptor: int
    start: int
    size: int

    def _mapped(self, place: int, size: int) -> tuple[mmap.mmap, int]:
        """Memory that has these bytes of the file, and where in it; a large array's goes with the array."""
        if size < LARGE:
            return self._mapping, place
        first = place - place % mmap.ALLOCATIONGRANULARITY
        return mmap.mmap(self.descriptor, place + size - first, access=mmap.ACCESS_COPY, offset=first), place - first

    @cached_property
    def _mapping(self) -> mmap.mmap:
        # Copy-on-write: the caller may write to what it gets, the file never changes.
        return mmap.mmap(self.descriptor, self.start + self.size, access=mmap.ACCESS_COPY)

    @cached_property
    def state(self) -> tuple[int, int]:
        """The whole file's size and when it was written last, as they were when this was asked first."""
        return self.state_now()

    def state_now(self) -> tuple[int, int]:
        """The same as they are now."""
        now = os.fstat(self.descriptor)
        return now.st_size, now.st_mtime_ns

    def is_there(self) -> bool:
        """Whether the file still is as long as it was."""
        return self.start + self.size <= self.state_now()[0]

    def array(self, offset: int, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """The numbers that lie at `offset`, without reading them yet; a file that was cut off since is refused."""
        count = prod(shape)
        if offset + count * dtype.itemsize > self.size or not self.is_there():
            raise BridgeError(f"{self.path} has changed meanwhile. Read it again.")
        try:
            mapping, place = self._mapped(self.start + offset, count * dtype.itemsize)
            return np.frombuffer(mapping, dtype, count, place).reshape(shape)
        except (OSError, ValueError) as error:
            raise BridgeError(f"{self.path} cannot be read ({error}). Read it again.") from error


def part(path: Path, descriptor: int, start: int, length: int | None) -> Bytes:
    """A part of an open file, whose descriptor is closed with it."""
    whole = os.fstat(descriptor).st_size
    held = Bytes(path, descriptor, start, whole - start if length is None else length)
    weakref.finalize(held, os.close, descriptor)
    if start < 0 or held.size < 0 or start + held.size > whole:
        raise BridgeError(f"{path} breaks off. Get the file again.")
    if not held.size:
        raise BridgeError(f"{path} is empty. Get the file again.")
    held.state  # noqa: B018 (remembered from here on)
    return held


def bytes_of(path: Path, start: int = 0, length: int | None = None, unpacked: IO[bytes] | None = None) -> Bytes:
    """Those of a file, or of the temporary file `unpacked` in its place, which is closed."""
    if unpacked is None:
        return part(path, regular(path), start, length)
    with unpacked:
        return part(path, os.dup(unpacked.fileno()), start, length)
