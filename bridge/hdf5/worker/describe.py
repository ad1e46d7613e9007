"""What an HDF5 file holds, as values that JSON can carry: a walk over hard links that is bounded in all it counts."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t

from . import kinds
from .chunks import refusal_of_chunks
from .content import Content, Unusable, opened

DEEPEST = 64
LARGEST = 1 << 48  # bytes; NumPy has no empty arrays, either, of more
MOST = {
    "names": 100_000,
    "groups under another name": 20_000,
    "attributes": 100_000,
    "values in attributes": 100_000,
    "bytes in names and attributes": 32 << 20,
}

# [attributes, groups, data sets, refused], and [shape, dtype, offset, address, attributes] of a data set
Described = list[Any]


@dataclass(frozen=True)
class Walk:
    """One walk: the file's size, what has been counted so far, and every data set by its address."""

    size: int
    counted: Counter[str] = field(default_factory=Counter)
    datasets: dict[int, Described | str] = field(default_factory=dict)
    groups: set[int] = field(default_factory=set)

    def count(self, what: str, amount: int = 1) -> None:
        """Refuse the file once it holds more than any weights file does, or than fits into it."""
        self.counted[what] += amount
        most = MOST.get(what, self.size)
        if self.counted[what] > most:
            raise Unusable(f"holds more than {most} {what}, which no weights file does. Get the file again.")


def describe(content: Content | io.BytesIO, size: int) -> Described:
    """The tree of the HDF5 file in these `size` bytes, names and places only.

    Refused: a file that HDF5 finds damaged, that holds a group inside itself, or more than any weights file does.
    """
    with opened(content) as file:
        root = h5g.open(file.id, b"/")
        return _group(Walk(size), root, (h5o.get_info(root).addr,))


def nbytes(shape: Sequence[int], dtype: str) -> int:
    """The bytes that an array takes; Python's numbers do not overflow."""
    return prod(shape) * kinds.itemsize(dtype)


def members(walk: Walk, group: h5g.GroupID) -> list[tuple[bytes, int, int]]:
    """The name, the kind of link and the address of all that a group holds, by name."""
    found: list[tuple[bytes, int, int]] = []

    def add(name: bytes, info: h5l.LinkInfo) -> bool | None:
        found.append((name, info.type, info.u))
        return _stop(len(found), "names")

    group.links.iterate(add, idx_type=h5py.h5.INDEX_NAME, order=h5py.h5.ITER_INC, info=True)
    walk.count("names", len(found))
    walk.count("bytes in names and attributes", sum(len(name) for name, *_ in found))
    for name, *_ in found:
        if b"/" in name or name in (b"", b".", b".."):  # opening it would lead elsewhere
            raise Unusable(f"is damaged (it holds the name {_short(_text(name))!r}). Get the file again.")
    return found


def _stop(count: int, what: str) -> bool | None:
    """What h5py's iterations take for "stop" and for "go on"; an exception from inside them is lost."""
    return True if count > MOST[what] else None


def _group(walk: Walk, group: h5g.GroupID, above: tuple[int, ...]) -> Described:
    if len(above) > DEEPEST:
        raise Unusable(f"holds groups more than {DEEPEST} deep, which no weights file does. Get the file again.")
    groups: dict[str, Described] = {}
    datasets: dict[str, Described] = {}
    refused: dict[str, str] = {}
    for raw, link, address in members(walk, group):
        name = _text(raw)
        if link != h5l.TYPE_HARD:
            raise Unusable(f"holds {_short(name)!r}, a link to another place; weights are stored in the file itself.")
        if address in above:
            raise Unusable(f"is damaged (the group {_short(name)!r} holds itself). Get the file again.")
        found = walk.datasets.get(address) or h5o.open(group, raw)
        if isinstance(found, h5g.GroupID):
            walk.count("groups under another name", address in walk.groups)
            walk.groups.add(address)
            groups[name] = _group(walk, found, (*above, address))
            continue
        if isinstance(found, h5d.DatasetID):
            _refuse_elsewhere(found, name)
            found = walk.datasets[address] = dataset(walk, found, address)
        if isinstance(found, list):
            datasets[name] = found
        else:
            refused[name] = found if isinstance(found, str) else "is a type of data, not numbers"
    return [_attributes(walk, group), groups, datasets, refused]


