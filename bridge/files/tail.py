"""The digest that files of ours end with, so that one changed bit is found; to HDF5 and zip it is a part of them."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

import numpy as np

from ..errors import BridgeError
from ..hdf5 import superblock
from ..hdf5.opening import Bytes
from .integrity import of_bytes

ZIP = b"PK\x03\x04"
BEGIN, END = b"\ntorch-convae sha256 ", b"\n"
LENGTH = len(BEGIN) + 64 + len(END)
_TAIL = re.compile(re.escape(BEGIN) + rb"([0-9a-f]{64})" + re.escape(END))
_MOST_CHANGED = 12  # bits of what stands around a digest, which then still is one


def append(path: Path) -> None:
    """Let the file end with the digest of all in it. To zip it is a comment, to HDF5 room that nothing is in.

    So either takes a file for broken off that lacks a part of it, or all.
    """
    with path.open("r+b") as file:
        if file.read(len(ZIP)) == ZIP:
            file.seek(-2, os.SEEK_END)
            file.write(LENGTH.to_bytes(2, "little"))  # of the comment
            file.flush()
        else:
            _count_in(file.fileno())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            digest = _digest(view)
        file.seek(0, os.SEEK_END)
        file.write(BEGIN + digest.encode() + END)
        file.flush()
        os.fsync(file.fileno())


def check(content: Bytes) -> None:
    """Refuse a file that has a digest and is not as it was written."""
    body = body_of(content.descriptor, content.start, content.size)
    if body == content.size:
        _refuse_more(content)
        return
    found = _TAIL.fullmatch(os.pread(content.descriptor, LENGTH, content.start + body))
    numbers = content.array(0, (body,), np.dtype(np.uint8))
    if found is None or _digest(numbers.data) != found[1].decode():
        raise BridgeError(f"{content.path} is not as it was written: its SHA-256 differs. Get the file again.")


def _count_in(descriptor: int) -> None:
    """Let HDF5 expect a file that is longer by a digest."""
    size = os.fstat(descriptor).st_size
    if found := superblock.find(descriptor, size):
        os.pwrite(descriptor, found.ending_at(size + LENGTH), found.place)


def _refuse_more(content: Bytes) -> None:
    """HDF5 is content with whatever stands behind its end; zip says itself where it ends."""
    found = superblock.find(content.descriptor, content.size)
    if found and BEGIN in os.pread(content.descriptor, LENGTH, max(0, min(found.end, content.size) - LENGTH)):
        raise BridgeError(f"{content.path} is not as it was written: something follows its end. Get the file again.")


def body_of(descriptor: int, start: int, size: int) -> int:
    """How much of the bytes is not such a digest, be it a damaged one."""
    body = size - LENGTH
    if body <= 0:
        return size
    end = os.pread(descriptor, LENGTH, start + body)
    around, written = end[: len(BEGIN)] + end[-len(END) :], BEGIN + END
    changed = sum((one ^ other).bit_count() for one, other in zip(around, written, strict=True))
    return body if changed <= _MOST_CHANGED else size


def _digest(view: memoryview) -> str:
    return of_bytes("", "bytes", (len(view),), view)
