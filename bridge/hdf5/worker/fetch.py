"""The numbers of a data set that does not lie in the file in one piece."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5s

from . import kinds
from .chunks import check_chunks
from .content import Content, Unusable, opened
from .describe import Described, Walk, dataset, nbytes


def fetch(content: Content, names: list[str], described: Described, into: Any) -> None:
    """Write the bytes of a data set, as they are stored but in one piece, `into` an array of bytes.

    `names` lead to it from the root, `described` is what was said of it before. Refused: one that has
    changed since, that lacks chunks, or whose chunks hold more or less than they should.
    """
    with opened(content) as file:
        found = _reached(file.id, names)
        now = dataset(Walk(content.size), found, described[3])
        if now[: len(described)] != described:
            raise Unusable("has changed meanwhile. Read it again.")
        shape, dtype = described[:2]
        if found.get_create_plist().get_layout() == h5d.CHUNKED:
            check_chunks(found, kinds.itemsize(dtype))
        array = np.frombuffer(into, "u1", nbytes(shape, dtype)).view(f"V{kinds.itemsize(dtype)}").reshape(shape)
        found.read(h5s.ALL, h5s.ALL, array, mtype=found.get_type())


def _reached(file: h5py.h5f.FileID, names: list[str]) -> h5d.DatasetID:
    found: Any = h5g.open(file, b"/")
    for name in names:
        raw = name.encode()
        if not isinstance(found, h5g.GroupID) or not found.links.exists(raw):
            raise Unusable("has changed meanwhile. Read it again.")
        if "/" in name or name in ("", ".", "..") or found.links.get_info(raw).type != h5l.TYPE_HARD:
            raise Unusable("has changed meanwhile. Read it again.")
        found = h5o.open(found, raw)
    if not isinstance(found, h5d.DatasetID):
        raise Unusable("has changed meanwhile. Read it again.")
    return found