def _refuse_elsewhere(found: h5d.DatasetID, name: str) -> None:
    plan = found.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5d.VIRTUAL:
        raise Unusable(
            f"holds {_short(name)!r}, whose numbers are in another file; weights are stored in the file itself."
        )


def dataset(walk: Walk, found: h5d.DatasetID, address: int) -> Described | str:
    """Where a data set's numbers lie, or why it cannot be used."""
    plan = found.get_create_plist()
    layout = plan.get_layout()
    kind, space = found.get_type(), found.get_space()
    dtype = kinds.number(kind)
    if dtype is None or space.get_simple_extent_type() == h5s.NULL:
        return f"holds {'nothing' if dtype else kinds.name(kind)}, not numbers"
    shape = list(space.shape)
    size, stored = nbytes(shape, dtype), found.get_storage_size()
    if nbytes([length or 1 for length in shape], dtype) > LARGEST:
        return f"declares {tuple(shape)} numbers, more than any file holds"
    walk.count("bytes stored", stored)
    offset = found.get_offset() if layout == h5d.CONTIGUOUS else None
    if size and not stored:
        return f"declares {tuple(shape)} numbers and stores none"
    if layout == h5d.CHUNKED:
        reason = refusal_of_chunks(plan, tuple(shape), size, stored)
        if reason:
            return reason
    elif stored != size:
        return f"declares {tuple(shape)} numbers, which is not what it stores"
    elif layout == h5d.CONTIGUOUS and size and (offset is None or offset + size > walk.size):
        return "reaches past the end of the file: it is truncated. Get the file again"
    return [shape, dtype, offset, address, _attributes(walk, found)]


def _attributes(walk: Walk, owner: h5g.GroupID | h5d.DatasetID) -> dict[str, Any]:
    if not h5a.get_num_attrs(owner):
        return {}
    names: list[bytes] = []

    def add(name: bytes, *_: object) -> bool | None:
        names.append(name)
        return _stop(len(names), "attributes")

    h5a.iterate(owner, add)
    walk.count("attributes", len(names))
    walk.count("bytes in names and attributes", sum(map(len, names)))
    return {_text(name): _value(walk, h5a.open(owner, name), name) for name in names}


def _value(walk: Walk, attribute: h5a.AttrID, name: bytes) -> Any:
    """A string, a number or a list of them; None for any other kind."""
    kind, shape = attribute.get_type(), attribute.get_space().shape
    text = kind.get_class() == h5t.STRING
    spelled = "" if text else kinds.number(kind)
    if shape is None or len(shape) > 1 or spelled in (None, kinds.BFLOAT16):
        return None
    count = prod(shape)
    walk.count("values in attributes", count)
    walk.count("bytes in names and attributes", count * kind.get_size())
    array = np.zeros(shape, _string(kind) if text else np.dtype(spelled))
    if count:
        attribute.read(array, mtype=_in_memory(array.dtype))
    if not text:
        return array.tolist()
    values = [value or b"" for value in array.flat]
    walk.count("bytes in names and attributes", sum(map(len, values)))
    decoded = [_text(value, f"the attribute {_short(_text(name))!r}") for value in values]
    return decoded if array.ndim else decoded[0]


def _string(kind: h5t.TypeID) -> np.dtype[Any]:
    return h5py.string_dtype() if kind.is_variable_str() else np.dtype(f"S{kind.get_size()}")


@lru_cache(64)
def _in_memory(dtype: np.dtype[Any]) -> h5t.TypeID:
    return h5t.py_create(dtype)


def _text(raw: bytes, what: str = "a name") -> str:
    try:
        return raw.decode("utf8")
    except UnicodeDecodeError as error:
        raise Unusable(f"is damaged ({what} is not UTF-8 text). Get the file again.") from error


def _short(name: str) -> str:
    """A name fit for a message."""
    return name if len(name) <= 100 else f"{name[:60]}...{name[-30:]}"
