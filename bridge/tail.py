"""The digest that our HDF5 files end with, so that one changed bit is found. HDF5 reads nothing past its own end."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

import numpy as np

from .errors import BridgeError
from .hdf5.opening import Bytes
from .integrity import of_bytes

_TAIL = re.compile(rb"\ntorch-convae sha256 ([0-9a-f]{64})\n")
LENGTH = 86


def append(path: Path) -> None:
    """Let the file end with the digest of all that is in it."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        with memoryview(content) as view:
            digest = _digest(view)
        file.seek(0, os.SEEK_END)
        file.write(f"\ntorch-convae sha256 {digest}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def check(content: Bytes) -> None:
    """Refuse a file that ends with a digest and is not as it was written."""
    body = body_of(content.descriptor, content.start, content.size)
    if body == content.size:
        return
    found = _TAIL.fullmatch(os.pread(content.descriptor, LENGTH, content.start + body))
    assert found is not None
    numbers = content.array(0, (body,), np.dtype(np.uint8))
    if _digest(numbers.data) != found[1].decode():
        raise BridgeError(f"{content.path} is not as it was written: its SHA-256 differs. Get the file again.")


def body_of(descriptor: int, start: int, size: int) -> int:
    """How much of the bytes is not such a digest."""
    body = size - LENGTH
    return body if body > 0 and _TAIL.fullmatch(os.pread(descriptor, LENGTH, start + body)) else size


def _digest(view: memoryview) -> str:
    return of_bytes("", "bytes", (len(view),), view)
