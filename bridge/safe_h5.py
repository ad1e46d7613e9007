"""Opening HDF5 and reaching its data sets, refusing what no honest weights file has."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import BridgeError
from .source import Array, Shape, Stored, is_numbers, native

SIGNATURE = b"\x89HDF\r\n\x1a\n"
BFLOAT16 = np.dtype("V2")  # how Keras stores it: NumPy has no name for it
MOST_COMPRESSED = 1100  # gzip makes at most 1032 bytes of one


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading; one that HDF5 cannot read, or that breaks off, is refused."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise BridgeError(f"{path} is damaged ({reason}). Get the file again.") from error


def child(group: h5py.Group, name: str, path: Path) -> Any:
    """The member called `name`, reached over hard links only; None where there is none."""
    node: Any = group
    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise BridgeError(f"{path} names a weight {name!r}, which points outside its layer.")
        if not isinstance(node, h5py.Group) or not node.id.links.exists(part.encode()):
            return None
        if node.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise BridgeError(f"{path}: {name!r} is a link to another place; weights are stored in the file itself.")
        node = node[part]
    return node


def strings(attributes: h5py.AttributeManager, name: str) -> list[str] | None:
    """An attribute that lists names, put together where Keras split it; None where there is none."""
    if name in attributes:
        return [text(value) for value in np.atleast_1d(attributes[name])]
    values: list[str] = []
    part = 0
    while f"{name}{part}" in attributes:
        values += [text(value) for value in np.atleast_1d(attributes[f"{name}{part}"])]
        part += 1
    return values if part else None


def text(value: object) -> str:
    """A string attribute, whichever of HDF5's two kinds of string it is."""
    return value.decode("utf8") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Pages:
    """A file mapped into memory once, when the first tensor is fetched."""

    path: Path

    @cached_property
    def _mapping(self) -> mmap.mmap:
        # Copy-on-write: the caller may write to what it gets, the file never changes.
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def array(self, offset: int, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """The numbers that lie at `offset`, without reading them yet."""
        if 0 in shape:
            return np.zeros(shape, dtype)
        try:
            return np.frombuffer(self._mapping, dtype, prod(shape), offset).reshape(shape)
        except (OSError, ValueError) as error:  # it was there when it was opened
            raise BridgeError(f"{self.path} has changed or gone meanwhile ({error}). Read it again.") from error


def stored(dataset: h5py.Dataset, pages: Pages) -> Stored:
    """A data set as a tensor that is fetched later, from the file's pages where it lies in one piece."""
    path, name, dtype, given = pages.path, dataset.name, dataset.dtype, dataset.shape
    where, layout = f"{path}: {name}", dataset.id.get_create_plist()
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        raise BridgeError(f"{where} keeps its numbers in another file; weights are stored in the file itself.")
    if given is None or not (is_numbers(dtype) or dtype == BFLOAT16):
        raise BridgeError(f"{where} holds {dtype}, not numbers.")
    shape = tuple(given)
    size = prod(shape) * dtype.itemsize
    offset = dataset.id.get_offset() if layout.get_layout() != h5py.h5d.CHUNKED else None
    if offset is None:
        if size and not dataset.id.get_storage_size():
            raise BridgeError(f"{where} declares {shape} numbers and stores none.")
        if size > MOST_COMPRESSED * dataset.id.get_storage_size():
            raise BridgeError(f"{where} declares {shape} numbers, more than what it stores can hold.")
        return Stored(shape, str(dtype), lambda: _read(path, name))
    if offset + size > path.stat().st_size:
        raise BridgeError(f"{where} reaches past the end of the file: it is truncated. Get the file again.")
    if dtype == BFLOAT16:
        return Stored(shape, "bfloat16", lambda: widened(pages.array(offset, shape, np.dtype("<u2"))))
    return Stored(shape, dtype.name, lambda: native(pages.array(offset, shape, dtype)))


def widened(bits: Array) -> Array:
    """bfloat16 bits as float32, which holds every one of them."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _read(path: Path, name: str) -> Array:
    with opened(path) as file:
        array = file[name][()]
    return widened(array.view("<u2")) if array.dtype == BFLOAT16 else native(np.asarray(array))
