"""Data sets in chunks: which are worth reading, and whether what is stored makes up what is declared."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import product
from math import prod

from h5py import h5d, h5p, h5z

from .content import Unusable

LZF = 32000
# What one stored byte can become at most.
GROWTH = {h5z.FILTER_DEFLATE: 1100, LZF: 100}
HARMLESS = (h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32)
LARGEST_CHUNK = 16 << 20  # of a small data set, which may have larger chunks than itself
BLOCK = 1 << 20


def refusal_of_chunks(plan: h5p.PropDCID, shape: Sequence[int], size: int, stored: int) -> str | None:
    """Why a data set in chunks cannot be used, as far as its description tells; None where it can."""
    filters = [plan.get_filter(index) for index in range(plan.get_nfilters())]
    codes = [code for code, *_ in filters]
    packers = [code for code in codes if code in GROWTH]
    strange = [(code, name) for code, _, _, name in filters if code not in GROWTH and code not in HARMLESS]
    if strange or len(packers) > 1:
        code, name = strange[0] if strange else (codes[-1], b"a second packing")
        called = name.decode("ascii", "replace").strip("\0") or f"filter {code}"
        return f"is packed by {called!r}; unpack it first: h5repack -f NONE old.h5 new.h5"
    if size > stored * GROWTH.get(packers[0] if packers else 0, 1):
        return f"declares {tuple(shape)} numbers, more than what it stores can hold"
    if prod(plan.get_chunk()) * max(1, size // max(1, prod(shape))) > max(size, LARGEST_CHUNK):
        return f"declares {tuple(shape)} numbers in chunks of {plan.get_chunk()}, which no weights file has"
    return None


def check_chunks(dataset: h5d.DatasetID, itemsize: int) -> None:
    """Refuse a data set of which a chunk is missing, or unpacks to less or more than a chunk.

    HDF5 itself would give what happens to lie in memory instead.
    """
    plan = dataset.get_create_plist()
    codes = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    lengths = plan.get_chunk()
    for place in product(*(range(0, whole, part) for whole, part in zip(dataset.shape, lengths, strict=True))):
        try:
            left_out, raw = dataset.read_direct_chunk(place)
        except (OSError, RuntimeError, ValueError) as error:
            raise Unusable(f"lacks a part of its numbers, at {place}. Get the file again.") from error
        applied = [code for index, code in enumerate(codes) if not left_out >> index & 1]
        expected = prod(lengths) * itemsize
        if not _fills(raw, applied, expected):
            raise Unusable(f"holds a damaged part of its numbers, at {place}. Get the file again.")


def _fills(raw: bytes, filters: Sequence[int], expected: int) -> bool:
    """Whether the stored bytes of a chunk unpack to as many as expected."""
    before = next((index for index, code in enumerate(filters) if code in GROWTH), len(filters))
    checksums = [index for index, code in enumerate(filters) if code == h5z.FILTER_FLETCHER32]
    expected += 4 * sum(index < before for index in checksums)
    outer = 4 * sum(index > before for index in checksums)
    packed = memoryview(raw)[: len(raw) - outer]
    if before == len(filters):
        return len(packed) == expected
    return (_inflated if filters[before] == h5z.FILTER_DEFLATE else _expanded)(packed, expected) == expected


def _inflated(packed: memoryview, most: int) -> int:
    """How many bytes a deflate stream holds; one more than `most` where there are more, -1 if it is not whole."""
    stream, size = zlib.decompressobj(), 0
    try:
        rest: bytes | memoryview = packed
        while not stream.eof and size <= most:
            piece = stream.decompress(rest, min(BLOCK, most + 1 - size))
            rest = stream.unconsumed_tail
            size += len(piece)
            if not piece and not rest and not stream.eof:
                return -1
    except zlib.error:
        return -1
    return -1 if stream.unused_data else size


def _expanded(packed: memoryview, most: int) -> int:
    """How many bytes LZF's literals and copies make."""
    place = size = 0
    while place < len(packed) and size <= most:
        control = packed[place]
        if control < 32:  # so many bytes, as they are
            size += control + 1
            place += control + 2
            continue
        longer = control >> 5 == 7
        if longer and place + 1 < len(packed):
            size += packed[place + 1]
        size += (control >> 5) + 2
        place += 3 if longer else 2
    return size if place == len(packed) else -1
