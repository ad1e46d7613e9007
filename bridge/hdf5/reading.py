"""A file's tree and numbers, from the worker: here, or in a process that a damaged file may take down."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from ..errors import BridgeError
from ..source import Array
from . import isolation
from .opening import Bytes
from .tree import Dataset, Group, grown, shown, size, stored_type


def described(content: Bytes, largest: int, isolated: bool) -> Group:
    """The tree of an HDF5 file; one that is damaged, or is no weights file by far, is refused."""
    request = {"start": content.start, "size": content.size, "largest": largest}
    ask = isolation.ask if isolated else _answer
    tree = ask(str(content.path), content.descriptor, request)
    try:
        return grown(tree)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:  # from a process taken over
        raise BridgeError(f"{content.path} is damaged (what it holds makes no sense). Get the file again.") from error


def fetched(content: Bytes, dataset: Dataset, isolated: bool) -> Array:
    """The numbers of a data set that does not lie in the file in one piece."""
    request = {
        "start": content.start,
        "size": content.size,
        "names": dataset.path.strip("/").split("/"),
        "described": [list(dataset.shape), dataset.dtype, dataset.offset, dataset.address],
    }
    what, into = f"{content.path}: {shown(dataset.path)}", size(dataset)
    if isolated:
        with isolation.room(into) as room:
            isolation.ask(what, content.descriptor, request, room)
            filled: Any = mmap.mmap(room.fileno(), into)
    else:
        filled = bytearray(into)
        _answer(what, content.descriptor, request, filled)
    return np.frombuffer(filled, stored_type(dataset)).reshape(dataset.shape)


def _answer(what: str, descriptor: int, request: dict[str, Any], into: Any = None) -> Any:
    """The worker's answer, from this process."""
    from .worker import answer  # here, so that HDF5 is loaded only where it is used

    tree, reason = answer(descriptor, request, into)
    if reason:
        raise BridgeError(f"{what} {reason}")
    return tree
