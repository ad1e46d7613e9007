"""The bytes of an HDF5 file, which may lie inside another one, as h5py takes them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

PLACES = [place for place in ("/proc/self/fd", "/dev/fd") if Path(place).is_dir()]
TOO_MUCH = "takes more memory to read than any weights file. Get the file again."


class Unusable(Exception):
    """Why a file cannot be read: what follows its name in the message."""


class Content(io.RawIOBase):
    """The `size` bytes of a descriptor from `start` on; the descriptor stays the caller's."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        super().__init__()
        self.descriptor, self.start, self.size, self.place = descriptor, start, size, 0

    def is_whole(self) -> bool:
        """Whether there is nothing else in the file."""
        return self.start == 0 and self.size == os.fstat(self.descriptor).st_size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, from the beginning or from the end: HDF5 asks for no other."""
        self.place = offset if whence == os.SEEK_SET else self.size + offset
        return self.place

    def tell(self) -> int:
        """The place that is read next."""
        return self.place

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the place that is read next."""
        left = self.size - self.place
        given = _read_at(self.descriptor, buffer if len(buffer) <= left else buffer[:left], self.start + self.place)
        self.place += given
        return given


def _read_at(descriptor: int, buffer: Any, place: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, (buffer,), place)
    os.lseek(descriptor, place, os.SEEK_SET)  # Windows, where a process reads one file at a time
    data = os.read(descriptor, len(buffer))
    buffer[: len(data)] = data
    return len(data)


@contextmanager
def opened(content: Content | io.BytesIO) -> Iterator[h5py.File]:
    """The HDF5 file in these bytes, open for reading; whatever HDF5 finds wrong makes it Unusable."""
    try:
        with _file(content) as file:
            yield file
    except MemoryError as error:
        raise Unusable(TOO_MUCH) from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, ArithmeticError, SystemError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Unusable(TOO_MUCH if "alloc" in reason else f"is damaged ({reason}). Get the file again.") from error


def _file(content: Content | io.BytesIO) -> h5py.File:
    """From the system's name for the descriptor where the file is the whole of it: HDF5 reads faster from a name.

    It cannot where the file has none: one that was replaced meanwhile, or a temporary one.
    """
    if isinstance(content, Content) and PLACES and content.is_whole():
        with suppress(OSError):
            return h5py.File(f"{PLACES[0]}/{content.descriptor}", "r", locking=False)
    return h5py.File(content, "r")
