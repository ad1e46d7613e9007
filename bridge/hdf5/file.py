"""An HDF5 file of weights: its tree, and the numbers of each data set when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import BridgeError
from ..source import Array, Stored, native
from . import reading
from .opening import Bytes, bytes_of
from .tree import BFLOAT16, Dataset, Group, shown, stored_type

LARGEST = 4 << 30


@dataclass(frozen=True, eq=False)
class File:
    """What an HDF5 file holds. It stays open, and readable if it is replaced, as long as this is referred to."""

    path: Path
    root: Group
    content: Bytes
    isolated: bool
    largest: int

    def child(self, group: Group, name: str) -> Group | Dataset | None:
        """What `group` holds under "a/b/c", one name after the other; None where there is none.

        Refused: names that lead elsewhere, and what is there but cannot be used.
        """
        found: Group | Dataset | None = group
        for part in name.split("/"):
            if part in ("", ".", ".."):
                raise BridgeError(f"{self.path} names a weight {shown(name)!r}, which points outside its layer.")
            if not isinstance(found, Group):
                return None
            if part in found.refused:
                raise BridgeError(f"{self.path}: {shown(name)} {found.refused[part]}.")
            found = found.groups.get(part) or found.datasets.get(part)
        return found

    def array(self, dataset: Dataset) -> Array:
        """The numbers of a data set, in this machine's byte order; bfloat16 as float32, which holds every one.

        It may be written to; the file never changes. Refused: a file that has changed since it was opened
        in a way that concerns this data set.
        """
        if 0 in dataset.shape:
            return np.zeros(dataset.shape, np.float32 if dataset.dtype == BFLOAT16 else native_type(dataset))
        if self.content.state_now() != self.content.state:
            self._refuse_if_changed(dataset)
        if dataset.offset is not None:
            array = self.content.array(dataset.offset, dataset.shape, stored_type(dataset))
        else:
            array = reading.fetched(self.content, dataset, self.isolated)
        return widened(array) if dataset.dtype == BFLOAT16 else native(array)

    def stored(self, dataset: Dataset) -> Stored:
        """The same as a tensor that is fetched later."""
        name = BFLOAT16 if dataset.dtype == BFLOAT16 else stored_type(dataset).name
        region = None if dataset.offset is None else (dataset.offset, dataset.dtype)
        return Stored(dataset.shape, name, lambda: self.array(dataset), region=region)

    def _refuse_if_changed(self, dataset: Dataset) -> None:
        if self.content.is_there():
            now = reading.described(self.content, self.largest, self.isolated)
            if self.child(now, dataset.path.strip("/")) == dataset:
                return
        raise BridgeError(f"{self.path} has changed meanwhile. Read it again.")


def open_file(
    path: str | Path,
    *,
    isolated: bool = True,
    largest: int = LARGEST,
    start: int = 0,
    length: int | None = None,
    unpacked: IO[bytes] | None = None,
) -> File:
    """The HDF5 file at `path`, or the one that lies inside it at (start, length), or in `unpacked`.

    HDF5 itself crashes and loops on damaged files, so it runs in a process of its own unless `isolated`
    is off. Refused: what is no regular file, is damaged, holds far more names than any model, or declares
    more than `largest` bytes of weights.
    """
    path = Path(path)
    content = bytes_of(path, start, length, unpacked)
    return File(path, reading.described(content, largest, isolated), content, isolated, largest)


def widened(bits: Array) -> Array:
    """bfloat16 bits as float32, which holds every one of them."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def native_type(dataset: Dataset) -> np.dtype[Any]:
    """A data set's type in this machine's byte order."""
    return stored_type(dataset).newbyteorder("=")
