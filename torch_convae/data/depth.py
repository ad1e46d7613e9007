"""Whether Pillow would cut a file's numbers down to 8 bits, which it does to wider colour without a word."""

import mmap
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

BITS_PER_SAMPLE = 0x0102  # of a TIFF
SIZES = b"\xff\x4f\xff\x51"  # how a codestream of JPEG 2000 begins, and the marker of its sizes
AV1 = b"av1C"  # how a picture's part of an AVIF describes its coding


def is_cut_down(image: Image.Image, path: Path) -> bool:
    """Whether the file that was opened as this image has wider numbers than its mode says.

    Where Pillow tells: in how it reads the file's pixels, in a TIFF's tag, as the highest value of a PPM. "BGR;16" is
    16 bits for all three. Where it does not, the file does.
    """
    tiles = [(tile[0], tile[3] if isinstance(tile[3], tuple) else (tile[3],)) for tile in getattr(image, "tile", [])]
    modes = [str(arguments[0]) for _, arguments in tiles if arguments]
    tops = [arguments[1] for codec, arguments in tiles if codec.startswith("ppm") and len(arguments) > 1]
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, ())
    wide = any(";16" in mode and not mode.startswith("BGR") for mode in modes)
    return wide or max(tops, default=0) > 255 or max(bits, default=0) > 8 or _bits(image.format, path) > 8


def _bits(name: str | None, path: Path) -> int:
    """The bits of a channel as the file has them, of the formats of which Pillow does not say it; else 0."""
    read = _BITS.get(name or "")
    if read is None:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return read(data)


def _of_jpeg_2000(data: mmap.mmap) -> int:
    """The widest component's: from byte 42 of the codestream on three bytes each, the first with its bits less 1."""
    start = data.find(SIZES)
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    depths = data[start + 42 : start + 42 + 3 * count : 3]
    return max(((depth & 0x7F) + 1 for depth in depths), default=0) if start >= 0 else 0


def _of_avif(data: mmap.mmap) -> int:
    """10 or more where the flag of high bit depth is set, in the third byte of the description of AV1."""
    start = data.find(AV1)
    flags = data[start + 6 : start + 7] if start >= 0 else b""
    return 10 if flags and flags[0] & 0x40 else 8


def _of_sgi(data: mmap.mmap) -> int:
    return 8 * data[3]


_BITS: Mapping[str, Callable[[mmap.mmap], int]] = {"JPEG2000": _of_jpeg_2000, "AVIF": _of_avif, "SGI": _of_sgi}
