"""The IDX format of MNIST and its kin: one file of bytes with a header that says its shape."""

import gzip
import math
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import ConvaeError
from .memory import refuse_too_large

UNSIGNED_BYTE = 0x08
AGAIN = "download it again."

Stream = gzip.GzipFile | BufferedReader


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, gzip-compressed or not.

    Refused: another format, number type or number of dimensions, and a length other than the header says.
    """
    if not path.is_file():
        raise ConvaeError(f"{path} is no regular file; put the IDX file there.")
    try:
        with _open(path) as stream:
            return _read(stream, path, dimensions)
    except (EOFError, OSError, zlib.error) as problem:
        raise ConvaeError(f"{path} cannot be read ({problem}); {AGAIN}") from problem


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    """The uncompressed IDX file of an array, what `read_idx` takes back."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.tobytes()


def _open(path: Path) -> Stream:
    """Compressed or not is seen in the content: browsers unpack files and leave them their `.gz`."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _read(stream: Stream, path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    shape = _shape(stream, path, dimensions)
    expected = math.prod(shape)
    refuse_too_large(
        f"{path} says it holds {_times(shape)} bytes, which", expected, advice=f"check it, or {AGAIN[:-1]}"
    )
    content = stream.read(expected + 1)  # one more than is due: shows surplus without unpacking all of it
    if len(content) != expected:
        found = "more" if len(content) > expected else f"only {len(content)}"
        raise ConvaeError(f"{path} says it holds {expected} bytes ({_times(shape)}) but has {found}; {AGAIN}")
    return np.frombuffer(bytearray(content), dtype=np.uint8).reshape(shape)


def _shape(stream: Stream, path: Path, dimensions: int) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) != 4 or magic[:2] != b"\0\0":
        raise ConvaeError(f"{path} is no IDX file: it begins with {magic.hex(' ') or 'nothing'}; {AGAIN}")
    if magic[2] != UNSIGNED_BYTE:
        raise ConvaeError(f"{path} holds IDX numbers of type 0x{magic[2]:02x}; only unsigned bytes (0x08) are images.")
    if magic[3] != dimensions:
        raise ConvaeError(
            f"{path} has {magic[3]} dimensions where {dimensions} are due; check that it is the right file."
        )
    header = stream.read(4 * dimensions)
    if len(header) != 4 * dimensions:
        raise ConvaeError(f"{path} ends within its header; {AGAIN}")
    return struct.unpack(f">{dimensions}I", header)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
