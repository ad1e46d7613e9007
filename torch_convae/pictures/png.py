"""A PNG file written row by row, so that an image of any size needs no memory; it appears whole or not at all."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import ConvaeError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR, PALETTE = 0, 2, 3  # the format's numbers
Bytes = NDArray[np.uint8]


@dataclass
class Rows:
    """Takes the image's rows, from the top: uint8 (n, W), or (n, W, 3) where it is in colour."""

    file: BinaryIO
    squeeze: Any

    def write(self, rows: Bytes) -> None:
        """The next rows."""
        flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
        unfiltered = np.zeros((len(rows), 1), np.uint8)
        _chunk(self.file, b"IDAT", self.squeeze.compress(np.hstack([unfiltered, flat]).tobytes()))


@contextmanager
def png(path: Path, size: tuple[int, int], kind: int, palette: Bytes | None = None) -> Iterator[Rows]:
    """A PNG of (height, width); `palette` (n, 3) are the colours of the indices that the rows of a PALETTE hold."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(SIGNATURE)
            _chunk(file, b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, kind, 0, 0, 0))
            if palette is not None:
                _chunk(file, b"PLTE", palette.tobytes())
            rows = Rows(file, zlib.compressobj(6 if kind == PALETTE else 3))
            yield rows
            _chunk(file, b"IDAT", rows.squeeze.flush())
            _chunk(file, b"IEND", b"")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise ConvaeError(f"{path} cannot be written: {error.strerror}. Free space or name another --out.") from error
    finally:
        beside.unlink(missing_ok=True)


def _chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    if data or kind == b"IEND":  # a compressor gives nothing until it has enough
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
