"""The kinds of numbers that weights are, as HDF5 spells them."""

from __future__ import annotations

import h5py
import numpy as np
from h5py import h5t

BFLOAT16 = "bfloat16"  # NumPy has no name for it; Keras stores it as two bytes of no kind
NAMES = {
    h5t.STRING: "text",
    h5t.COMPOUND: "compounds",
    h5t.REFERENCE: "references",
    h5t.ENUM: "an enumeration",
    h5t.VLEN: "lists",
    h5t.ARRAY: "arrays",
    h5t.BITFIELD: "bits",
    h5t.OPAQUE: "bytes of no kind",
    h5t.TIME: "times",
}


def _bfloat16() -> h5t.TypeID:
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_size(2)
    return kind


_SPELLED = [order + kind for kind in "f2 f4 f8 i2 i4 i8 u2 u4 u8".split() for order in "<>"] + ["|i1", "|u1"]
_KINDS = [(h5t.py_create(np.dtype(spelled)), spelled) for spelled in _SPELLED] + [(_bfloat16(), BFLOAT16)]
_CANDIDATES: dict[tuple[int, int], list[tuple[h5t.TypeID, str]]] = {}
for _kind, _spelled in _KINDS:
    _CANDIDATES.setdefault((_kind.get_class(), _kind.get_size()), []).append((_kind, _spelled))


def number(kind: h5py.h5t.TypeID) -> str | None:
    """NumPy's spelling of a number's type ("<f4"), or "bfloat16"; None for one that is none of the common ones."""
    described = kind.get_class(), kind.get_size()
    if described == (h5t.OPAQUE, 2):
        return BFLOAT16
    return next((spelled for known, spelled in _CANDIDATES.get(described, ()) if kind.equal(known)), None)


def name(kind: h5py.h5t.TypeID) -> str:
    """What is there instead of numbers, for messages."""
    return NAMES.get(kind.get_class(), f"numbers of {kind.get_size()} bytes that PyTorch does not have")


def itemsize(spelled: str) -> int:
    """The bytes that one number takes."""
    return 2 if spelled == BFLOAT16 else int(spelled[-1])
